package login

import (
	"context"
	"errors"
)

// A User is the account that has signed in, as its session will hold it.
type User struct {
	ID         string            // required; unlike a name, it never changes
	Username   string            // as the source spells it, not as it was typed
	Roles      []string          // may be nil
	Attributes map[string]string // become application fields of the session
}

// An Authenticator knows to whom a username and a password belong. It is safe for
// concurrent use. Package passwords makes one of hashes, such as those of a users
// file; write your own for anything else, such as LDAP, and bound it by [Limit].
type Authenticator interface {
	// Authenticate returns the user, or ErrBadCredentials where there is no such
	// user or the password is another; the two take the same time. ErrBusy says
	// that too many passwords are being checked. Any other error says that the
	// password was not checked, and becomes a 503.
	Authenticate(ctx context.Context, username, password string) (User, error)
}

// MaxPassword is the longest password that is looked at, in bytes: a longer one
// is refused before any work. NIST SP 800-63B, section 3.1.1.2, wants at least
// 64 characters to be possible.
const MaxPassword = 1024

// What Authenticate and the endpoints of a [Method] return besides faults.
var (
	ErrBadCredentials = errors.New("no such user with this password")
	ErrBusy           = errors.New("too many passwords are being checked")
	// ErrBadRequest is for a Method alone, where a request makes no sense.
	ErrBadRequest = errors.New("the request makes no sense")
)
