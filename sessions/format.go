package sessions

import (
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxForeignID bounds the session IDs of other frameworks, in bytes.
const MaxForeignID = 256

// ForeignID takes the session ID of another framework, which chooses its form: 1 to
// [MaxForeignID] bytes of UTF-8 without control characters. It returns [ErrMalformed]
// otherwise. A [Format] calls it for an ID whose signature, if there is one, holds.
//
// Such an ID is a secret twice: the browser presents it, and the name of its record in
// Redis holds it. So no program of ours shows that name. [ID.Key] of a foreign ID names
// no record: it is for the handle, which is the first twelve characters of
// base64url(SHA-256(ID)), as for every other session.
func ForeignID(s string) (ID, error) {
	if s == "" || len(s) > MaxForeignID || !utf8.ValidString(s) {
		return ID{}, ErrMalformed
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return ID{}, ErrMalformed
		}
	}
	return ID{s}, nil
}

// A Format is how another framework keeps sessions in Redis: how a credential in a
// request names a record, how a record becomes a Session, and how it slides. It is all
// that differs between frameworks: package foreign reads and slides by it, and package
// foreigntest holds every clause below. Its methods are safe for concurrent use, and ask
// no store.
//
// Records of a Format are the framework's: what reads by it writes no value, ever. It
// moves the expiry of a key, and nothing else.
type Format interface {
	// Read returns the ID that a request presents, by the rules of the framework's own
	// parser. It returns [ErrNoCookie], [ErrMalformed], also for a signature that does not
	// hold, or [ErrAmbiguousCookie] where the framework's parser, or an older one, finds
	// more than one cookie, with the same value or not. Only what Read returned reaches the
	// store.
	Read(h CookieHeader) (ID, error)
	// Parse is Read for the value of the cookie, as a browser shows it to people.
	Parse(value string) (ID, error)
	// Cut is [Cookie.Cut], of everything that Read takes for the cookie.
	Cut(h CookieHeader) (rest string, found bool)
	// Lookalikes is [Cookie.Lookalikes], by the form of the framework's values.
	Lookalikes(h CookieHeader) []string

	// Place is where all records are.
	Place() Place
	// Decode makes a session of a record, with the named application fields, as far as they
	// are there. It returns [ErrNotFound] for a record that says that no user is signed in,
	// because a key that exists is not a login, and [ErrBroken], with what is wrong but
	// never with a value, for one that the framework does not write. It does not look at the
	// time. It sets no Key.
	Decode(r ForeignRecord, fields []string) (ForeignSession, error)
	// ValidateField returns an error, which names the field, for one that no record can have
	// under this name, since the name has not the form of the format's names. [ValidateFieldName]
	// has taken it. To ask Decode for such a field is no error: it is not there.
	ValidateField(name string) error
	// Fields are all application fields of a record that Decode takes, for people.
	Fields(r ForeignRecord) map[string]string
}

// A Place is where the records of a [Format] are: each at the prefix and the session ID.
type Place struct {
	Prefix string // not empty, at most 256 bytes of UTF-8 without control characters
	Hash   bool   // the records are hashes; else strings
}

// Validate says what is wrong with p.
func (p Place) Validate() error {
	if p.Prefix == "" {
		return fmt.Errorf("the prefix is empty: each key of Redis would be the record of a session")
	}
	if len(p.Prefix) > MaxForeignID || !printable(p.Prefix) {
		return fmt.Errorf("the prefix is at most %d bytes of UTF-8 without control characters", MaxForeignID)
	}
	return nil
}

// MaxForeignRecord bounds the records of other frameworks that are decoded, in bytes. What an
// application keeps in a session has no bound, and often users choose it: a check that read
// all of it could be made to take any time and memory.
const MaxForeignRecord = 256 << 10

// A ForeignRecord is what a store holds of one session of another framework.
type ForeignRecord struct {
	// Value is that of a string; it is only read. Of one that is longer than
	// [MaxForeignRecord], the rest may be missing.
	Value []byte
	Hash  map[string]string // of a hash
	// TTL is the time until the record's end, negative if it has no end.
	TTL time.Duration
}

// A ForeignSession is what a [Format] makes of a record.
type ForeignSession struct {
	Session *Session
	// Lifetime is how long the record lasts after a use, in whole seconds, exactly as the
	// framework does it. 0: a use does not move its end.
	Lifetime time.Duration
}
