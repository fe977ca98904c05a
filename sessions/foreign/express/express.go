// Package express reads sessions of Express as express-session and connect-redis keep them:
//
//	format, err := express.New(express.Config{Secrets: secrets, UserID: "user.userId"})
//
// # The cookie
//
// connect.sid holds "s:", the session ID, a dot and a signature: HMAC-SHA256 over the ID in
// base64 without padding, all of it percent-encoded. It is read as the parser of Express
// does, package cookie in version 0.7: blanks around name and value are left out, and
// quotes, and percent-encoding is decoded if all of it is valid. That parser takes the first
// cookie of a name; here more than one is refused, because which of them is the user's own
// is unknown. The signature must hold for one of the secrets, of which the first is the one
// that the application signs with. What does not hold costs Redis nothing.
//
// # The record
//
// A string at the prefix and the ID: JSON, with the key "cookie" of express-session and
// the keys of the application. Who the user is stands at a path that the operator names,
// such as passport.user or user.userId. A session without a user there is anonymous, and
// not found. The JSON is read as JavaScript does: of a key that stands twice the last one
// counts, as a whole, and __proto__ is a key like another. Text that JavaScript and other
// programs could read in two ways is refused: what is not UTF-8, half of a surrogate pair,
// a number that is not a whole one or too large for JavaScript to keep.
//
// # Its end
//
// A use of the application moves the expiry of the key to cookie.originalMaxAge from now, or
// by the option ttl of connect-redis where that is null; so does [Format.Decode] say.
// cookie.expires is never looked at: connect-redis moves the expiry of the key alone, and
// the date in the record is the login's.
//
// The facts are of express-session 1.17 to 1.19, connect-redis 6 to 10, and cookie 0.4 and
// 0.7.
package express

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// The defaults of a [Config], which are those of express-session and connect-redis.
const (
	DefaultCookie = "connect.sid"
	DefaultPrefix = "sess:"
	DefaultTTL    = 24 * time.Hour
)

// A Config says how an application is configured, and where its users stand.
type Config struct {
	// Cookie is the option name of express-session. Empty: [DefaultCookie].
	Cookie string
	// Secrets are the option secret of express-session: the first one signs, and all are
	// accepted. At least one.
	Secrets []string
	// Prefix is the option prefix of connect-redis, behind the keyPrefix of the client if it
	// has one. Empty: [DefaultPrefix].
	Prefix string
	// UserID, Username and Roles are paths into the record: keys with dots between them. A
	// dot, or a backslash, in a key stands behind a backslash. UserID is required. The roles
	// are an array of strings; a session without any has no roles.
	UserID, Username, Roles string
	// TTL is the option ttl of connect-redis, for sessions without a maxAge, in whole
	// seconds. Zero: [DefaultTTL].
	TTL time.Duration
	// DisableTouch is the option disableTouch of connect-redis: a use moves no end.
	DisableTouch bool
}

// A Format implements [sessions.Format]. It is safe for concurrent use.
type Format struct {
	cookie                  sessions.Cookie
	place                   sessions.Place
	secrets                 atomic.Pointer[[]string]
	userID, username, roles path
	ttl                     time.Duration
	disableTouch            bool
}

var _ sessions.Format = (*Format)(nil)

// New returns the format, or everything that is wrong with config.
func New(c Config) (*Format, error) {
	if c.Cookie == "" {
		c.Cookie = DefaultCookie
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	f := &Format{
		cookie: sessions.Cookie{Name: c.Cookie}, place: sessions.Place{Prefix: c.Prefix},
		ttl: c.TTL, disableTouch: c.DisableTouch,
	}
	var errs []error
	for _, p := range []struct {
		to         *path
		name, text string
	}{{&f.userID, "user ID", c.UserID}, {&f.username, "username", c.Username}, {&f.roles, "roles", c.Roles}} {
		var err error
		if *p.to, err = parsePath(p.text); err != nil && (p.text != "" || p.to == &f.userID) {
			errs = append(errs, fmt.Errorf("the path of the %s: %w", p.name, err))
		}
	}
	if c.TTL < time.Second || c.TTL%time.Second != 0 || c.TTL > maxLifetime {
		errs = append(errs, fmt.Errorf("the ttl %v is not 1s to %v in whole seconds", c.TTL, maxLifetime))
	}
	errs = append(errs, f.cookie.Validate(), f.place.Validate(), f.SetSecrets(c.Secrets))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return f, nil
}

// The limits of secrets, of which bytes are for one.
const (
	maxSecrets     = 16
	maxSecretBytes = 4 << 10
)

// SetSecrets replaces the secrets, as [Config.Secrets] has them, at any time. After an
// error, which repeats no secret, the former ones stay.
func (f *Format) SetSecrets(secrets []string) error {
	if err := validateSecrets(secrets); err != nil {
		return err
	}
	secrets = slices.Clone(secrets)
	f.secrets.Store(&secrets)
	return nil
}

func validateSecrets(secrets []string) error {
	switch {
	case len(secrets) == 0:
		return errors.New("there is no secret")
	case len(secrets) > maxSecrets:
		return fmt.Errorf("there are more than %d secrets", maxSecrets)
	}
	for i, secret := range secrets {
		if secret == "" || len(secret) > maxSecretBytes {
			return fmt.Errorf("secret %d has not 1 to %d bytes", i+1, maxSecretBytes)
		}
	}
	return nil
}

// ReadSecrets reads a file of secrets, one a line, the one that signs first. Empty lines do
// not count; blanks are a part of a secret. A byte order mark is refused, because editors
// write it unseen, and with it the first secret is another one. Its error repeats no secret.
func ReadSecrets(text []byte) ([]string, error) {
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if strings.HasPrefix(string(text), mark) {
			return nil, errors.New("it begins with a byte order mark, which no secret does; save it as UTF-8 without one")
		}
	}
	var secrets []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			secrets = append(secrets, line)
		}
	}
	return secrets, validateSecrets(secrets)
}

// Place implements [sessions.Format].
func (f *Format) Place() sessions.Place { return f.place }
