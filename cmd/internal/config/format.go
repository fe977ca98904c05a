package config

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/internal/secretfile"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign"
	"github.com/coatcheck/coatcheck/sessions/foreign/express"
)

// The values of session.format.
const (
	formatCoatcheck = "coatcheck"
	formatExpress   = "express"
)

// The values of session.express.no_ttl.
const (
	refuseEndless = "refuse"
	acceptEndless = "accept"
)

// Express is the part about sessions of Express.
type Express struct {
	SecretFile   string
	Prefix       string
	UserIDPath   string
	UsernamePath string
	RolesPath    string
	TTL          time.Duration
	Step         time.Duration
	DisableTouch bool
	NoTTL        string
}

// formatKeys are about sessions that another program makes.
func (c *Config) formatKeys() []key {
	e := &c.Express
	return []key{
		{name: "session.format", value: choice(&c.SessionFormat, formatCoatcheck, formatCoatcheck, formatExpress), common: true,
			usage: "who makes the sessions: Coatcheck, or an application with express-session and connect-redis, whose " +
				"sessions are read as they are"},
		{name: "session.express.secret_file", value: file(&e.SecretFile),
			usage: "file with the secrets of express-session, one a line, the one that signs first; read again when it changes"},
		{name: "session.express.prefix", value: text(&e.Prefix, express.DefaultPrefix),
			usage: "what stands before the session ID in the keys of Redis: the prefix of connect-redis, behind the keyPrefix of " +
				"the client if it has one"},
		{name: "session.express.user_id_path", value: text(&e.UserIDPath, ""),
			usage: "where the user's ID stands in a session: keys with dots between them, such as passport.user or user.userId; " +
				"a session without it is of no user"},
		{name: "session.express.username_path", value: text(&e.UsernamePath, ""),
			usage: "where the user's name stands; empty: there is none"},
		{name: "session.express.roles_path", value: text(&e.RolesPath, ""),
			usage: "where the user's roles stand, an array of strings; empty: there are none"},
		{name: "session.express.ttl", value: duration(&e.TTL, express.DefaultTTL),
			usage: "the ttl of connect-redis: for how long a use has a session last whose cookie has no maxAge"},
		{name: "session.express.step", value: duration(&e.Step, 0),
			usage: "how much sooner than after a use a session may end: only then is its end moved; never more than " +
				"half of its time; 0: a tenth of its time, at most 1m"},
		{name: "session.express.disable_touch", value: boolean(&e.DisableTouch, false),
			usage: "the disableTouch of connect-redis: a use does not move the end of a session"},
		{name: "session.express.no_ttl", value: choice(&e.NoTTL, refuseEndless, refuseEndless, acceptEndless),
			usage: "what to do with a session that never ends in Redis, as disableTTL of connect-redis makes them"},
	}
}

// foreign reports whether another program makes the sessions.
func (c *Config) foreign() bool { return c.SessionFormat == formatExpress }

// OnlyReads returns an error for what Coatcheck cannot do with the sessions of another
// program, nil where they are its own. It says what to do instead.
func (c *Config) OnlyReads(what, instead string) error {
	if !c.foreign() {
		return nil
	}
	return About(fmt.Errorf("it is %s: the application makes these sessions, and Coatcheck only reads them, so it cannot %s; %s", c.SessionFormat, what, instead), "session.format")
}

// adoptFormat gives keys that were not given the defaults that the format needs: the
// cookie's name is the framework's, and the application behind Envoy needs its cookie.
func (c *Config) adoptFormat(given func(name string) bool) {
	if !c.foreign() {
		return
	}
	if !given("cookie.name") {
		c.CookieName = express.DefaultCookie
	}
	if !given("cookie.keep") {
		c.CookieKeep = true
	}
}

// A Format is what session.format names where another program makes the sessions.
type Format struct {
	sessions.Format
	Reading foreign.Config
	// SecretFile has the secrets, InUse is what it held, and Use takes what it holds after a
	// change into use.
	SecretFile string
	InUse      []byte
	Use        func(text []byte) error
	// Slides reports whether a use moves the end of a session.
	Slides bool
}

// Format opens the format of sessions that another program makes; nil: they are
// Coatcheck's own. It reads the secrets. Its error repeats none.
func (c *Config) Format() (*Format, error) {
	if !c.foreign() {
		return nil, nil
	}
	text, err := ReadSecrets(c.Express.SecretFile)
	if err != nil {
		return nil, About(err, "session.express.secret_file")
	}
	secrets, err := express.ReadSecrets(text)
	if err != nil {
		return nil, About(err, "session.express.secret_file")
	}
	f, err := express.New(c.express(secrets))
	if err != nil {
		return nil, err
	}
	return &Format{
		Format: f, SecretFile: c.Express.SecretFile, InUse: text, Slides: !c.Express.DisableTouch,
		Reading: foreign.Config{Step: c.Express.Step, Endless: c.Express.NoTTL == acceptEndless},
		Use: func(text []byte) error {
			secrets, err := express.ReadSecrets(text)
			return cmp.Or(err, f.SetSecrets(secrets))
		},
	}, nil
}

// ReadSecrets reads a file of secrets as other files with passwords are read.
func ReadSecrets(path string) ([]byte, error) {
	text, err := secretfile.Read(path)
	return []byte(text), err
}

func (c *Config) express(secrets []string) express.Config {
	e := c.Express
	return express.Config{
		Cookie: c.CookieName, Secrets: secrets, Prefix: e.Prefix, TTL: e.TTL, DisableTouch: e.DisableTouch,
		UserID: e.UserIDPath, Username: e.UsernamePath, Roles: e.RolesPath,
	}
}

// unsigned is the format for what reads no cookie, such as the check of a policy file: by a
// secret that no application has. It is nil for Coatcheck's own sessions, and for a
// configuration that validate refuses.
func (c *Config) unsigned() sessions.Format {
	if !c.foreign() {
		return nil
	}
	f, err := express.New(c.express([]string{rand.Text()}))
	if err != nil {
		return nil
	}
	return f
}

// validateFormat takes a part at a time, as validateChecks does.
func (c *Config) validateFormat() []error {
	if !c.foreign() {
		return c.formatless()
	}
	e := c.Express
	part := func(p express.Config) error {
		p.Secrets, p.UserID = []string{rand.Text()}, cmp.Or(p.UserID, "user")
		_, err := express.New(p)
		return oneLine(err)
	}
	errs := []error{
		About(needed(e.SecretFile, "no cookie can be verified without the secrets"), "session.express.secret_file"),
		About(cmp.Or(needed(e.UserIDPath, "it must say where the user's ID stands in a session"), part(express.Config{UserID: e.UserIDPath})), "session.express.user_id_path"),
		About(part(express.Config{Username: e.UsernamePath}), "session.express.username_path"),
		About(part(express.Config{Roles: e.RolesPath}), "session.express.roles_path"),
		About(cmp.Or(filled(e.Prefix), part(express.Config{Prefix: e.Prefix})), "session.express.prefix"),
		About(cmp.Or(filled(e.TTL), part(express.Config{TTL: e.TTL})), "session.express.ttl"),
		between("session.express.step", e.Step, 0, time.Hour),
	}
	for _, field := range c.fields() {
		if err := part(express.Config{Username: field.Field}); err != nil {
			errs = append(errs, About(fmt.Errorf("%q: %w", field.Field, err), "headers.fields"))
		}
	}
	return append(errs, c.inapplicable()...)
}

func needed(value, why string) error {
	if value == "" {
		return errors.New(why)
	}
	return nil
}

// inapplicable names the keys that were changed and that Coatcheck cannot follow for
// sessions of another program. An operator who sets a limit must not believe that it holds.
func (c *Config) inapplicable() (errs []error) {
	const ends = "the application alone decides when its sessions end, and Coatcheck cannot enforce another limit on them"
	reasons := map[string]string{ //nolint:gosec // names of keys
		"session.idle_timeout": ends, "session.absolute_timeout": ends, "session.idle_step": ends,
		"session.max_per_user": "the application signs its users in, and how many sessions a user has is not known",
		"session.count_every":  "only Coatcheck's own sessions can be counted",
		"near_cache.enabled":   "Redis tells of changes to Coatcheck's own sessions alone, so that those of the application are read for each check",
		"bearer":               "session IDs of the application come in its cookie",
	}
	for _, name := range changed(c.keys()) {
		if why := reasons[name]; why != "" {
			errs = append(errs, About(fmt.Errorf("it has no meaning with session.format %s: %s", c.SessionFormat, why), name))
		}
	}
	return errs
}

// formatless refuses keys of a format that is not in use.
func (c *Config) formatless() (errs []error) {
	for _, name := range changed(c.formatKeys()) {
		if strings.HasPrefix(name, "session.express.") {
			errs = append(errs, About(errors.New("it needs session.format "+formatExpress), name))
		}
	}
	return errs
}

// changed are the names of the keys whose value is not the default.
func changed(keys []key) (names []string) {
	standard := make(map[string]string)
	for _, k := range new(Config).keys() {
		_ = k.value.set(k.value.fallback)
		standard[k.name] = fmt.Sprint(k.value.get())
	}
	for _, k := range keys {
		if fmt.Sprint(k.value.get()) != standard[k.name] {
			names = append(names, k.name)
		}
	}
	return names
}
