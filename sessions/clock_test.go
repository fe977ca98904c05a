package sessions_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// A machine is a clock that a test sets and lets pass.
type machine struct {
	mu      sync.Mutex
	day     time.Time
	elapsed time.Duration
}

func newMachine() *machine { return &machine{day: time.Now()} }

func (m *machine) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.day
}

func (m *machine) Elapsed() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.elapsed
}

// pass lets time pass; set sets the time of day.
func (m *machine) pass(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.day, m.elapsed = m.day.Add(d), m.elapsed+d
}

func (m *machine) set(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.day = m.day.Add(by)
}

// A teller is a store whose clock shows what a test says, and whose answer takes as
// long: the time is read at a part of that.
type teller struct {
	sessions.Store
	machine *machine
	ahead   time.Duration // of the machine as it was set at the start
	start   time.Time
	before  time.Duration // until the clock is read
	after   time.Duration
}

func (t *teller) Now(context.Context) (time.Time, error) {
	t.machine.pass(t.before)
	now := t.start.Add(t.machine.Elapsed() + t.ahead)
	t.machine.pass(t.after)
	return now, nil
}

type clockRig struct {
	*testing.T
	machine *machine
	teller  *teller
	manager *sessions.Manager
}

func newClockRig(t *testing.T) *clockRig {
	t.Helper()
	m := newMachine()
	teller := &teller{machine: m, start: m.day, before: 500 * time.Microsecond, after: 500 * time.Microsecond}
	return &clockRig{T: t, machine: m, teller: teller, manager: newManager(t, teller, sessions.Config{Clock: m})}
}

// sync asks once a second, so many times.
func (r *clockRig) sync(n int) {
	r.Helper()
	for range n {
		is(r.T, "SyncClock", r.manager.SyncClock(r.Context()), nil)
		r.machine.pass(time.Second)
	}
}

// off wants the manager's time to be so far ahead of the true one.
func (r *clockRig) off(what string, want, tolerance time.Duration) {
	r.Helper()
	got := r.manager.Now().Sub(r.teller.start.Add(r.machine.Elapsed()))
	if (got - want).Abs() > tolerance {
		r.Errorf("%s: the time is %v ahead, want %v", what, got, want)
	}
}

// TestClockIsSet: however often the time of day is set, the time
// goes on.
func TestClockIsSet(t *testing.T) {
	for _, by := range []time.Duration{24 * time.Hour, -24 * time.Hour, 40 * 365 * 24 * time.Hour, 300 * time.Millisecond} {
		r := newClockRig(t)
		r.machine.set(by)
		r.off("before the first sample", 0, 0)
		r.sync(3)
		r.machine.set(by)
		r.off("afterwards", 0, time.Millisecond)
		r.sync(70)
		r.off("a minute later", 0, time.Millisecond)
	}
}

// TestClockDoubts: a wrong sample, or two of them, change nothing; what the store's
// clock shows for good is taken.
func TestClockDoubts(t *testing.T) {
	for _, ahead := range []time.Duration{13 * time.Hour, -13 * time.Hour, 24 * time.Hour, 1500 * time.Millisecond} {
		r := newClockRig(t)
		r.sync(5)
		for range 3 {
			r.teller.ahead = ahead
			r.sync(2)
			r.off("two wrong samples", 0, time.Millisecond)
			r.teller.ahead = 0
			r.sync(1)
		}
		r.teller.ahead = ahead
		r.sync(1)
		r.teller.ahead = -ahead
		r.sync(2)
		r.teller.ahead = ahead
		r.sync(2)
		r.off("samples that do not agree", 0, time.Millisecond)
		r.sync(1)
		r.off("three in a row", ahead, time.Millisecond)
	}
}

// TestClockAtStart: one call is enough where the store's clock is another one, and
// a first sample that the next ones do not confirm is not believed.
func TestClockAtStart(t *testing.T) {
	r := newClockRig(t)
	r.teller.ahead = 13 * time.Hour
	r.sync(1)
	r.off("another clock", 13*time.Hour, time.Millisecond)

	r = newClockRig(t)
	once := &wrongOnce{Store: r.teller}
	r.manager = newManager(t, once, sessions.Config{Clock: r.machine})
	r.sync(1)
	r.off("one wrong sample", 0, time.Millisecond)
}

// A wrongOnce tells the wrong time once.
type wrongOnce struct {
	sessions.Store
	told bool
}

func (w *wrongOnce) Now(ctx context.Context) (time.Time, error) {
	now, err := w.Store.Now(ctx)
	if !w.told {
		w.told, now = true, now.Add(13*time.Hour)
	}
	return now, err
}

// TestClockSlowSamples: an answer that took long, and whose time was read at its
// end, moves nothing while there is a better one.
func TestClockSlowSamples(t *testing.T) {
	r := newClockRig(t)
	r.sync(2)
	for _, took := range []time.Duration{20 * time.Millisecond, 49 * time.Millisecond, 200 * time.Millisecond, 490 * time.Millisecond, 3 * time.Second} {
		r.teller.before, r.teller.after = took, 0
		r.sync(1)
		r.off("a slow sample", 0, time.Millisecond)
		r.teller.before, r.teller.after = 0, took
		r.sync(1)
		r.off("a slow sample", 0, time.Millisecond)
	}
	// Where all are slow, the shortest counts.
	r = newClockRig(t)
	r.teller.before, r.teller.after = 60*time.Millisecond, 60*time.Millisecond
	r.sync(3)
	r.off("all are slow", 0, time.Millisecond)
}

// TestClockDrifts: a clock that goes a little wrong is followed, and one that is set
// by less than a second is taken at once.
func TestClockDrifts(t *testing.T) {
	r := newClockRig(t)
	for range 600 {
		r.sync(1)
		r.teller.ahead += 100 * time.Microsecond
	}
	r.off("after ten minutes", r.teller.ahead, 10*time.Millisecond)
	r.teller.ahead += 700 * time.Millisecond
	r.sync(1)
	r.off("set by less than a second", r.teller.ahead, time.Millisecond)
}

// TestWrongClockEndsNothing: the store's clock is 13 hours ahead, for one sample or for
// good. Sessions that are used meanwhile, or listed, or beside which one logs in, are
// there when it is right again.
func TestWrongClockEndsNothing(t *testing.T) {
	store, redis := newStore(t)
	for name, samples := range map[string]int{"one sample": 1, "for good": 5} {
		t.Run(name, func(t *testing.T) {
			redis.FlushAll(t.Context())
			m := newMachine()
			teller := &teller{Store: store, machine: m, start: m.day}
			manager := newManager(t, teller, sessions.Config{Clock: m})
			is(t, "SyncClock", manager.SyncClock(t.Context()), nil)
			ids := make([]sessions.ID, 6)
			for i := range ids {
				ids[i], _ = create(t, manager, ada)
			}
			teller.ahead = 13 * time.Hour
			for range samples {
				is(t, "SyncClock", manager.SyncClock(t.Context()), nil)
			}
			for _, id := range ids[:5] {
				_, err := manager.Touch(t.Context(), id)
				if samples == 1 {
					is(t, "Touch meanwhile", err, nil)
				} else {
					is(t, "Touch meanwhile", err, sessions.ErrExpired)
				}
			}
			_, _, err := manager.List(t.Context(), "42")
			is(t, "List meanwhile", err, nil)
			teller.ahead = 0
			for range 5 {
				is(t, "SyncClock", manager.SyncClock(t.Context()), nil)
			}
			create(t, manager, ada)
			for _, id := range ids {
				_, err := manager.Touch(t.Context(), id)
				is(t, "Touch", err, nil)
			}
			if list, _, err := manager.List(t.Context(), "42"); err != nil || len(list) != 7 {
				t.Errorf("%d are listed of 7, %v", len(list), err)
			}
			if n, err := manager.RevokeUser(t.Context(), "42"); err != nil || n != 7 {
				t.Errorf("%d of 7 were revoked, %v", n, err)
			}
		})
	}
}
