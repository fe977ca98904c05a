package foreign

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

const (
	// maxSlides bounds the slides that wait, and maxSliders those under way, which must not
	// take the connections of checks. One that finds no room is due for the next request.
	maxSlides  = 4096
	maxSliders = 4
	// slideTimeout bounds one attempt, slidePause is the time before the next one, and
	// slideFor is how long after the use the last one begins: enough for Redis to hang for a
	// moment, and too short to keep a session for much longer than its use did.
	slideTimeout = 500 * time.Millisecond
	slidePause   = 200 * time.Millisecond
	slideFor     = 3 * time.Second
	// closing is how long Close waits.
	closing = time.Second
)

// A slider slides records in the background, by goroutines that end where there is nothing
// to do.
type slider struct {
	store Store
	ctx   context.Context
	stop  context.CancelCauseFunc

	mu      sync.Mutex
	queue   []slide
	pending map[[sha256.Size]byte]bool // in the queue or under way: many requests come at once
	workers int
	closed  bool
	running sync.WaitGroup
}

type slide struct {
	id       sessions.ID
	sum      [sha256.Size]byte
	lifetime time.Duration
	until    time.Time // of attempts
}

func newSlider(store Store) *slider {
	s := &slider{store: store, pending: make(map[[sha256.Size]byte]bool)}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	return s
}

// slide never waits.
func (s *slider) slide(id sessions.ID, lifetime time.Duration) {
	sum := id.Sum()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.pending[sum] || len(s.queue) >= maxSlides {
		return
	}
	s.pending[sum] = true
	s.queue = append(s.queue, slide{id, sum, lifetime, time.Now().Add(slideFor)})
	if s.workers < maxSliders {
		s.workers++
		s.running.Go(s.work)
	}
}

func (s *slider) work() {
	for {
		next, ok := s.next()
		if !ok {
			return
		}
		s.try(next)
		s.mu.Lock()
		delete(s.pending, next.sum)
		s.mu.Unlock()
	}
}

func (s *slider) next() (slide, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.workers--
		s.queue = nil // which a burst has made long
		return slide{}, false
	}
	next := s.queue[0]
	s.queue[0] = slide{}
	s.queue = s.queue[1:]
	return next, true
}

// try extends the record. A record that is gone, or of another type now, needs no slide.
func (s *slider) try(next slide) {
	for time.Now().Before(next.until) {
		ctx, cancel := context.WithTimeout(s.ctx, slideTimeout)
		err := s.store.Extend(ctx, next.id, next.lifetime)
		cancel()
		if err == nil || sessions.Absent(err) || !s.pause() {
			return
		}
	}
}

// pause waits for the next attempt, and reports whether there is to be one.
func (s *slider) pause() bool {
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(slidePause):
		return true
	}
}

func (s *slider) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	timer := time.AfterFunc(closing, func() { s.stop(errClosed) })
	defer timer.Stop()
	s.running.Wait()
	s.stop(errClosed)
}

var errClosed = errors.New("closed")
