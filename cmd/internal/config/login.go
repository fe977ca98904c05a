package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/internal/page"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// ServesLogin reports whether login is to be served.
func (c *Config) ServesLogin() bool { return c.LoginListen != "" && usersource.Name(c.Users) != "" }

// Login is the part that login looks and behaves by, without its users and sessions.
// It reads the logo.
func (c *Config) Login() (login.Config, error) {
	l := login.Config{
		Cookie:        c.Cookie(),
		BasePath:      c.LoginBasePath,
		ReturnOrigins: c.LoginReturnOrigins,
		TrustedHops:   c.LoginTrustedHops,
		BearerLogin:   c.Bearer,
		HSTS:          c.LoginHSTS,
		IdleTimeout:   c.IdleTimeout,
		Name:          c.LoginName,
		Accent:        c.LoginAccent,
		Lang:          c.LoginLanguage,
		Languages:     c.LoginLanguages,
		HelpURL:       c.LoginHelpURL,
		PasswordURL:   c.LoginPasswordURL,
	}
	if l.HSTS == 0 {
		l.HSTS = -1 // 0 is the default there
	}
	if c.LoginLogoFile != "" {
		var err error
		if l.Logo, err = os.ReadFile(c.LoginLogoFile); err != nil {
			return l, About(err, "login.logo_file")
		}
	}
	if c.LoginTemplates != "" {
		if _, err := os.ReadDir(c.LoginTemplates); err != nil {
			return l, About(err, "login.templates")
		}
		l.Templates = os.DirFS(c.LoginTemplates)
	}
	var err error
	if l.TrustedProxies, err = c.trustedProxies(); err != nil {
		return l, err
	}
	l.Texts, err = c.loginTexts()
	return l, err
}

// trustedProxies reads login.trusted_proxies, or names every entry that is neither
// an address nor a network.
func (c *Config) trustedProxies() (proxies []netip.Prefix, err error) {
	for _, entry := range c.LoginTrustedProxies {
		p, bad := parseNetwork(entry)
		if bad != nil {
			err = errors.Join(err, About(bad, "login.trusted_proxies"))
			continue
		}
		proxies = append(proxies, p)
	}
	return proxies, err
}

// parseNetwork takes an address or a network in CIDR notation. An IPv4 address
// within IPv6 is the IPv4 address, since connections are looked at so.
func parseNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	switch {
	case err != nil || p.Addr().Is4In6():
		return p, fmt.Errorf("%q is neither an address nor a network such as 10.1.0.0/16", s)
	case p.Masked() != p:
		return p, fmt.Errorf("%q has bits behind its length; %v is the network, and %v the address", s, p.Masked(), p.Addr())
	}
	return p, nil
}

// loginTexts reads login.texts: "name=text", or "language.name=text".
func (c *Config) loginTexts() (map[string]string, error) {
	texts := make(map[string]string, len(c.LoginTexts))
	for _, entry := range c.LoginTexts {
		name, text, ok := strings.Cut(entry, "=")
		if !ok {
			return nil, About(fmt.Errorf("%q is not name=text", entry), "login.texts")
		}
		if _, twice := texts[name]; twice {
			return nil, About(fmt.Errorf("%q is there twice", name), "login.texts")
		}
		texts[name] = text
	}
	return texts, nil
}

// Limiter is the part that bounds the passwords that are checked at the same time.
func (c *Config) Limiter() login.LimiterConfig {
	l := login.LimiterConfig{Concurrent: c.LoginMaxHashes}
	if l.Concurrent == 0 {
		l.Concurrent = login.DefaultConcurrent()
	}
	return l
}

// leastHashMemory has room for two hashes of the default costs.
const leastHashMemory = 2 * 19 << 20

// Passwords is the part that passwords are checked by. The memory is in bytes; 0 is
// unknown.
func (c *Config) Passwords(memory uint64) passwords.Config {
	p := passwords.Config{Limit: c.Limiter(), Memory: int64(c.LoginHashMemory) << 20, Dummy: c.LoginDummyHash}
	if p.Memory == 0 && memory > 0 {
		p.Memory = max(leastHashMemory, int64(min(memory, math.MaxInt64)/2))
	}
	return p
}

// validateHashMemory wants room for one hash of the default costs.
func (c *Config) validateHashMemory() error {
	if c.LoginHashMemory == 0 {
		return nil
	}
	return between("login.hash_memory", c.LoginHashMemory, 19, 1<<20)
}

// validateUsers looks at what can be said before a source of users is opened.
func (c *Config) validateUsers() (errs []error) {
	var set []string
	for _, source := range usersource.Sources {
		first := source.Keys[0].Name
		if c.Users[first] != "" {
			set = append(set, first)
		}
		for _, k := range source.Keys[1:] {
			if k.Required || c.Users[k.Name] != "" {
				errs = append(errs, together(first, c.Users[first], k.Name, c.Users[k.Name]))
			}
		}
	}
	if len(set) > 1 {
		errs = append(errs, About(errors.New("only one of them can be set"), set...))
	}
	return errs
}

func (c *Config) validateLogin() []error {
	var errs []error
	wrong := func(why string, names ...string) { errs = append(errs, About(errors.New(why), names...)) }
	if c.LoginListen != "" {
		errs = append(errs, About(tcpAddress(c.LoginListen), "login.listen"))
	}
	if c.ServesLogin() && c.foreign() != nil {
		wrong("the application signs its users in; a login here would make sessions of Coatcheck's own format, which no check would read", "session.format", "login.listen")
	}
	if c.Listen == "" && !c.ServesLogin() && c.CountEvery == 0 && c.APIListen == "" {
		wrong("neither checks nor login would be served", "listen", "login.listen")
	}
	if c.LoginTrustedHops > 0 && len(c.LoginTrustedProxies) == 0 {
		wrong("a client that connects could make up its address; name your proxies, such as 127.0.0.1", "login.trusted_hops", "login.trusted_proxies")
	}
	if c.LoginTrustedHops == 0 && len(c.LoginTrustedProxies) > 0 {
		wrong("without hops no X-Forwarded-For is read, and all browsers behind these proxies would share one throttle; 1 for one Envoy", "login.trusted_proxies", "login.trusted_hops")
	}
	_, proxies := c.trustedProxies()
	_, texts := c.loginTexts()
	errs = append(errs, c.validateUsers()...)
	return append(errs, proxies, texts,
		between("login.trusted_hops", c.LoginTrustedHops, 0, 16),
		between("login.hsts_max_age", c.LoginHSTS, 0, 10*365*24*time.Hour),
		between("login.max_hashes", c.LoginMaxHashes, 0, 1<<10),
		c.validateHashMemory(),
		About(passwords.CheckDummy(c.LoginDummyHash), "login.dummy_hash"),
		About(page.CheckTag(c.LoginLanguage), "login.language"),
		About(login.CheckLink(c.LoginHelpURL), "login.help_url"),
		About(login.CheckLink(c.LoginPasswordURL), "login.password_url"),
	)
}
