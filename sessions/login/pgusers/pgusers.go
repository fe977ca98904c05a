// Package pgusers takes users from PostgreSQL, from tables of any form: a query of the
// operator's finds the account of a username.
//
//	SELECT u.id, u.username, u.password_hash AS hash,
//	       array_agg(r.name ORDER BY r.name) AS roles,
//	       jsonb_build_object('tenant', u.tenant) AS attributes
//	FROM users u
//	LEFT JOIN memberships m ON m.user_id = u.id
//	LEFT JOIN roles r ON r.id = m.role_id
//	WHERE lower(u.username) = lower($1)
//	GROUP BY u.id
//
// The username is the parameter $1 and never a part of the SQL. The columns go
// by their names, in any order:
//
//	id          required  any type; unlike a name, it never changes
//	username    required  as pages and headers show it
//	hash        required  text of argon2id or bcrypt; NULL: no password, no login
//	roles       optional  an array of any type, or a JSON array; NULLs are left out
//	attributes  optional  a JSON object, the application fields of the session;
//	                      nulls are left out, what is no text is its JSON
//
// No row means that there is no such user; more than one is a fault, since a
// password must not be tried against another one's account. A condition that
// keeps a user out, such as AND NOT u.disabled, belongs into the query.
//
// Where the column that $1 is compared with is char(n) or name, one user has many
// spellings, trailing blanks or anything behind the 63rd byte, each of which is
// throttled for itself; and so where $1 is a pattern, of LIKE, ILIKE or ~. [Source.Check]
// refuses both, the patterns if the table has a user; compare with =, and $1::text.
package pgusers

import (
	"context"
	"errors"
	"time"

	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// Config says where the users are. DSN and Query must be there.
type Config struct {
	// DSN is a URL (postgres://coatcheck@db/users?sslmode=verify-full) or libpq's
	// keywords and values; what it leaves out, the variables PGHOST and so on add.
	// TLS is its to say: without sslmode, an unencrypted connection is a choice.
	// Several hosts and target_session_attrs serve a failover.
	DSN string
	// PasswordFile holds the password. It is read for each new connection, so that
	// it may be replaced. Empty: the password of DSN, if any.
	PasswordFile string
	// Query finds the account of the username $1.
	Query string
	// RenewQuery stores the hash $1 for the user with the id $2, unless its hash is
	// no longer $3:
	//
	//	UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3
	//
	// Empty: hashes are not renewed, and the Source is no passwords.Renewer.
	RenewQuery string
	// MaxConns bounds the connections, also if DSN says otherwise. Zero: 4, which are enough:
	// a login spends its time in hashing.
	MaxConns int
	// ConnectTimeout bounds the making of one connection to one host, also if
	// DSN says otherwise. Zero: two seconds, and with several hosts so much that each
	// can be tried within Timeout.
	ConnectTimeout time.Duration
	// Timeout bounds one question, the wait for a connection included; the server
	// gives up on it then, too (statement_timeout, a setting that PgBouncer must
	// ignore). Zero: two seconds.
	Timeout time.Duration
}

func (c Config) orDefault() Config {
	if c.MaxConns <= 0 {
		c.MaxConns = 4
	}
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	return c
}

// A Source is a [passwords.Source] over PostgreSQL. One with a RenewQuery is a
// [passwords.Renewer], too. It is safe for concurrent use.
type Source interface {
	passwords.Source
	// Check asks PostgreSQL whether the queries can be used, and changes nothing.
	// Its error is an [ErrQuery] where they cannot be, and else says that the
	// database cannot be asked, which may pass.
	Check(ctx context.Context) error
	// Close ends the connections, once the source is no longer used.
	Close()
}

// ErrQuery says that a query is of no use as it stands.
var ErrQuery = errors.New("the query cannot be used")
