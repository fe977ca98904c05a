package redisstore_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

const (
	// enough is how long a check may take where nothing is wrong: two busy cores
	// may keep it waiting.
	enough = 30 * time.Second
	// checkTimeout is how long one may take in production. It is for tests in which
	// it passes.
	checkTimeout = 150 * time.Millisecond
	// heldUp is how late one may end that should have ended after checkTimeout: less than
	// a Redis that is silent holds up a call without a deadline, and more than a busy
	// machine.
	heldUp = 15 * time.Second
)

// check touches as a check does, and returns how long that took.
func check(m *sessions.Manager, id sessions.ID, timeout time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	start := time.Now()
	_, err := m.Touch(ctx, id)
	return time.Since(start), err
}

// A checked call of a load.
type checked struct {
	end  time.Time
	took time.Duration
	id   sessions.ID
	err  error
}

// A load is callers that check one session after another.
type load struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	mu      sync.Mutex
	calls   []checked
	turns   []int // of each caller
}

// startLoad checks ids with so many callers at once until it is stopped, at the
// latest with the test.
func startLoad(t *testing.T, m *sessions.Manager, callers int, timeout time.Duration, ids ...sessions.ID) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, turns: make([]int, callers)}
	for i := range callers {
		l.running.Go(func() {
			for j := i; ctx.Err() == nil; j++ {
				id := ids[j%len(ids)]
				took, err := check(m, id, timeout)
				l.mu.Lock()
				l.calls = append(l.calls, checked{time.Now(), took, id, err})
				l.turns[i]++
				l.mu.Unlock()
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { l.end() })
	return l
}

// end stops the callers and returns all calls, in the order of their ends.
func (l *load) end() []checked {
	l.stop()
	l.running.Wait()
	return l.calls
}

// between returns the calls that ended in a time.
func (l *load) between(from, to time.Time) []checked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.calls), func(c checked) bool { return c.end.Before(from) || !c.end.Before(to) })
}

// await waits until the calls that ended since then are as they should be.
func (l *load) await(t *testing.T, since time.Time, what string, well func([]checked) bool) {
	t.Helper()
	for !well(l.between(since, time.Now())) {
		if time.Since(since) > time.Minute {
			t.Fatalf("not %s within a minute", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// turn waits until each caller has begun and ended a call.
func (l *load) turn(t *testing.T) {
	t.Helper()
	now := func() []int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return slices.Clone(l.turns)
	}
	before, since := now(), time.Now()
	for i := range before {
		for now()[i] < before[i]+2 { // the first may have begun earlier
			if time.Since(since) > time.Minute {
				t.Fatal("a caller makes no call within a minute")
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// replicated waits until replicas have as many keys as their master.
func replicated(t *testing.T, master *redistest.Server, replicas ...*redistest.Server) {
	t.Helper()
	size := func(s *redistest.Server) int64 {
		client := s.Client()
		defer client.Close()
		return client.DBSize(t.Context()).Val()
	}
	want, since := size(master), time.Now()
	for _, replica := range replicas {
		for size(replica) != want {
			if time.Since(since) > time.Minute {
				t.Fatal("a replica is not in step within a minute")
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// failed returns the calls that told nothing about the session, and fails the
// test if one told that it is gone.
func failed(t *testing.T, calls []checked) []checked {
	t.Helper()
	var bad []checked
	for _, c := range calls {
		switch {
		case errors.Is(c.err, sessions.ErrNotFound), errors.Is(c.err, sessions.ErrBroken):
			t.Errorf("a session that is there: %v", c.err)
		case c.err != nil:
			bad = append(bad, c)
		}
	}
	return bad
}

// quantiles are the median, the 99th percentile and the greatest duration.
func quantiles(calls []checked) (p50, p99, most time.Duration) {
	if len(calls) == 0 {
		return 0, 0, 0
	}
	took := make([]time.Duration, len(calls))
	for i, c := range calls {
		took[i] = c.took
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
}

// untilServed waits for a check that succeeds, and returns how long that was
// after a time.
func untilServed(t *testing.T, m *sessions.Manager, since time.Time, ids ...sessions.ID) time.Duration {
	t.Helper()
	for _, id := range ids {
		for {
			_, err := check(m, id, enough)
			if err == nil {
				break
			}
			if time.Since(since) > time.Minute {
				t.Fatalf("not served after a minute: %v", err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return time.Since(since).Round(time.Millisecond)
}

// logins makes sessions.
func logins(t *testing.T, m *sessions.Manager, n int) []sessions.ID {
	t.Helper()
	ids := make([]sessions.ID, n)
	for i := range ids {
		var err error
		if ids[i], _, err = m.Create(t.Context(), sessions.NewSession{UserID: "42"}); err != nil {
			t.Fatal(err)
		}
	}
	return ids
}
