package memstore

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// ErrFull says that there is no room for another session or counter.
var ErrFull = errors.New("memstore is full")

// DefaultLimit is how many sessions, or counters, there may be unless configured
// otherwise.
const DefaultLimit = 100_000

// Config says by which clock things end, and how many there may be. The zero Config is
// ready.
type Config struct {
	// Clock is the clock by which records and counters end. Nil: the system's. Give a
	// [sessions.Manager] the same one.
	Clock sessions.Clock
	// Limit bounds the sessions of a [Store], those included whose record has ended and
	// whose entry is still listed, or the counters of [Counters]. Zero: [DefaultLimit].
	Limit int
}

func (c Config) withDefaults() Config {
	if c.Clock == nil {
		c.Clock = new(Clock)
	}
	c.Limit = cmp.Or(c.Limit, DefaultLimit)
	return c
}

// longestLogin is how long a login may take, as with the store in Redis.
const longestLogin = 10 * time.Minute

// A Store implements [sessions.Store]. It is safe for concurrent use, and every method
// is one step: no other call sees the middle of it.
type Store struct {
	config Config

	mu      sync.Mutex
	records map[sessions.Key]*record
	users   map[string]map[sessions.Key]time.Time // what is listed, with its absolute timeout
	listed  int
	marks   map[string]time.Time // by the monotonic clock of this process, as logins begin
}

type record struct {
	fields sessions.Record
	end    time.Time
}

var (
	_ sessions.Store   = (*Store)(nil)
	_ sessions.Scanner = (*Store)(nil)
)

// New returns an empty Store.
func New(config Config) *Store {
	return &Store{
		config:  config.withDefaults(),
		records: make(map[sessions.Key]*record),
		users:   make(map[string]map[sessions.Key]time.Time),
		marks:   make(map[string]time.Time),
	}
}

// enter begins a call, at a moment, unless its context is done.
func (s *Store) enter(ctx context.Context) (now time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return now, err
	}
	s.mu.Lock()
	return s.config.Clock.Now(), nil
}

// live is a record that is there; one whose end has come leaves the memory.
func (s *Store) live(key sessions.Key, now time.Time) (*record, error) {
	r, ok := s.records[key]
	switch {
	case !ok:
		return nil, sessions.ErrNotFound
	case !now.Before(r.end):
		delete(s.records, key)
		return nil, sessions.ErrNotFound
	}
	return r, nil
}

// Create stores a record and lists it. It returns [ErrFull] where there is no room.
func (s *Store) Create(ctx context.Context, c sessions.CreateParams) (listed int, err error) {
	began := c.Began
	if began.IsZero() {
		began = time.Now()
	}
	now, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	switch mark, marked := s.marks[c.UserID]; {
	case time.Since(began) > longestLogin:
		return 0, errors.New("the login began more than ten minutes ago")
	case marked && !began.After(mark):
		return 0, sessions.ErrEnded
	}
	if s.listed >= s.config.Limit {
		if s.sweep(now); s.listed >= s.config.Limit {
			return 0, ErrFull
		}
	}
	s.records[c.Key] = &record{maps.Clone(c.Record), c.Expiry}
	s.list(c.UserID, c.Key, c.Absolute)
	return len(s.users[c.UserID]), nil
}

func (s *Store) list(userID string, key sessions.Key, absolute time.Time) {
	keys := s.users[userID]
	if keys == nil {
		keys = make(map[sessions.Key]time.Time)
		s.users[userID] = keys
	}
	if _, there := keys[key]; !there {
		s.listed++
	}
	keys[key] = absolute
}

func (s *Store) unlist(userID string, key sessions.Key) {
	keys := s.users[userID]
	if _, there := keys[key]; !there {
		return
	}
	s.listed--
	if delete(keys, key); len(keys) == 0 {
		delete(s.users, userID)
	}
}

// sweep makes room: it forgets what has ended, and the entries that name nothing.
func (s *Store) sweep(now time.Time) {
	for userID, keys := range s.users {
		for key := range keys {
			if _, err := s.live(key, now); err != nil {
				s.unlist(userID, key)
			}
		}
	}
	for key := range s.records { // what is no user's list's
		_, _ = s.live(key, now)
	}
}

// Mark ends the user's logins that are under way.
func (s *Store) Mark(ctx context.Context, userID string) error {
	mark := time.Now()
	if _, err := s.enter(ctx); err != nil {
		return err
	}
	s.marks[userID] = mark
	maps.DeleteFunc(s.marks, func(_ string, mark time.Time) bool { return time.Since(mark) > 2*longestLogin })
	s.mu.Unlock()
	for !time.Now().After(mark) { // so that a login that begins afterwards is younger
		time.Sleep(time.Nanosecond)
	}
	return nil
}

// Touch reads the named fields and moves the record's end.
func (s *Store) Touch(ctx context.Context, key sessions.Key, until time.Time, names []string) (sessions.Record, time.Duration, error) {
	now, err := s.enter(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer s.mu.Unlock()
	r, err := s.live(key, now)
	if err != nil {
		return nil, 0, err
	}
	if until.After(r.end) {
		r.end = until
	}
	return r.named(names), r.end.Sub(now), nil
}

// named is a copy of some fields, or of all where names is nil.
func (r *record) named(names []string) sessions.Record {
	if names == nil {
		return maps.Clone(r.fields)
	}
	some := make(sessions.Record, len(names))
	for _, name := range names {
		if value, ok := r.fields[name]; ok {
			some[name] = value
		}
	}
	return some
}

// Read reads records without moving their ends.
func (s *Store) Read(ctx context.Context, names []string, keys ...sessions.Key) ([]sessions.Entry, error) {
	now, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	entries := make([]sessions.Entry, len(keys))
	for i, key := range keys {
		entries[i] = s.entry(key, names, now)
	}
	return entries, nil
}

func (s *Store) entry(key sessions.Key, names []string, now time.Time) sessions.Entry {
	r, err := s.live(key, now)
	if err != nil {
		return sessions.Entry{Err: err}
	}
	return sessions.Entry{Record: r.named(names), TTL: r.end.Sub(now)}
}

// Add adds fields to a record, all or none.
func (s *Store) Add(ctx context.Context, key sessions.Key, fields map[string]string) error {
	now, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	r, err := s.live(key, now)
	if err != nil {
		return err
	}
	for name := range fields {
		if _, taken := r.fields[name]; taken {
			return sessions.ErrFieldExists
		}
	}
	maps.Copy(r.fields, fields)
	return nil
}

// Expire moves the record's end, never to a later time.
func (s *Store) Expire(ctx context.Context, key sessions.Key, at time.Time) error {
	now, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer s.mu.Unlock()
	if r, err := s.live(key, now); err == nil && at.Before(r.end) {
		r.end = at
	}
	return nil
}

// Delete removes records and counts those that were there.
func (s *Store) Delete(ctx context.Context, userID string, keys ...sessions.Key) (n int, err error) {
	now, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	for _, key := range keys {
		if _, err := s.live(key, now); err == nil {
			delete(s.records, key)
			s.unlist(userID, key)
			n++
		}
	}
	return n, nil
}

// entries are a user's listed keys, the last absolute timeout first. An entry whose
// record is gone leaves the list at its absolute timeout.
func (s *Store) entries(userID string, now time.Time) []sessions.Key {
	var keys []sessions.Key
	for key, absolute := range s.users[userID] {
		if _, err := s.live(key, now); err != nil && !now.Before(absolute) {
			s.unlist(userID, key)
			continue
		}
		keys = append(keys, key)
	}
	ends := s.users[userID]
	slices.SortFunc(keys, func(a, b sessions.Key) int {
		return cmp.Or(ends[b].Compare(ends[a]), strings.Compare(string(b), string(a)))
	})
	return keys
}

// UserKeys lists the keys of a user's sessions.
func (s *Store) UserKeys(ctx context.Context, userID string) ([]sessions.Key, error) {
	now, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	return s.entries(userID, now), nil
}

// List reads up to n of a user's records, those first whose absolute timeout is last.
func (s *Store) List(ctx context.Context, userID string, names []string, n int) (list []sessions.Listed, more int, err error) {
	now, err := s.enter(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer s.mu.Unlock()
	for _, key := range s.entries(userID, now) {
		entry := s.entry(key, names, now)
		switch {
		case entry.Err != nil:
		case len(list) < n:
			list = append(list, sessions.Listed{Key: key, Entry: entry})
		default:
			more++
		}
	}
	return list, more, nil
}

// Find lists up to limit keys of records whose hash begins with prefix.
func (s *Store) Find(ctx context.Context, prefix string, limit int) ([]sessions.Key, error) {
	now, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer s.mu.Unlock()
	var found []sessions.Key
	for key := range s.records {
		if _, err := s.live(key, now); err == nil && strings.HasPrefix(key.Hash(), prefix) {
			found = append(found, key)
		}
	}
	slices.Sort(found)
	return found[:min(limit, len(found))], nil
}

// scanPage is how many records a page of Scan has at most.
const scanPage = 100

// Scan implements [sessions.Scanner]. It yields the records that are there when it begins,
// unless they end before their page.
func (s *Store) Scan(ctx context.Context, names []string) iter.Seq2[sessions.Page, error] {
	return func(yield func(sessions.Page, error) bool) {
		keys, err := s.Find(ctx, "", math.MaxInt)
		for n := len(keys); err == nil; {
			some := keys[:min(scanPage, len(keys))]
			keys = keys[len(some):]
			var entries []sessions.Entry
			if entries, err = s.Read(ctx, names, some...); err != nil {
				break
			}
			page := sessions.Page{Done: 1 - float64(len(keys))/float64(max(1, n))}
			for i, entry := range entries {
				if entry.Err == nil {
					page.Records = append(page.Records, sessions.Listed{Key: some[i], Entry: entry})
				}
			}
			if !yield(page, nil) || len(keys) == 0 {
				return
			}
		}
		yield(sessions.Page{}, err)
	}
}

// Now is the time by the store's clock.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	return s.config.Clock.Now(), ctx.Err()
}
