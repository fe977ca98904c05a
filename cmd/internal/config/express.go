package config

import (
	"cmp"
	"crypto/rand"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign"
	"github.com/coatcheck/coatcheck/sessions/foreign/express"
)

// expressFormat is the format of Express.
var expressFormat = &format{
	name: "express", made: "express-session and connect-redis", cookieName: express.DefaultCookie, cookieKeep: true,
	settings: func() formatSettings { return new(expressSettings) },
}

// The values of session.express.no_ttl.
const (
	refuseEndless = "refuse"
	acceptEndless = "accept"
)

// expressSettings are those about sessions of Express.
type expressSettings struct {
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

func (e *expressSettings) keys() []key {
	return []key{
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

func (e *expressSettings) config(cookie string, secrets []string) express.Config {
	return express.Config{
		Cookie: cookie, Secrets: secrets, Prefix: e.Prefix, TTL: e.TTL, DisableTouch: e.DisableTouch,
		UserID: e.UserIDPath, Username: e.UsernamePath, Roles: e.RolesPath,
	}
}

func (e *expressSettings) open(cookie string) (*Format, error) {
	text, err := ReadSecrets(e.SecretFile)
	if err != nil {
		return nil, About(err, "session.express.secret_file")
	}
	secrets, err := express.ReadSecrets(text)
	if err != nil {
		return nil, About(err, "session.express.secret_file")
	}
	f, err := express.New(e.config(cookie, secrets))
	if err != nil {
		return nil, err
	}
	return &Format{
		Format: f, SecretFile: e.SecretFile, InUse: text, Slides: !e.DisableTouch,
		Reading: foreign.Config{Step: e.Step, Endless: e.NoTTL == acceptEndless},
		Use: func(text []byte) error {
			secrets, err := express.ReadSecrets(text)
			return cmp.Or(err, f.SetSecrets(secrets))
		},
	}, nil
}

func (e *expressSettings) unsigned(cookie string) sessions.Format {
	f, err := express.New(e.config(cookie, []string{rand.Text()}))
	if err != nil {
		return nil
	}
	return f
}

// validate takes a part at a time, as validateChecks does.
func (e *expressSettings) validate() []error {
	return []error{
		About(needed(e.SecretFile, "no cookie can be verified without the secrets"), "session.express.secret_file"),
		About(cmp.Or(needed(e.UserIDPath, "it must say where the user's ID stands in a session"), expressPart(express.Config{UserID: e.UserIDPath})), "session.express.user_id_path"),
		About(expressPart(express.Config{Username: e.UsernamePath}), "session.express.username_path"),
		About(expressPart(express.Config{Roles: e.RolesPath}), "session.express.roles_path"),
		About(cmp.Or(filled(e.Prefix), expressPart(express.Config{Prefix: e.Prefix})), "session.express.prefix"),
		About(cmp.Or(filled(e.TTL), expressPart(express.Config{TTL: e.TTL})), "session.express.ttl"),
		between("session.express.step", e.Step, 0, time.Hour),
	}
}

// expressPart is what is wrong with one part of a configuration of Express.
func expressPart(p express.Config) error {
	p.Secrets, p.UserID = []string{rand.Text()}, cmp.Or(p.UserID, "user")
	_, err := express.New(p)
	return oneLine(err)
}

func (e *expressSettings) validateField(name string) error {
	f, err := express.New(express.Config{Secrets: []string{rand.Text()}, UserID: "user"})
	if err != nil {
		return err
	}
	return f.ValidateField(name)
}
