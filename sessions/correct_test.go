package sessions_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/memstore"
)

// An ahead store tells a time that is ahead, and counts how often.
type aheadStore struct {
	sessions.Store
	ahead   time.Duration
	asked   atomic.Int32
	takes   atomic.Int64 // nanoseconds
	refuses atomic.Bool
	hangs   atomic.Bool
}

func (s *aheadStore) Now(ctx context.Context) (time.Time, error) {
	s.asked.Add(1)
	time.Sleep(time.Duration(s.takes.Load()))
	if s.hangs.Load() {
		<-ctx.Done()
		return time.Time{}, ctx.Err()
	}
	if s.refuses.Load() {
		return time.Time{}, errors.New("NOPERM")
	}
	return time.Now().Add(s.ahead), nil
}

func newAhead(t *testing.T, ahead time.Duration) (*aheadStore, *sessions.Manager) {
	t.Helper()
	store := &aheadStore{Store: memstore.New(memstore.Config{}), ahead: ahead}
	return store, newManager(t, store, sessions.Config{})
}

// TestCorrects: without a call of SyncClock the time is the store's: at the first
// session that is made, and after the first check.
func TestCorrects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, m := newAhead(t, 13*time.Hour)
		_, session, err := m.Create(t.Context(), ada)
		is(t, "Create", err, nil)
		if left := time.Until(session.ExpiresAt); left != 25*time.Hour {
			t.Errorf("by the store's clock the session ends in %v less 13h", left)
		}
		if !m.ClockSynced() || store.asked.Load() != 3 {
			t.Errorf("it was asked %d times", store.asked.Load())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		_, m := newAhead(t, 13*time.Hour)
		_, err := m.Touch(t.Context(), sessions.NewID())
		is(t, "a check", err, sessions.ErrNotFound)
		synctest.Wait()
		if m.ClockSynced() {
			t.Error("a check that finds nothing has asked for the time: strangers could cause that")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		store, m := newAhead(t, 13*time.Hour)
		id, _ := create(t, newManager(t, store.Store, sessions.Config{}), ada)
		_, err := m.Touch(t.Context(), id)
		is(t, "a check", err, nil)
		synctest.Wait() // the check has not waited
		if ahead := time.Until(m.Now()); ahead != 13*time.Hour {
			t.Errorf("after a check the time is %v ahead", ahead)
		}
	})
}

// TestCorrectsBehindACheck: a login waits for the time also where a check has asked for
// it and has no answer yet.
func TestCorrectsBehindACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, m := newAhead(t, 13*time.Hour)
		store.takes.Store(int64(20 * time.Millisecond))
		id, _ := create(t, newManager(t, store.Store, sessions.Config{}), ada)
		_, err := m.Touch(t.Context(), id)
		is(t, "a check", err, nil)
		time.Sleep(time.Millisecond) // the question is under way
		_, session, err := m.Create(t.Context(), ada)
		is(t, "Create", err, nil)
		if left := time.Until(session.ExpiresAt).Round(time.Minute); left != 25*time.Hour {
			t.Errorf("by the store's clock the session ends in %v less 13h", left)
		}
		synctest.Wait()
		time.Sleep(time.Second)
	})
}

// TestCorrectsSeldom: a busy manager asks each two seconds, one that is not used never,
// and one whose program asks by itself does not at all.
func TestCorrectsSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, m := newAhead(t, 0)
		id, key := create(t, m, ada)
		asked := store.asked.Load()
		for range 1000 { // ten seconds
			var checks sync.WaitGroup
			for range 4 {
				checks.Go(func() { _, _ = m.Touch(t.Context(), id) })
			}
			checks.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		if n := store.asked.Load() - asked; n < 4 || n > 5 {
			t.Errorf("asked %d times in ten seconds", n)
		}
		time.Sleep(10 * time.Minute)
		if n := store.asked.Load() - asked; n > 5 {
			t.Error("it asks without being used")
		}
		for range 20 {
			is(t, "SyncClock", m.SyncClock(t.Context()), nil)
			synctest.Wait()
			asked = store.asked.Load()
			_, _ = m.Lookup(t.Context(), key)
			_, _, _ = m.List(t.Context(), "42")
			synctest.Wait()
			if store.asked.Load() != asked {
				t.Fatal("it asks beside SyncClock")
			}
			time.Sleep(time.Second)
		}
	})
}

// TestCorrectsInTrouble: a store that does not tell its time delays a login by half a
// second, once, and no check; nothing is left running.
func TestCorrectsInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, m := newAhead(t, 13*time.Hour)
		store.hangs.Store(true)
		start := time.Now()
		id, _ := create(t, m, ada)
		if took := time.Since(start); took != 500*time.Millisecond {
			t.Errorf("the first login took %v", took)
		}
		start = time.Now()
		create(t, m, ada)
		_, err := m.Touch(t.Context(), id)
		is(t, "a check", err, nil)
		if took := time.Since(start); took != 0 {
			t.Errorf("the next ones took %v", took)
		}
		store.hangs.Store(false)
		store.refuses.Store(true)
		time.Sleep(3 * time.Second)
		_, err = m.Touch(t.Context(), id)
		is(t, "a check", err, nil)
		time.Sleep(3 * time.Second)
		store.refuses.Store(false)
		_, err = m.Touch(t.Context(), id)
		is(t, "a check", err, nil)
		synctest.Wait()
		if !m.ClockSynced() {
			t.Error("the time is not known once the store tells it")
		}
	})
}

// TestCorrectsNotByItself where a test moves the clock.
func TestCorrectsNotByItself(t *testing.T) {
	store := &aheadStore{Store: memstore.New(memstore.Config{}), ahead: time.Hour}
	m := newManager(t, store, sessions.Config{Clock: newMachine()})
	id, _ := create(t, m, ada)
	_, err := m.Touch(t.Context(), id)
	is(t, "a check", err, nil)
	if store.asked.Load() != 0 {
		t.Error("it asks")
	}
	is(t, "SyncClock", m.SyncClock(t.Context()), nil)
}
