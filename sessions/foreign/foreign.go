// Package foreign reads the sessions of other frameworks as they are, and slides them as
// the framework does:
//
//	format, err := express.New(express.Config{Secrets: secrets, UserID: "user.userId"})
//	checks, err := foreign.New(store.Foreign(format.Place()), format, foreign.Config{}) // store is a *redisstore.Store
//	defer checks.Close()
//	session, err := checks.Touch(ctx, id) // of a request: id, err := format.Read(cookies)
//
// It writes no value, ever: the framework reads, changes and writes its whole record at
// the end of each request, and a value of ours would be lost, or undo its own. What is
// moved is the expiry of the key, never to an earlier time, never where there is no key.
//
// # One round trip, and then the slide
//
// How long a use has a record last stands in the record: the slide needs the value first,
// so it cannot go with the read as in Coatcheck's own format. A second call within the
// check would make each check as slow as two, for a change that is due once in a step. So
// the verdict goes out when the value was read, and the slide follows in the background,
// where the end that was read with the value says that it is due. It is tried again for a
// while. One that is lost in spite of that is due again for the next request, since what
// decides is the end that Redis tells, and no memory of ours. So a lost slide costs what a
// lost touch of the application costs, and no session ends sooner by that: a request that
// reaches the application is touched there, too.
//
// # Ends
//
// The framework's own end is the only one: the expiry of the key. Coatcheck's idle timeout
// and its absolute timeout say nothing here, because such a record does not tell when it
// began.
package foreign

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/sessions"
)

// MaxRecord bounds the records that are decoded, in bytes.
const MaxRecord = sessions.MaxForeignRecord

// A Store reads records of other frameworks in one place: redisstore has one. Its errors
// are those of a [sessions.Store]: ErrNotFound, ErrBroken for a record of another type,
// and every other one where the store did not answer. It is safe for concurrent use.
type Store interface {
	// Fetch reads a record and the time until its end, in one round trip. Of a value that is
	// longer than MaxRecord it may leave out the end, as long as it still is.
	Fetch(ctx context.Context, id sessions.ID) (sessions.ForeignRecord, error)
	// Extend has the record last for a time of whole seconds from now, or longer if it does
	// so already. It creates nothing, and gives no end to a record without.
	Extend(ctx context.Context, id sessions.ID, lifetime time.Duration) error
	// Find returns up to limit IDs for which the [sessions.Key.Hash] of their key begins with
	// a text. Its cost grows with the number of keys.
	Find(ctx context.Context, handle string, limit int) ([]sessions.ID, error)
}

// Config says how records slide. The zero Config is ready.
type Config struct {
	// Step is how much sooner than after a use a record may end: only where it ends sooner
	// than that is it slid. Zero: a tenth of what a use gives, at most a minute. It never is
	// more than half of what a use gives, or a session that is used would end.
	Step time.Duration
	// Endless takes records without an end, too. They are never slid.
	Endless bool
}

// maxStep bounds the step of a Config without one.
const maxStep = time.Minute

// Sessions reads sessions of one format. It is safe for concurrent use.
type Sessions struct {
	store  Store
	format sessions.Format
	config Config
	slider *slider
}

// New returns the sessions of a format in a store, or what is wrong with config. It asks
// the store nothing.
func New(store Store, format sessions.Format, config Config) (*Sessions, error) {
	if config.Step < 0 {
		return nil, fmt.Errorf("step %v is negative", config.Step)
	}
	return &Sessions{store: store, format: format, config: config, slider: newSlider(store)}, nil
}

// Close ends the slides in the background: it waits for those that are due, at most a
// second. Sessions that are read afterwards are not slid.
func (s *Sessions) Close() { s.slider.close() }

// Format is the format of the sessions.
func (s *Sessions) Format() sessions.Format { return s.format }

// Parse is the ID in the value of a cookie, by the format, or [sessions.ErrMalformed].
func (s *Sessions) Parse(value string) (sessions.ID, error) { return s.format.Parse(value) }

// Touch returns the live session of id, with the named application fields, in one round
// trip, and has it slid if that is due, as the package's comment says. Its errors are those
// of [sessions.Manager.Touch], but for ErrExpired and ErrLayout, which no such record has.
func (s *Sessions) Touch(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error) {
	record, found, err := s.read(ctx, id, fields)
	if err != nil {
		return nil, err
	}
	if s.due(record.TTL, found.Lifetime) {
		s.slider.slide(id, found.Lifetime)
	}
	return found.Session, nil
}

// Lookup is Touch without a slide. It tells when the record ends, by this machine's clock.
func (s *Sessions) Lookup(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error) {
	record, found, err := s.read(ctx, id, fields)
	if err != nil {
		return nil, err
	}
	return withEnd(found.Session, record), nil
}

// Inspect is [Sessions.Lookup] with every field that the record holds, as far as
// [sessions.Format.Fields] has them.
func (s *Sessions) Inspect(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error) {
	record, found, err := s.read(ctx, id, fields)
	if err != nil {
		return nil, err
	}
	all := make(map[string]string)
	maps.Copy(all, s.format.Fields(record))
	maps.Copy(all, found.Session.Fields)
	found.Session.Fields = all
	return withEnd(found.Session, record), nil
}

// Find returns the ID of the one session whose handle begins with a text, which may also be
// longer than a handle. It goes through all keys of the format, and is for people. It
// returns [sessions.ErrNotFound] and [sessions.ErrHandleAmbiguous].
func (s *Sessions) Find(ctx context.Context, handle string) (sessions.ID, error) {
	handle = strings.TrimPrefix(handle, sessions.KeyPrefix)
	if err := sessions.ValidateHandle(handle); err != nil {
		return sessions.ID{}, err
	}
	ids, err := s.store.Find(ctx, handle, 2)
	switch {
	case err != nil:
		return sessions.ID{}, err
	case len(ids) == 0:
		return sessions.ID{}, sessions.ErrNotFound
	case len(ids) > 1:
		return sessions.ID{}, sessions.ErrHandleAmbiguous
	}
	return ids[0], nil
}

func withEnd(session *sessions.Session, record sessions.ForeignRecord) *sessions.Session {
	if record.TTL >= 0 {
		session.IdleExpiresAt = time.Now().Add(record.TTL)
	}
	return session
}

// read reads and decodes a record. Every format is held to the limits of a session.
func (s *Sessions) read(ctx context.Context, id sessions.ID, fields []string) (record sessions.ForeignRecord, found sessions.ForeignSession, err error) {
	record, err = s.store.Fetch(ctx, id)
	if err != nil {
		return record, found, err
	}
	if size(record) > MaxRecord {
		return record, found, broken(fmt.Sprintf("it is larger than %d bytes", MaxRecord))
	}
	if found, err = s.format.Decode(record, fields); err != nil {
		return record, found, err
	}
	if err := bounded(found.Session); err != nil {
		return record, found, err
	}
	// This is said only of a record that would authenticate: there may be many of no user.
	if record.TTL < 0 && !s.config.Endless {
		return record, found, broken("its key has no expiry")
	}
	found.Session.Key = id.Key()
	return record, found, nil
}

func size(r sessions.ForeignRecord) int {
	size := len(r.Value)
	for name, value := range r.Hash {
		size += len(name) + len(value)
	}
	return size
}

// bounded holds a session to the limits that Coatcheck's own records have, also where its
// format lets more through.
func bounded(s *sessions.Session) error {
	switch {
	case s == nil || s.UserID == "":
		return sessions.ErrNotFound
	case len(s.UserID) > sessions.MaxUserID:
		return broken("the user ID is too long")
	case len(s.Username) > sessions.MaxUserID:
		return broken("the username is too long")
	case len(s.Roles) > sessions.MaxRoles:
		return broken("it has too many roles")
	case !utf8.ValidString(s.UserID) || !utf8.ValidString(s.Username):
		return broken("the user ID or the username is not UTF-8")
	}
	for _, role := range s.Roles {
		if len(role) > sessions.MaxRole || !utf8.ValidString(role) {
			return broken("a role is too long, or not UTF-8")
		}
	}
	return nil
}

func broken(why string) error { return fmt.Errorf("%w: %s", sessions.ErrBroken, why) }

// due reports whether a record that ends after left is to be slid.
func (s *Sessions) due(left, lifetime time.Duration) bool {
	if lifetime <= 0 || left < 0 {
		return false
	}
	step := min(s.config.Step, lifetime/2)
	if step == 0 {
		step = min(lifetime/10, maxStep)
	}
	return left < lifetime-step
}
