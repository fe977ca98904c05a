package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
	"github.com/coatcheck/coatcheck/sessions/throttle"
)

// slow is a counter whose delays no test outlasts.
func slow(key string) throttle.Counter {
	return throttle.Counter{Key: "throttle:{login}:" + key, Free: 3, First: time.Minute, Longest: time.Hour}
}

// A counting rig says what it expects of one call.
type counting struct {
	*testing.T
	client   redis.UniversalClient
	counters *redisstore.Counters
}

func newCounting(t *testing.T) counting {
	t.Helper()
	client := newClient(t, redistest.Start(t).Addr)
	return counting{t, client, redisstore.NewCounters(client)}
}

// count counts, and wants the wait to lie between least and most.
func (r counting) count(least, most time.Duration, counters ...throttle.Counter) {
	r.Helper()
	wait, err := r.counters.Count(r.Context(), counters...)
	if err != nil || wait < least || wait > most {
		r.Errorf("wait %v, %v; want %v to %v", wait, err, least, most)
	}
}

// age moves the counter into the past, at one moment.
func (r counting) age(c throttle.Counter, by time.Duration) {
	r.Helper()
	const script = `
redis.call('HINCRBY', KEYS[1], 'last', -ARGV[1])
return redis.call('PEXPIREAT', KEYS[1], redis.call('PEXPIRETIME', KEYS[1]) - ARGV[1])`
	if err := r.client.Eval(r.Context(), script, []string{c.Key}, by.Milliseconds()).Err(); err != nil {
		r.Fatal(err)
	}
}

// checkExpiries wants an expiry of every key.
func (r counting) checkExpiries(want int) {
	r.Helper()
	keys := r.client.Keys(r.Context(), "*").Val()
	if len(keys) != want {
		r.Errorf("the keys are %q, want %d", keys, want)
	}
	for _, key := range keys {
		if ttl := r.client.PTTL(r.Context(), key).Val(); ttl <= 0 {
			r.Errorf("%s: TTL %v", key, ttl)
		}
	}
}

// TestCountersDelay: three are free, then each waits twice as long as the last,
// and at most the longest. Over the first hour one is forgotten.
func TestCountersDelay(t *testing.T) {
	r, c := newCounting(t), slow("a")
	for range 3 {
		r.count(0, 0, c)
	}
	for _, minutes := range []int{1, 2, 4, 8, 16, 32, 32, 60, 60, 60} {
		want := time.Duration(minutes) * time.Minute
		r.count(want-25*time.Second, want, c)
		r.count(want-25*time.Second, want, c) // what is refused does not count
		r.age(c, want-30*time.Second)
		r.count(time.Millisecond, 30*time.Second, c)
		r.age(c, 30*time.Second)
		r.count(0, 0, c)
	}
	r.checkExpiries(1)
	if ttl := r.client.PTTL(t.Context(), c.Key).Val(); ttl > 10*time.Hour {
		t.Errorf("it takes %v to forget all attempts", ttl)
	}
}

// TestCountersForget: one attempt each hour, and in the end the key.
func TestCountersForget(t *testing.T) {
	r, c := newCounting(t), slow("a")
	for range 3 {
		r.count(0, 0, c)
	}
	r.age(c, time.Hour+time.Second)
	r.count(0, 0, c)
	r.count(time.Second, time.Minute, c)
	quick := throttle.Counter{Key: "throttle:{login}:b", Free: 1, First: 20 * time.Millisecond, Longest: 50 * time.Millisecond}
	r.count(0, 0, quick)
	for deadline := time.Now().Add(30 * time.Second); r.client.Exists(t.Context(), quick.Key).Val() == 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the key is still there")
		}
	}
	r.count(0, 0, quick)
}

// TestCountersAllOrNone: where one has to wait, none counts.
func TestCountersAllOrNone(t *testing.T) {
	r, a, b := newCounting(t), slow("a"), slow("b")
	for range 3 {
		r.count(0, 0, a)
	}
	for range 10 {
		r.count(time.Second, time.Minute, b, a)
	}
	if n := r.client.Exists(t.Context(), b.Key).Val(); n != 0 {
		t.Error("an attempt was counted that could not be made")
	}
	r.count(0, 0, b)
	// The longest wait is told.
	long := slow("c")
	long.First = 30 * time.Minute
	for range 3 {
		r.count(0, 0, long)
	}
	r.count(29*time.Minute, 30*time.Minute, a, long)
	r.count(29*time.Minute, 30*time.Minute, long, a)
	r.count(0, 0)
}

func TestCountersReturnAndClear(t *testing.T) {
	r, c := newCounting(t), slow("a")
	for range 50 { // never more than one at a time
		r.count(0, 0, c)
		if err := r.counters.Return(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	r.checkExpiries(0)
	if err := r.counters.Return(t.Context(), c, slow("b")); err != nil {
		t.Fatal(err)
	}
	r.checkExpiries(0)
	for range 3 {
		r.count(0, 0, c)
	}
	r.count(time.Second, time.Minute, c)
	if err := r.counters.Clear(t.Context(), c.Key); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.count(0, 0, c)
	}
	r.checkExpiries(1)
}

// TestCountersMark: a counter is left out where its mark is set.
func TestCountersMark(t *testing.T) {
	r, c := newCounting(t), slow("a")
	c.Unless = "throttle:{login}:known"
	for range 3 {
		r.count(0, 0, c)
	}
	r.count(time.Second, time.Minute, c)
	for range 2 {
		if err := r.counters.Mark(t.Context(), c.Unless, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	before := r.client.PTTL(t.Context(), c.Key).Val()
	for range 10 {
		r.count(0, 0, c)
	}
	if err := r.counters.Return(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	// go-redis rounds PTTL
	if after := r.client.PTTL(t.Context(), c.Key).Val(); after < before-time.Minute || after > before {
		t.Errorf("the life went from %v to %v", before, after)
	}
	r.checkExpiries(2)
	r.client.Del(t.Context(), c.Unless)
	r.count(time.Second, time.Minute, c)
}

// TestCountersDamage: a counter without an end gets one again, one from the
// future delays no longer than any, and one of another type is an error.
func TestCountersDamage(t *testing.T) {
	r, c := newCounting(t), slow("a")
	r.client.HSet(t.Context(), c.Key, "last", time.Now().Add(1000*time.Hour).UnixMilli())
	r.count(0, 0, c)
	r.checkExpiries(1)
	for range 2 {
		r.count(0, 0, c)
	}
	r.client.HSet(t.Context(), c.Key, "last", time.Now().Add(1000*time.Hour).UnixMilli())
	r.count(time.Second, time.Minute, c)
	r.client.Set(t.Context(), "throttle:{login}:b", "x", time.Hour)
	if _, err := r.counters.Count(t.Context(), slow("b")); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("another type: %v", err)
	}
}

// TestCountersRace: of many attempts at once, those that may pass do.
func TestCountersRace(t *testing.T) {
	r := newCounting(t)
	all := slow("all")
	all.Free = 20
	var passed atomic.Int64
	var wg sync.WaitGroup
	for i := range 2000 {
		wg.Go(func() {
			one := slow(fmt.Sprint(i % 50))
			wait, err := r.counters.Count(t.Context(), one, all)
			if err != nil {
				t.Error(err)
			}
			if wait == 0 {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	if passed.Load() != 20 {
		t.Errorf("%d of 2000 passed, want 20", passed.Load())
	}
}

// TestCountersUnavailable: an error, never a pass that was not counted.
func TestCountersUnavailable(t *testing.T) {
	server := redistest.Start(t)
	counters := redisstore.NewCounters(newClient(t, server.Addr))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := counters.Count(ctx, slow("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	server.Kill()
	_, counted := counters.Count(t.Context(), slow("a"))
	returned := counters.Return(t.Context(), slow("a"))
	for what, err := range map[string]error{
		"count": counted, "return": returned, "clear": counters.Clear(t.Context(), "a"), "mark": counters.Mark(t.Context(), "a", time.Hour),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// TestCountersRights: docs/sessions.md gives login its commands already; only the
// keys are new.
func TestCountersRights(t *testing.T) {
	server := redistest.Start(t)
	rules := aclRules(t, loginUser)
	if err := server.SetUser("tried", rules...); err != nil {
		t.Fatal(err)
	}
	options := patient
	options.Addrs, options.Username, options.Password = []string{server.Addr}, "tried", "pw"
	counters := redisstore.NewCounters(connect(t, redisstore.ClientConfig{UniversalOptions: options}))
	_, counted := counters.Count(t.Context(), slow("a"))
	if err := errors.Join(counted, counters.Return(t.Context(), slow("a")), counters.Clear(t.Context(), slow("a").Key),
		counters.Mark(t.Context(), "throttle:{login}:known", time.Hour)); err != nil {
		t.Error(err)
	}
}

// TestCountersOnCluster: the keys of one call share a hash tag.
func TestCountersOnCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0, nil)
	options := patient
	options.Addrs, options.IsClusterMode = cluster.Addrs(), true
	counters := redisstore.NewCounters(connect(t, redisstore.ClientConfig{UniversalOptions: options}))
	c := slow("a")
	c.Unless = "throttle:{login}:known"
	for i := range 5 {
		wait, err := counters.Count(t.Context(), c, slow("b"), slow("c"))
		if err != nil || (wait == 0) != (i < 3) {
			t.Errorf("attempt %d: %v, %v", i, wait, err)
		}
	}
	if err := errors.Join(counters.Return(t.Context(), c), counters.Mark(t.Context(), c.Unless, time.Hour), counters.Clear(t.Context(), c.Key)); err != nil {
		t.Error(err)
	}
}
