package sessions

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A Clock is the clock of this machine. Its methods are safe for concurrent use.
type Clock interface {
	// Now is the time of day, which may be set to anything at any moment.
	Now() time.Time
	// Elapsed is the time since some moment. The time of day does not change it.
	Elapsed() time.Duration
}

// systemClock is the clock of Go, which does not count the time for which a machine
// was suspended.
type systemClock struct{ start time.Time }

func (systemClock) Now() time.Time           { return time.Now() }
func (c systemClock) Elapsed() time.Duration { return time.Since(c.start) }

const (
	// late is how long a sample may take at most.
	late = 500 * time.Millisecond
	// slow is how long one may take to be as good as one that is there: with a new
	// connection the answer does not come in the middle.
	slow = 50 * time.Millisecond
	// fresh is for how long a better sample is better than a newer one.
	fresh = time.Minute
	// stale is after how long a slow sample is better than the one that is there.
	stale = 10 * time.Minute
	// doubtful is how far from the present a sample is not believed, until as many in
	// a row as confirming say the same.
	doubtful   = time.Second
	confirming = 3
	// jitter is what clocks and scheduling may add to what a sample cannot tell.
	jitter = 10 * time.Millisecond
	// aged is how old the last question may be when a session is used. A program that
	// calls SyncClock once a second leaves nothing to ask.
	aged = 2 * time.Second
)

// A sample says what the store's clock showed. It is wrong by half of what it took,
// at most.
type sample struct {
	at     time.Duration // of Clock.Elapsed
	theirs time.Time
	took   time.Duration
}

// now is the store's time when the clock shows elapsed.
func (s *sample) now(elapsed time.Duration) time.Time { return s.theirs.Add(elapsed - s.at) }

// ahead is how far s is ahead of another sample.
func (s *sample) ahead(other *sample) time.Duration { return s.theirs.Sub(other.now(s.at)) }

// A clock keeps the store's time: by the best sample and what has elapsed since, so
// that a change of the time of day on this machine changes nothing. Before the first
// sample it goes by the time of day as it was at the start.
type clock struct {
	source Clock
	best   atomic.Pointer[sample]

	manual bool         // only SyncClock asks
	first  sync.Once    // of learn
	asked  atomic.Int64 // when the store was last asked, by Clock.Elapsed; never: -aged before the start
	asking atomic.Bool  // by correct

	mu     sync.Mutex
	synced bool      // best came from the store
	recent []*sample // the last minute's, which agree with best
	doubts []*sample // the last ones in a row, which agree with one another only
}

func newClock(source Clock) *clock {
	c := &clock{source: source, manual: source != nil}
	if source == nil {
		c.source = systemClock{time.Now()}
	}
	c.asked.Store(-int64(aged))
	c.best.Store(&sample{at: c.source.Elapsed(), theirs: c.source.Now().Round(0)})
	return c
}

func (c *clock) now() time.Time { return c.best.Load().now(c.source.Elapsed()) }

// learn takes a sample in. It reports whether another one is needed at once: at the
// start a manager may have to confirm its only one.
func (c *clock) learn(s *sample) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	best := c.best.Load()
	if s.took > late || c.synced && s.took > slow && s.took > 2*best.took && s.at-best.at < stale {
		return false
	}
	off := s.ahead(best).Abs()
	if off > doubtful {
		return c.doubt(s)
	}
	c.doubts = nil
	if !c.synced || off > (s.took+best.took)/2+jitter || s.took > slow {
		c.recent = nil // what is not so, or from this machine, or too old
	}
	c.take(append(c.recent, s))
	return false
}

// doubt keeps a sample that is far from the present, and takes it if as many as it
// needs say the same.
func (c *clock) doubt(s *sample) (again bool) {
	if n := len(c.doubts); n > 0 && s.ahead(c.doubts[n-1]).Abs() > doubtful {
		c.doubts = nil
	}
	c.doubts = append(c.doubts, s)
	if len(c.doubts) < confirming {
		return !c.synced
	}
	c.take(c.doubts)
	c.doubts = nil
	return false
}

// take goes by the shortest of samples that is fresh.
func (c *clock) take(samples []*sample) {
	last := samples[len(samples)-1]
	kept := make([]*sample, 0, len(samples))
	best := last
	for _, s := range samples {
		if last.at-s.at >= fresh {
			continue
		}
		kept = append(kept, s)
		if s.took <= best.took {
			best = s
		}
	}
	c.recent, c.synced = kept, true
	c.best.Store(best)
}

// correct asks the store for its time if that was long ago. The caller does not wait,
// and calls it behind a call that the store has answered: a check costs one round trip,
// and a store that is down is not asked. The question ends by itself.
func (m *Manager) correct() {
	c := m.clock
	if c.manual || c.source.Elapsed()-time.Duration(c.asked.Load()) < aged || !c.asking.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer c.asking.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), late)
		defer cancel()
		_ = m.SyncClock(ctx) // the next use tries again
	}()
}

// learn waits, the first time, for the store's time where it is not known, also if a check
// has just asked for it: what a login writes into a record by a wrong clock stays wrong.
// A store that cannot say leaves this machine's clock.
func (m *Manager) learn(ctx context.Context) {
	if m.clock.manual {
		return
	}
	m.clock.first.Do(func() {
		if !m.ClockSynced() {
			ctx, cancel := context.WithTimeout(ctx, late)
			defer cancel()
			_ = m.SyncClock(ctx)
		}
	})
	m.correct()
}

// SyncClock corrects the manager's clock to the store's, so that replicas with
// wrong clocks agree on who has timed out. A manager corrects it by itself: Create
// waits for that the first time, and each other use has it asked for in the background
// when the last question is two seconds old. Call SyncClock at start, so that the first
// check knows the time already, or once a second, so that it is known after a pause,
// too. A manager with a [Config.Clock] leaves it to its caller.
//
// A manager that never could goes by the local clock as it was at the start.
//
// The best sample of the last minute counts, which is the one that took shortest. A
// sample that took longer than half a second does not count. One that differs by more than a
// second from what was known counts only if the next two say the same. At the start
// the call itself asks for those.
func (m *Manager) SyncClock(ctx context.Context) error {
	for range confirming {
		before := m.clock.source.Elapsed()
		m.clock.asked.Store(int64(before))
		theirs, err := m.store.Now(ctx)
		if err != nil {
			return fmt.Errorf("reading the store's clock: %w", err)
		}
		took := m.clock.source.Elapsed() - before
		if !m.clock.learn(&sample{at: before + took/2, theirs: theirs.Round(0), took: took}) {
			break
		}
	}
	return nil
}

// ClockSynced reports whether [Manager.Now] is the store's time, and no longer the time
// of this machine at the start.
func (m *Manager) ClockSynced() bool {
	m.clock.mu.Lock()
	defer m.clock.mu.Unlock()
	return m.clock.synced
}

// Now is the store's time, as [Manager.SyncClock] has learned it.
func (m *Manager) Now() time.Time { return m.clock.now() }
