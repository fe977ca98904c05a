package memstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/memstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
	"github.com/coatcheck/coatcheck/sessions/storetest"
	"github.com/coatcheck/coatcheck/sessions/throttle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// TestExamples: an example shows every exported name.
// The methods of Store are those of sessions.Store, which a manager calls.
func TestExamples(t *testing.T) {
	docstest.Examples(t, "sessions/memstore", "Store.Create", "Store.Mark", "Store.Touch", "Store.Read", "Store.Add", "Store.Expire",
		"Store.Delete", "Store.UserKeys", "Store.List", "Store.Find", "Store.Scan", "Store.Now")
}

// TestConformance holds every clause of sessions.Store.
func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) sessions.Store { return memstore.New(memstore.Config{}) })
	storetest.RunScanner(t, func(*testing.T) sessions.Store { return memstore.New(memstore.Config{}) })
}

// TestConformanceOfOne: tests that share a store do not see one another.
func TestConformanceOfOne(t *testing.T) {
	store := memstore.New(memstore.Config{})
	storetest.Run(t, func(*testing.T) sessions.Store { return store })
}

type rig struct {
	*testing.T
	clock   *memstore.Clock
	store   *memstore.Store
	manager *sessions.Manager
}

func newRig(t *testing.T, limit int) rig {
	t.Helper()
	clock := new(memstore.Clock)
	store := memstore.New(memstore.Config{Clock: clock, Limit: limit})
	manager, err := sessions.NewManager(store, sessions.Config{Clock: clock, MaxPerUser: -1})
	if err != nil {
		t.Fatal(err)
	}
	return rig{t, clock, store, manager}
}

func (r rig) create() sessions.ID {
	r.Helper()
	id, _, err := r.manager.Create(r.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		r.Fatal(err)
	}
	return id
}

// touch wants a check to end with an error, or with none.
func (r rig) touch(what string, id sessions.ID, want error) {
	r.Helper()
	if _, err := r.manager.Touch(r.Context(), id); !errors.Is(err, want) {
		r.Errorf("%s: %v, want %v", what, err, want)
	}
}

// TestClock: a test moves the clock, and both limits are held to it.
func TestClock(t *testing.T) {
	r := newRig(t, 0)
	idle, used := r.create(), r.create()
	for range 24 {
		r.clock.Advance(29 * time.Minute)
		r.touch("one that is used", used, nil)
		if now, err := r.store.Now(t.Context()); err != nil || r.manager.Now().Sub(now).Abs() > time.Minute {
			t.Fatalf("the store's clock shows %v, %v, and the manager's %v", now, err, r.manager.Now())
		}
	}
	r.touch("an idle one", idle, sessions.ErrNotFound)
	r.clock.Advance(-time.Hour)
	r.touch("one that has ended, with the clock back", idle, sessions.ErrNotFound)
	r.touch("one that is used, with the clock back", used, nil)
	r.clock.Advance(2 * time.Hour)
	r.touch("past its absolute timeout", used, sessions.ErrNotFound)
}

// TestLimit: the memory is bounded, and what has ended makes room.
func TestLimit(t *testing.T) {
	r := newRig(t, 10)
	var ids []sessions.ID
	for range 10 {
		ids = append(ids, r.create())
	}
	if _, _, err := r.manager.Create(t.Context(), sessions.NewSession{UserID: "43"}); !errors.Is(err, memstore.ErrFull) || sessions.Absent(err) {
		t.Fatalf("an eleventh session: %v", err)
	}
	r.touch("the first", ids[0], nil)
	if err := r.manager.Revoke(t.Context(), ids[0].Key()); err != nil {
		t.Fatal(err)
	}
	r.create()
	r.clock.Advance(31 * time.Minute)
	for range 10 {
		r.create()
	}
	if list, more, err := r.manager.List(t.Context(), "42"); len(list) != 10 || more != 0 || err != nil {
		t.Errorf("%d listed, %d more, %v", len(list), more, err)
	}
	if keys, err := r.store.UserKeys(t.Context(), "42"); len(keys) != 10 || err != nil {
		t.Errorf("%d listed, %v", len(keys), err)
	}
}

// TestCopies: what a caller does to its maps changes no record.
func TestCopies(t *testing.T) {
	r := newRig(t, 0)
	fields := map[string]string{"a": "1"}
	_, s, err := r.manager.Create(t.Context(), sessions.NewSession{UserID: "42", Fields: fields})
	if err != nil {
		t.Fatal(err)
	}
	fields["a"] = "2"
	entries, _ := r.store.Read(t.Context(), nil, s.Key)
	entries[0].Record["a"] = "3"
	if got, err := r.manager.Inspect(t.Context(), s.Key); err != nil || got.Fields["a"] != "1" {
		t.Errorf("%v, %v", got, err)
	}
}

// TestLongLogin: a mark that may be forgotten must not have been needed.
func TestLongLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		began := time.Now()
		if _, err := r.manager.RevokeUser(t.Context(), "42"); err != nil {
			t.Fatal(err)
		}
		for _, age := range []time.Duration{0, 9 * time.Minute, time.Hour} {
			time.Sleep(time.Until(began.Add(age)))
			_, _, err := r.manager.Create(t.Context(), sessions.NewSession{UserID: "42", Began: began})
			if err == nil || errors.Is(err, sessions.ErrEnded) != (age < time.Hour) {
				t.Errorf("a login that began %v ago: %v", age, err)
			}
		}
	})
}

// TestRace: checks, logins and revocations at once, for the race detector, and no
// session that a revocation has seen lives on.
func TestRace(t *testing.T) {
	r := newRig(t, 0)
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			for range 200 {
				user := fmt.Sprint("user", i%3)
				id, s, err := r.manager.Create(t.Context(), sessions.NewSession{UserID: user})
				if err != nil {
					continue // ended meanwhile
				}
				_, _ = r.manager.Touch(t.Context(), id)
				_ = r.manager.Add(t.Context(), s.Key, map[string]string{"a": "1"})
				if _, err := r.manager.RevokeUser(t.Context(), user); err != nil {
					t.Error(err)
				}
				if _, err := r.manager.Touch(t.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
					t.Errorf("after its revocation: %v", err)
				}
				r.clock.Advance(time.Second)
			}
		})
	}
	running.Wait()
}

// A counting is a counter rule at a key.
func counting(key string, free int, first, longest time.Duration) throttle.Counter {
	return throttle.Counter{Key: "throttle:{login}:" + key, Free: free, First: first, Longest: longest}
}

// TestCountersAsRedis: any calls get the same answers as from Redis. No delay of these
// is over while the test runs.
func TestCountersAsRedis(t *testing.T) {
	config := redisstore.At(redistest.Start(t).Addr)
	config.Password, config.DialTimeout, config.ReadTimeout, config.WriteTimeout, config.PoolTimeout = redistest.Password, 10*time.Second, 10*time.Second, 10*time.Second, 10*time.Second
	client, err := redisstore.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	inRedis, here := redisstore.NewCounters(client), memstore.NewCounters(memstore.Config{})
	known := "throttle:{login}:known"
	counters := []throttle.Counter{
		counting("a", 1, time.Minute, time.Hour), counting("b", 3, time.Minute, time.Hour),
		counting("c", 2, time.Hour, 3*time.Hour), counting("d", 5, time.Minute, time.Minute),
	}
	counters[2].Unless, counters[3].Unless = known, "throttle:{login}:d"
	pick := func(n int) int {
		i, _ := rand.Int(rand.Reader, big.NewInt(int64(n)))
		return int(i.Int64())
	}
	waits := 0
	for i := range 3000 {
		var some []throttle.Counter
		for _, c := range counters {
			if pick(2) == 0 {
				some = append(some, c)
			}
		}
		var a, b time.Duration
		var errA, errB error
		switch pick(12) {
		case 0:
			key := counters[pick(4)].Key
			errA, errB = inRedis.Clear(t.Context(), key), here.Clear(t.Context(), key)
		case 1:
			errA, errB = inRedis.Mark(t.Context(), known, time.Hour), here.Mark(t.Context(), known, time.Hour)
		case 2:
			errA, errB = inRedis.Clear(t.Context(), known), here.Clear(t.Context(), known)
		case 3, 4, 5:
			errA, errB = inRedis.Return(t.Context(), some...), here.Return(t.Context(), some...)
		default:
			a, errA = inRedis.Count(t.Context(), some...)
			b, errB = here.Count(t.Context(), some...)
		}
		if errA != nil || errB != nil || (a > 0) != (b > 0) || (a-b).Abs() > 10*time.Second {
			t.Fatalf("call %d: wait %v, %v in Redis, and %v, %v here", i, a, errA, b, errB)
		}
		if a > 0 {
			waits++
		}
	}
	if waits < 100 {
		t.Errorf("%d waits: the test is too easy", waits)
	}
}

// TestCountersOverTime: the delays of the rule that guards an account at an address.
func TestCountersOverTime(t *testing.T) {
	synctest.Test(t, countersOverTime)
}

func countersOverTime(t *testing.T) {
	clock := new(memstore.Clock)
	c := memstore.NewCounters(memstore.Config{Clock: clock})
	rule := counting("pair", 5, 30*time.Second, 30*time.Minute)
	var waits []time.Duration
	passed := 0
	for end := clock.Now().Add(24 * time.Hour); clock.Now().Before(end); {
		wait, err := c.Count(t.Context(), rule)
		if err != nil {
			t.Fatal(err)
		}
		if wait == 0 {
			passed++
			continue
		}
		waits = append(waits, wait.Round(time.Second))
		clock.Advance(wait)
	}
	want := []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute}
	if !slices.Equal(waits[:5], want) || passed < 50 || passed > 58 {
		t.Errorf("waits %v, and %d attempts on a day; docs say at most 58", waits[:5], passed)
	}
	clock.Advance(48 * time.Hour)
	for range 5 {
		if wait, err := c.Count(t.Context(), rule); wait != 0 || err != nil {
			t.Errorf("after two days: %v, %v", wait, err)
		}
	}
}

// TestCountersAtOnce: no more attempts pass than may.
func TestCountersAtOnce(t *testing.T) {
	c := memstore.NewCounters(memstore.Config{})
	rules := []throttle.Counter{counting("a", 7, time.Hour, time.Hour), counting("b", 20, time.Hour, time.Hour)}
	var passed atomic.Int32
	var running sync.WaitGroup
	for range 50 {
		running.Go(func() {
			if wait, err := c.Count(t.Context(), rules...); wait == 0 && err == nil {
				passed.Add(1)
			}
		})
	}
	running.Wait()
	if passed.Load() != 7 {
		t.Errorf("%d attempts pass, want 7", passed.Load())
	}
}

// TestCountersLimit: a full memory counts nothing and lets nothing pass.
func TestCountersLimit(t *testing.T) {
	clock := new(memstore.Clock)
	c := memstore.NewCounters(memstore.Config{Clock: clock, Limit: 3})
	count := func(keys ...string) error {
		var rules []throttle.Counter
		for _, key := range keys {
			rules = append(rules, counting(key, 5, time.Minute, time.Hour))
		}
		_, err := c.Count(t.Context(), rules...)
		return err
	}
	if err := errors.Join(count("a", "b"), count("a", "b"), count("c")); err != nil {
		t.Fatal(err)
	}
	if err := count("a", "d"); !errors.Is(err, memstore.ErrFull) {
		t.Errorf("a fourth counter: %v", err)
	}
	if err := c.Mark(t.Context(), "e", time.Hour); !errors.Is(err, memstore.ErrFull) {
		t.Errorf("a mark: %v", err)
	}
	if err := count("a", "b", "c"); err != nil {
		t.Errorf("those that are there: %v", err)
	}
	clock.Advance(10 * time.Hour)
	if err := count("d", "e", "f"); err != nil {
		t.Errorf("when the others are over: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Count(ctx)
	for _, err := range []error{err, c.Return(ctx), c.Clear(ctx, "a"), c.Mark(ctx, "a", time.Hour)} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a done context: %v", err)
		}
	}
}
