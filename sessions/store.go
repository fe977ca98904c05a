package sessions

import (
	"context"
	"time"
)

// A Store keeps session records. It applies no rule of this package: it never
// looks at the time, nor at what a record holds.
//
// Every method is safe for concurrent use and returns by the deadline of ctx.
// Absence is [ErrNotFound]; a key that holds something other than a record is
// [ErrBroken]; any other error means that the store did not answer, or not so
// that it could be understood, and says nothing about the session. Times are
// exact to the millisecond; of a longer time than [MaxTimeout] it may say that it is this one. sessions/storetest holds every clause below.
type Store interface {
	// Create stores a record under a new key, with its end, and lists it among its
	// user's keys. Record and end appear together, and not before the listing does.
	// It returns how many entries the listing then has, some of which may name
	// nothing. Until it returns, the record may end sooner than CreateParams.Expiry.
	//
	// It returns [ErrEnded], and leaves no record, where Mark was called for the user
	// since CreateParams.Began, or since it was itself called, and another error where
	// its record was deleted meanwhile. A Mark that has returned before the login
	// began ends nothing.
	Create(ctx context.Context, c CreateParams) (listed int, err error)

	// Mark has every Create of the user's sessions that has begun and not returned
	// end with [ErrEnded]. [ErrNotReplicated] says that it has done so, and that a
	// failover could undo it.
	Mark(ctx context.Context, userID string) error

	// Touch reads the named fields and moves the record's end to until, never to
	// an earlier time, in one round trip. It returns the time until the end, which
	// is negative for a record without an end. It creates nothing, and gives no end
	// to such a record. Neither side changes names, nor the record, which the store may
	// hand out again.
	Touch(ctx context.Context, key Key, until time.Time, names []string) (Record, time.Duration, error)

	// Read reads the named fields, or all of them where names is nil, of each of
	// keys, in their order, without moving their ends.
	Read(ctx context.Context, names []string, keys ...Key) ([]Entry, error)

	// Add adds fields to a record that exists: all of them, or no field and
	// ErrFieldExists if one is there already. It changes no end and creates
	// nothing. Concurrent calls lose no field.
	Add(ctx context.Context, key Key, fields map[string]string) error

	// Expire moves the record's end to a time, never to a later one. By the store's
	// clock it ends at once if that is past, and a caller with a wrong clock ends
	// nothing too early.
	Expire(ctx context.Context, key Key, at time.Time) error

	// Delete removes the records and takes them off the user's list. It returns
	// how many of them were there; keys that name nothing are no error, and stay
	// listed for longer than a Create takes: their records may be about to be
	// written. After it no Touch that begins finds one of them. [ErrNotReplicated] says
	// that this was done, too, and that a failover could undo it.
	Delete(ctx context.Context, userID string, keys ...Key) (int, error)

	// UserKeys lists the keys of a user's sessions: each whose Create has returned
	// before and whose record is there, also while other entries change.
	// Some of the keys may name nothing.
	UserKeys(ctx context.Context, userID string) ([]Key, error)

	// List reads the named fields of up to n of a user's records, those first whose
	// absolute timeout is last, and returns how many more entries there are, some of
	// which may name nothing. Its cost is bounded, however many there are.
	List(ctx context.Context, userID string, names []string, n int) (list []Listed, more int, err error)

	// Find lists up to limit keys of records whose [Key.Hash] begins with prefix,
	// which holds base64url characters only. It is the one method whose cost
	// grows with the number of sessions.
	Find(ctx context.Context, prefix string, limit int) ([]Key, error)

	// Now is the time by the store's clock, on which records end.
	Now(ctx context.Context) (time.Time, error)
}

// A CreateParams is one record to be stored.
type CreateParams struct {
	Key      Key
	UserID   string
	Record   Record
	Began    time.Time // of the login, with its monotonic reading; zero: now
	Now      time.Time // by the store's clock, as far as it is known
	Expiry   time.Time // the record's end, unless it is touched
	Absolute time.Time // its absolute timeout, by which the listing is sorted
}

// A Listed is one of a user's records. Its Err is nil or ErrBroken.
type Listed struct {
	Key Key
	Entry
}

// An Entry is one record as [Store.Read] found it.
type Entry struct {
	Record Record
	// TTL is the time until the record's end; negative if it has no end.
	TTL time.Duration
	// Err is ErrNotFound or ErrBroken where there is no such record.
	Err error
}
