package nearcache

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// A Source reads sessions: *[sessions.Manager] is one.
type Source interface {
	Fetch(ctx context.Context, key sessions.Key, f sessions.Fetch) (*sessions.Session, time.Duration, error)
	Unexpired(s *sessions.Session) bool
	Config() sessions.Config
}

// Sessions answers checks from a cache, and from its source where the cache cannot. It is
// safe for concurrent use.
type Sessions struct {
	cache      *Cache
	source     Source
	live       func(*sessions.Session) bool
	idle, step time.Duration
	missing    func(error) error
}

// A holder is a source that may say for a while that it cannot tell of a session that is
// missing, as one that has lost its data.
type holder interface{ Missing(err error) error }

// Sessions returns the sessions of source through the cache. [Sessions.Run] does its work
// in the background.
func (c *Cache) Sessions(source Source) *Sessions {
	config := source.Config()
	s := &Sessions{cache: c, source: source, live: source.Unexpired, idle: config.IdleTimeout, step: config.IdleStep}
	s.missing = func(err error) error { return err }
	if h, ok := source.(holder); ok {
		s.missing = h.Missing
	}
	return s
}

// Touch is that of [sessions.Manager], from the cache where it can be. The session may
// have application fields beside those asked for, which another caller has asked for. It
// is shared: callers only read it. A session that is found in the cache is slid in the
// background, once a step.
func (s *Sessions) Touch(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error) {
	sum := sum(id.Sum())
	session, ok, err := s.look(sum, fields, true)
	if ok || err != nil {
		return session, err
	}
	return s.fetch(ctx, sum, sessions.Fetch{Slide: true, Fields: s.merge(sum, fields)})
}

// Peek is Touch from the cache alone. It reports whether the cache has the session; its
// error is nil or [sessions.ErrNotFound], where the store has just said so, or what a
// source with a method Missing(error) error makes of that. It never waits, and allocates
// nothing. With the Touch that follows it is one look for the metrics.
func (s *Sessions) Peek(id sessions.ID, fields []string) (session *sessions.Session, ok bool, err error) {
	return s.look(sum(id.Sum()), fields, false)
}

func (s *Sessions) look(sum sum, fields []string, asks bool) (session *sessions.Session, ok bool, err error) {
	session, found, slide := s.cache.get(sum, fields, s.live, asks)
	if slide && !s.cache.enqueue(task{sum: sum, slide: true}) {
		s.cache.postpone(sum, retryAfter)
	}
	switch found {
	case hit:
		return session, true, nil
	case unknown:
		return nil, false, s.missing(sessions.ErrNotFound)
	}
	return nil, false, nil
}

// maxFields is how many fields of several callers an entry may have.
const maxFields = 64

// merge adds the fields that the entry has: else two callers that ask for different ones
// would take turns.
func (s *Sessions) merge(sum sum, fields []string) []string {
	held := s.cache.fieldsOf(sum)
	if len(held) == 0 || len(held)+len(fields) > maxFields {
		return fields
	}
	merged := slices.Clone(fields)
	for _, field := range held {
		if !slices.Contains(merged, field) {
			merged = append(merged, field)
		}
	}
	return merged
}

// fetch asks the source, and keeps what it says.
func (s *Sessions) fetch(ctx context.Context, sum sum, f sessions.Fetch) (*sessions.Session, error) {
	reserved, ok := s.cache.reserve(sum)
	session, left, err := s.source.Fetch(ctx, sessions.KeyOf(sum), f)
	switch {
	case !ok:
	case err == nil:
		due := left - s.idle
		s.cache.keep(reserved, session, f.Fields, left, due, max(due, 0)+s.step)
	case errors.Is(err, sessions.ErrNotFound):
		s.cache.keepUnknown(reserved)
	case sessions.Absent(err) || errors.Is(err, sessions.ErrLayout):
		s.cache.forget(sum) // it is no session any more
	}
	return session, err
}

const (
	// queueLength and workers bound the work in the background: what does not fit is
	// done by the checks themselves, later.
	queueLength = 4096
	workers     = 4
	// taskTimeout bounds one task, and retryAfter is when a task that failed is tried
	// again, if the session is still used.
	taskTimeout = 500 * time.Millisecond
	retryAfter  = 100 * time.Millisecond
)

// A task is one session to be read in the background.
type task struct {
	sum    sum
	fields []string
	slide  bool // because it was used; else because its record has changed
}

// enqueue never waits. It reports whether there was room.
func (c *Cache) enqueue(t task) bool {
	select {
	case c.queue <- t:
		return true
	default:
		c.metrics.background(t.slide, dropped)
		return false
	}
}

// Run slides sessions that are used, and reads again those whose records have changed,
// until ctx is done.
func (s *Sessions) Run(ctx context.Context) {
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case t := <-s.cache.queue:
					s.do(ctx, t)
				}
			}
		})
	}
	running.Wait()
}

// do is one task. The entry stays while it is slid; a store that does not answer leaves
// it, and the lease decides for how long.
func (s *Sessions) do(ctx context.Context, t task) {
	ctx, cancel := context.WithTimeout(ctx, taskTimeout)
	defer cancel()
	fields := t.fields
	if t.slide {
		fields = s.cache.fieldsOf(t.sum)
	}
	_, err := s.fetch(ctx, t.sum, sessions.Fetch{Slide: t.slide, Fields: fields})
	if err == nil || sessions.Absent(err) {
		s.cache.metrics.background(t.slide, done)
		return
	}
	s.cache.metrics.background(t.slide, failed)
	if t.slide {
		s.cache.postpone(t.sum, retryAfter)
	}
}
