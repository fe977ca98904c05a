package login

import (
	"context"
	"errors"
)

// A User is who has signed in, as a session will tell of them.
type User struct {
	ID         string            // required; unlike a name, it never changes
	Username   string            // as the source spells it, which need not be as it was typed
	Roles      []string          // may be nil
	Attributes map[string]string // become application fields of the session
}

// An Authenticator says whose username and password these are. It is safe for
// concurrent use. [Passwords] makes one of a [Source]; bring your own for
// anything else, such as LDAP.
type Authenticator interface {
	// Authenticate returns the user, or ErrBadCredentials where there is no such
	// user or the password is another; the two take the same time. ErrBusy says
	// that too many passwords are being checked. Any other error says that nothing
	// is known, and becomes a 503.
	Authenticate(ctx context.Context, username, password string) (User, error)
}

// A Source knows users and the hashes of their passwords. It is safe for
// concurrent use.
type Source interface {
	// Find returns the account of a username, or ErrNoUser. Any other error says
	// that the source cannot be asked. Whether letter case counts is the source's
	// to say: throttling goes by the username folded (case, width, accents, blanks).
	Find(ctx context.Context, username string) (Account, error)
}

// A Renewer is a [Source] that can store a hash in place of a former one.
type Renewer interface {
	// Renew stores hash for the account, unless its hash is no longer the one that
	// a holds.
	Renew(ctx context.Context, a Account, hash string) error
}

// An Account is a user and the hash of the password, a PHC string of argon2id
// ($argon2id$v=19$m=19456,t=2,p=1$salt$hash) or bcrypt ($2b$12$...).
type Account struct {
	User
	Hash string
}

// What Authenticate and Find return besides faults.
var (
	ErrBadCredentials = errors.New("no such user with this password")
	ErrNoUser         = errors.New("no such user")
	ErrBusy           = errors.New("too many passwords are being checked")
)
