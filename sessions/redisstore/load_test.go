package redisstore_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

const (
	// enough is how long a check may take where nothing is wrong: two busy cores
	// may keep it waiting.
	enough = 10 * time.Second
	// checkTimeout is how long one may take in production. It is for tests in which
	// it passes.
	checkTimeout = 150 * time.Millisecond
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
}

// startLoad checks ids with so many callers at once until it is stopped, at the
// latest with the test.
func startLoad(t *testing.T, m *sessions.Manager, callers int, timeout time.Duration, ids ...sessions.ID) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop}
	for i := range callers {
		l.running.Go(func() {
			for j := i; ctx.Err() == nil; j++ {
				id := ids[j%len(ids)]
				took, err := check(m, id, timeout)
				l.mu.Lock()
				l.calls = append(l.calls, checked{time.Now(), took, id, err})
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
			if time.Since(since) > 30*time.Second {
				t.Fatalf("not served after 30 s: %v", err)
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
