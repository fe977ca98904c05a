package login

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/internal/page"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/throttle"
)

const (
	defaultBasePath    = "/.auth/"
	defaultIdleTimeout = 30 * time.Minute // as in sessions.Config
	defaultHSTS        = 2 * 365 * 24 * time.Hour
	maxTrustedHops     = 16
)

// Sessions are the methods of a [sessions.Manager] that a Handler needs.
type Sessions interface {
	Create(ctx context.Context, n sessions.NewSession) (sessions.ID, *sessions.Session, error)
	Lookup(ctx context.Context, key sessions.Key, fields ...string) (*sessions.Session, error)
	List(ctx context.Context, userID string) (list []*sessions.Session, more int, err error)
	Revoke(ctx context.Context, key sessions.Key) error
	RevokeUser(ctx context.Context, userID string) (int, error)
	RevokeOthers(ctx context.Context, keep sessions.Key) (int, error)
	Now() time.Time
}

// Config says by what users and sessions a Handler works and how it looks. Sessions
// is required, and so are Users and Counters, unless Methods stand in for passwords;
// the zero value of everything else is safe.
type Config struct {
	Users    Authenticator
	Sessions Sessions
	Counters throttle.Counters
	// Methods are other ways of signing in. Without Users there is no password form,
	// and one of them must serve "GET login", where users are sent to sign in.
	Methods []Method

	// Cookie is the one of the authorization side.
	Cookie sessions.Cookie
	// BasePath is where the endpoints are, and where the browser sees them.
	// Empty: "/.auth/". It begins and ends with a slash.
	BasePath string
	// ReturnOrigins are other origins to which a login may lead back, such as
	// https://app.example.com. A path of the same origin always may.
	ReturnOrigins []string
	// TrustedHops is how many proxies of yours stand in front, each of which
	// appends to X-Forwarded-For: 1 for one Envoy with use_remote_address. 0: the
	// peer of the connection is the client, and the header is not read. With too low a
	// number all clients are one, and the throttle stops them all; with too high a
	// number a client that comes by fewer proxies can choose its address.
	TrustedHops int
	// TrustedProxies are the addresses of these proxies: required with TrustedHops,
	// unless TrustUnix is set. The header of another connection is not read, and an
	// address in it is followed further back only where it is one of these.
	TrustedProxies []netip.Prefix
	// TrustUnix takes a peer without an address, as of a Unix socket, for a trusted
	// proxy: the mode of the socket's file says who can connect.
	TrustUnix bool
	// BearerLogin lets a JSON login ask for the session ID in the body of the
	// answer, and takes it as Authorization: Bearer.
	BearerLogin bool
	// HSTS is how long browsers use https alone for the host, without its
	// subdomains, after an answer over https (RFC 6797); over plain HTTP they ignore
	// it. For localhost it would hold for every port. Zero: two years. Negative, or
	// with an insecure Cookie: the header is not sent.
	HSTS time.Duration
	// IdleTimeout is the one of the sessions, from which the page of sessions reckons
	// when each was last used. Zero: 30 minutes.
	IdleTimeout time.Duration

	// Name stands on every page. Empty: Coatcheck.
	Name string
	// Logo is an SVG, PNG, JPEG or WebP of at most 64 KiB above the name.
	Logo []byte
	// Accent is the colour of buttons, as #rrggbb. Empty: a dark green. The text on
	// it is black or white, so that it can be read.
	Accent string
	// Lang is the language of browsers that ask for none of Languages, as a tag such as
	// de or pt-BR. Empty: en. The package has texts in en, de, pt, es and fr. In another
	// language they are those of Texts, and English ones for the rest.
	Lang string
	// Languages are those of the pages beside Lang, out of these five: a browser gets the
	// one that it prefers by Accept-Language. Empty: all five, or, where Lang is another
	// one, none.
	Languages []string
	// Texts replace those of the language Lang, by the names of [DefaultTexts]; with
	// another language before the name, as in "de.sign_in", those of that language.
	Texts map[string]string
	// HelpURL is a page that helps people who cannot sign in, and PasswordURL one where
	// they change their password: a path or an http or https URL. The pages link to them,
	// and /.well-known/change-password, where it leads to this handler, redirects to
	// PasswordURL. Empty: no link.
	HelpURL, PasswordURL string
	// Templates replace those of the package, file by file; see the package
	// comment.
	Templates fs.FS

	// Logger gets one line for each login, faults, and what the handler notices
	// (docs/troubleshooting.md), at most a line an hour of each. Nil: nothing is logged.
	Logger *slog.Logger
	// Metrics takes the handler's collectors. Nil: they are not exported.
	Metrics prometheus.Registerer
}

func (c Config) withDefaults() Config {
	if c.BasePath == "" {
		c.BasePath = defaultBasePath
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = defaultIdleTimeout
	}
	if c.HSTS == 0 {
		c.HSTS = defaultHSTS
	}
	if c.Name == "" {
		c.Name = "Coatcheck"
	}
	if c.Accent == "" {
		c.Accent = page.DefaultAccent
	}
	if c.Lang == "" {
		c.Lang = "en"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate names every mistake.
func (c Config) validate() error {
	errs := []error{
		given("users", c.Users != nil || len(c.Methods) > 0), given("sessions", c.Sessions != nil), given("counters", c.Counters != nil || c.Users == nil && len(c.Methods) > 0),
		c.Cookie.Validate(), validateBasePath(c.BasePath),
	}
	for _, origin := range c.ReturnOrigins {
		errs = append(errs, validateOrigin(origin))
	}
	errs = append(errs, validateLink("help URL", c.HelpURL), validateLink("password URL", c.PasswordURL))
	if c.TrustedHops < 0 || c.TrustedHops > maxTrustedHops {
		errs = append(errs, fmt.Errorf("trusted hops: %d is not between 0 and %d", c.TrustedHops, maxTrustedHops))
	}
	if c.TrustedHops > 0 && len(c.TrustedProxies) == 0 && !c.TrustUnix {
		errs = append(errs, errors.New("trusted hops: no trusted proxies are named, and a client that connects could make up its address"))
	}
	for _, p := range c.TrustedProxies {
		if !p.IsValid() || p.Addr().Is4In6() {
			errs = append(errs, fmt.Errorf("trusted proxies: %v is not a prefix of IPv4 or IPv6", p))
		}
	}
	if c.IdleTimeout < 0 {
		errs = append(errs, fmt.Errorf("idle timeout: %v is negative", c.IdleTimeout))
	}
	return errors.Join(errs...)
}

func given(what string, ok bool) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%s: not given", what)
}

// CheckLink returns an error unless link is what [Config.HelpURL] and
// [Config.PasswordURL] take: a path of this origin, a URL of http or https, or nothing.
// The error quotes it only where it can hold no password.
func CheckLink(link string) error {
	named := "it"
	if !strings.Contains(link, "@") {
		named = strconv.Quote(link)
	}
	u, err := url.Parse(link)
	switch {
	case link == "":
		return nil
	case err == nil && u.Host == "" && u.Path == changePassword:
		return errors.New(changePassword + " is where password managers ask, and leads to the page that is named here")
	case sessions.IsLocalPath(link):
		return nil
	case err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil:
		return nil
	}
	return fmt.Errorf("%s is neither a path such as /help nor a URL such as https://example.com/help, without a user and a password", named)
}

func validateLink(what, link string) error {
	if err := CheckLink(link); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// validateBasePath takes a path that looks the same in a URL, in a header and in HTML.
func validateBasePath(p string) error {
	plain := func(r rune) bool {
		return r == '/' || r == '-' || r == '_' || r == '.' || r == '~' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	if len(p) < 3 || path.Clean(p)+"/" != p || p[0] != '/' || strings.ContainsFunc(p, func(r rune) bool { return !plain(r) }) {
		return fmt.Errorf("base path %q: it is a path such as /.auth/, with a slash at either end", p)
	}
	return nil
}
