package passwords

import (
	"context"
	"errors"

	"github.com/coatcheck/coatcheck/sessions/login"
)

// A Source knows users and the hashes of their passwords. It is safe for
// concurrent use.
type Source interface {
	// Find returns the account of a username, or ErrNoUser. Any other error says
	// that the source cannot be asked. The source decides whether letter case counts;
	// throttling goes by the username folded (throttle.Fold).
	Find(ctx context.Context, username string) (Account, error)
}

// ErrNoUser says that a [Source] has no account of this username.
var ErrNoUser = errors.New("no such user")

// A Renewer is a [Source] that can store a hash in place of a former one.
type Renewer interface {
	// Renew stores hash for the account, unless its hash is no longer the one that
	// a holds.
	Renew(ctx context.Context, a Account, hash string) error
}

// A KindSource is a [Source] that knows the kinds of all its hashes, as a file does.
type KindSource interface {
	// Kinds returns the kinds that the source holds now.
	Kinds() []Kind
	// BoundHashes has the source refuse, now and later, hashes that take more bytes
	// of memory; its error names the ones that it holds now.
	BoundHashes(bytes int64) error
}

// An Account is a user and the hash of the password, a PHC string of argon2id
// ($argon2id$v=19$m=19456,t=2,p=1$salt$hash) or bcrypt ($2b$12$...).
type Account struct {
	login.User
	Hash string
}
