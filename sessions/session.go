package sessions

import (
	"errors"
	"time"
)

// A Session is one user's live session, as a record has it.
type Session struct {
	Key      Key
	UserID   string   // never empty
	Username string   // may be empty
	Roles    []string // may be nil; shared with other sessions: only read it

	CreatedAt time.Time // zero if the record does not tell
	ExpiresAt time.Time // the absolute timeout

	// IdleExpiresAt is when the record ends if it is not used. Only
	// [Manager.Lookup], [Manager.Inspect] and [Manager.List] tell it.
	IdleExpiresAt time.Time

	Address   string // of the browser at login, if known
	UserAgent string // of the browser at login, if known

	// Fields holds the application fields that were asked for and were there.
	Fields map[string]string
}

// NewSession is what a login knows of the user whose session it creates.
type NewSession struct {
	UserID    string            // required
	Username  string            // for people
	Roles     []string          // no empty names
	Address   string            // of the browser
	UserAgent string            // of the browser
	Fields    map[string]string // application fields from the start

	// Began is when the authentication began, before the account was looked at, as
	// [time.Now] gave it: a revocation of all the user's sessions since then ends
	// this one, too. Zero: at the beginning of Create. Ten minutes is the longest
	// that a login may take.
	Began time.Time
}

// What [Manager.Create], [Manager.Add] and [Manager.Resolve] refuse.
var (
	// ErrEnded: the sessions of the user were ended while this one was being made.
	// Another try may succeed.
	ErrEnded = errors.New("the sessions of the user were ended while signing in")
	// ErrReserved: the field belongs to the layout.
	ErrReserved = errors.New("reserved name")
	// ErrFieldExists: the session has the field already.
	ErrFieldExists = errors.New("field exists already")
	// ErrHandleAmbiguous: more than one session's handle begins so.
	ErrHandleAmbiguous = errors.New("more than one session has this handle")
)
