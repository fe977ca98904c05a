// Package usersource is the list of places where users come from. Each source is one
// row of [Sources], which has its keys and opens it:
//
//	opened, err := usersource.Open(ctx, config.Users, parts)
//	opened.Users // a login.Authenticator
//
// The configuration, the help texts and the reference are made from the keys of the
// rows, and the server opens the source whose first key is set. One source at most can
// be set.
//
// A source that yields hashes, such as a users file or a database, ends in
// [Parts.Checked], which checks passwords by them. One that checks passwords itself, as
// LDAP does, is a [login.Authenticator]; the server bounds how many passwords such a
// source checks at the same time.
package usersource

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
)

// A Key is a setting of a source: text, or the path of a file.
type Key struct {
	Name     string
	Usage    string
	File     bool
	Secret   bool // has no flag, which every process could read, and is never printed
	Common   bool // stands in the help of commands, too
	Required bool // must be set where the source's first key is set
}

// Values are the values of keys, by their names. A key that is not set has none.
type Values map[string]string

// A Source is a kind of place where users come from.
type Source struct {
	// Keys are its settings. The first one chooses the source by being set; the others
	// need it.
	Keys []Key
	// Open opens it. Its errors about a value are a [Mistake].
	Open func(context.Context, Values, Parts) (Opened, error)
	// Find returns the user ID of a username, or [passwords.ErrNoUser]. Nil: the source
	// knows users only by their password.
	Find func(context.Context, Values, string) (string, error)
}

// Parts are what the server offers to a source.
type Parts struct {
	Accounts   userfile.AccountStore
	Sessions   *sessions.Manager
	Logger     *slog.Logger
	Metrics    prometheus.Registerer
	Concurrent int // passwords that are checked at the same time
	// Checked checks passwords by the hashes of a source, or returns a [Mistake]. Confirm, if not nil, looks at
	// an account again after its password was found right.
	Checked func(source passwords.Source, confirm func(context.Context, passwords.Account) error) (login.Authenticator, error)
}

// An Opened is a source in use.
type Opened struct {
	Users login.Authenticator
	// Close ends it, after the last login. Nil: there is nothing to close.
	Close func()
	// Settle is called before the first login. Nil: there is nothing to do.
	Settle func(context.Context)
	// Run is what the source does beside the logins, until the context is done. Nil:
	// nothing.
	Run func(context.Context, Reloads)
}

// Reloads says how a source in a file looks for changes, and where it reports them.
type Reloads struct {
	Every  time.Duration
	Now    <-chan os.Signal // each signal asks for a look at once
	Report func(error)      // nil: a change is in use
}

// A Mistake is an error about the values of keys.
type Mistake struct {
	Err  error
	Keys []string
}

func (m *Mistake) Error() string { return m.Err.Error() }
func (m *Mistake) Unwrap() error { return m.Err }

// FindID asks the source that is set for the user ID of a username. It returns no ID where
// no source is set, or where the source has no such user. Its errors do not repeat the
// username, which may be a password.
func FindID(ctx context.Context, v Values, username string) (string, error) {
	name := Name(v)
	for _, s := range Sources {
		if s.Keys[0].Name != name || s.Find == nil {
			continue
		}
		id, err := s.Find(ctx, v, username)
		switch {
		case errors.Is(err, passwords.ErrNoUser):
			return "", nil
		case err != nil:
			return "", about(err, name)
		}
		return id, nil
	}
	return "", nil
}

// about adds keys in front of those that an error is about already.
func about(err error, keys ...string) error {
	if m, ok := errors.AsType[*Mistake](err); ok {
		return &Mistake{m.Err, append(keys, m.Keys...)}
	}
	return &Mistake{err, keys}
}

// Names are the first keys of all sources.
func Names() (names []string) {
	for _, s := range Sources {
		names = append(names, s.Keys[0].Name)
	}
	return names
}

// Name is the first key of the source that is set, or empty where no source is.
func Name(v Values) string {
	for _, name := range Names() {
		if v[name] != "" {
			return name
		}
	}
	return ""
}

// Open opens the source that is set.
func Open(ctx context.Context, v Values, p Parts) (Opened, error) {
	name := Name(v)
	for _, s := range Sources {
		if s.Keys[0].Name == name {
			return s.Open(ctx, v, p)
		}
	}
	return Opened{}, errors.New("no source of users is set")
}
