package watching_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api/internal/watching"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestRevoke measures from the call of a revocation until a stream of 1,000 sessions is told
// of its end.
func TestRevoke(t *testing.T) {
	at := redisstore.At(redistest.Start(t).Addr)
	w, other := newWatcher(t, at, rig{}), newManager(t, at, sessions.Config{})
	w.tracked(t)
	keys := logins(t, other, "42", 1000)
	s := w.live(t, keys...)
	var took []time.Duration
	for i := range 300 {
		index := 3 * i
		began := time.Now()
		revoke(t, other, keys[index])
		ends := told(t, s, 1)
		took = append(took, time.Since(began))
		if want := (watching.End{Index: index, Key: keys[index], Reason: watching.NotFound}); ends[0] != want || len(ends) > 1 {
			t.Fatalf("told of %v", ends)
		}
	}
	slices.Sort(took)
	t.Logf("300 revocations of 1000 watched sessions: p50 %v, p99 %v, worst %v", took[150], took[297], took[299])
	if half := took[150]; half > 500*time.Millisecond { // the machine may be busy for some of them
		t.Errorf("half of them were told after %v", half)
	}
}

// TestFirst: the first answer has every name that is no live session, by its place.
func TestFirst(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	at := redisstore.At(server.Addr)
	w, other := newWatcher(t, at, rig{}), newManager(t, at, sessions.Config{})
	w.tracked(t)
	c := direct(t, server)
	key := func() string { return string(sessions.NewID().Key()) }
	broken, newer, endless, text, expired := key(), key(), key(), key(), key()
	end := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for name, v := range map[string]string{broken: "1", newer: "2", endless: "1", expired: "1"} {
		do(t, c, "hset", name, "v", v, "user_id", "42", "expires_at", end)
		do(t, c, "expire", name, 60)
	}
	do(t, c, "hset", broken, "roles", "none")
	do(t, c, "persist", endless)
	do(t, c, "set", text, "text")
	do(t, c, "hset", expired, "expires_at", "2020-01-01T00:00:00Z")
	live, revoked := login(t, other), login(t, other)
	revoke(t, other, revoked)
	names := []sessions.Key{
		live, revoked, sessions.NewID().Key(), sessions.Key(broken), sessions.Key(newer), sessions.Key(endless),
		sessions.Key(text), sessions.Key(expired), "session:no", "", live, revoked,
	}
	s, ends := w.open(t, names...)
	got := map[int]watching.Reason{}
	for _, e := range ends {
		got[e.Index] = e.Reason
		if malformed := e.Index == 8 || e.Index == 9; malformed != (e.Key == "") || !malformed && e.Key != names[e.Index] {
			t.Errorf("%d has the key %q", e.Index, e.Key)
		}
	}
	want := map[int]watching.Reason{
		1: "not_found", 2: "not_found", 3: "broken_record", 4: "unknown_layout", 5: "broken_record",
		6: "broken_record", 7: "expired", 8: "not_found", 9: "not_found", 11: "not_found",
	}
	if !maps.Equal(got, want) || len(ends) != len(want) {
		t.Errorf("ended: %v, want %v", ends, want)
	}
	revoke(t, other, live)
	ends = told(t, s, 2)
	slices.SortFunc(ends, func(a, b watching.End) int { return a.Index - b.Index })
	if !slices.Equal(ends, []watching.End{{Index: 0, Key: live, Reason: "not_found"}, {Index: 10, Key: live, Reason: "not_found"}}) {
		t.Errorf("a name twice: %v", ends)
	}
	over(t, s)
}

// A step is a source with something done before and after each read.
type step struct {
	watching.Source
	before, after func()
}

func (s step) Lifetimes(ctx context.Context, keys ...sessions.Key) ([]sessions.Lifetime, error) {
	s.before()
	defer s.after()
	return s.Source.Lifetimes(ctx, keys...)
}

// TestRevokedDuringRead: a revocation before, and one after the record was read for the
// first time and before that is known, is told of.
func TestRevokedDuringRead(t *testing.T) {
	t.Parallel()
	at := redisstore.At(redistest.Start(t).Addr)
	other := newManager(t, at, sessions.Config{})
	var before, after atomic.Value
	run := func(v *atomic.Value) func() {
		return func() {
			if do, ok := v.Swap(func() {}).(func()); ok {
				do()
			}
		}
	}
	w := newWatcher(t, at, rig{source: func(s watching.Source) watching.Source { return step{s, run(&before), run(&after)} }})
	w.tracked(t)
	key := login(t, other)
	before.Store(func() { revoke(t, other, key) })
	if s, ends := w.open(t, key); len(ends) != 1 {
		t.Error("a revocation before the read was missed")
	} else {
		over(t, s)
	}
	for range 20 {
		key := login(t, other)
		after.Store(func() { revoke(t, other, key) })
		s, ends := w.open(t, key)
		if len(ends) == 0 {
			told(t, s, 1)
		}
		over(t, s)
	}
}

// TestJoinedDuringRead: a read that began before a stream was opened says nothing to it.
// The session is made behind that read.
func TestJoinedDuringRead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	at := redisstore.At(server.Addr)
	c := direct(t, server)
	began, goOn := make(chan bool, 1), make(chan bool)
	var hold atomic.Bool
	w := newWatcher(t, at, rig{source: func(s watching.Source) watching.Source {
		return step{s, func() {}, func() {
			if hold.CompareAndSwap(true, false) {
				began <- true
				<-goOn
			}
		}}
	}})
	w.tracked(t)
	key := sessions.NewID().Key()
	hold.Store(true)
	early, err := w.Open("caller", []sessions.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	<-began // the record was not there
	do(t, c, "hset", string(key), "v", "1", "user_id", "42", "expires_at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	do(t, c, "expire", string(key), 60)
	s, err := w.Open("caller", []sessions.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	close(goOn)
	if ends, err := next(early, 30*time.Second); err != nil || len(ends) != 1 {
		t.Errorf("the early one: %v, %v", ends, err)
	}
	if ends, err := next(s, 30*time.Second); err != nil || len(ends) != 0 {
		t.Errorf("the late one: %v, %v", ends, err)
	}
	do(t, c, "del", string(key))
	told(t, s, 1)
}

// TestSlides: a session that checks elsewhere keep alive lives; when they stop, it ends,
// and the stream is told.
func TestSlides(t *testing.T) {
	t.Parallel()
	at := redisstore.At(redistest.Start(t).Addr)
	for idle := 500 * time.Millisecond; ; idle *= 2 {
		err := slides(t, at, idle)
		if err == nil {
			return
		}
		if t.Log("the machine is too slow:", err); idle > 10*time.Second {
			t.Fatal("used, it ends:", err)
		}
	}
}

// slides has a session used for four times its idle timeout, and then no more. It returns an
// error if the session has ended before, as on a busy machine.
func slides(t *testing.T, at redisstore.ClientConfig, idle time.Duration) error {
	config := sessions.Config{IdleTimeout: idle, IdleStep: 10 * time.Millisecond}
	w, other := newWatcher(t, at, rig{sessions: config}), newManager(t, at, config)
	w.tracked(t)
	id, created, err := other.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		return err
	}
	s, ends := w.open(t, created.Key)
	if len(ends) > 0 {
		return errors.New("ended at the beginning")
	}
	var last time.Time
	for range 20 {
		last = time.Now()
		if _, err := other.Touch(t.Context(), id); err != nil {
			return err
		}
		if ends, err := next(s, idle/5); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("told of %v, %w", ends, err)
		}
	}
	told(t, s, 1)
	if lived := time.Since(last); lived < idle || lived > idle+20*time.Second {
		t.Errorf("told %v after the last use", lived)
	}
	return nil
}

// deaf hears of no change, only that tracking stands.
type deaf struct{ redisstore.Listener }

func (deaf) Invalidate(sessions.Key) {}

// TestExpires: a session that ends by itself is told of, by the timer alone, both by its
// idle and by its absolute timeout. Redis may keep a record for long after its end: here
// it removes none before it is read.
func TestExpires(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--enable-debug-command", "yes")
	do(t, direct(t, server), "debug", "set-active-expire", 0)
	at := redisstore.At(server.Addr)
	for name, config := range map[string]func(life time.Duration) sessions.Config{
		"idle": func(life time.Duration) sessions.Config {
			return sessions.Config{IdleTimeout: life, IdleStep: 10 * time.Millisecond}
		},
		"absolute": func(life time.Duration) sessions.Config { return sessions.Config{AbsoluteTimeout: life} },
	} {
		for life := 300 * time.Millisecond; ; life *= 2 {
			if expires(t, name, at, config(life), life) {
				break
			}
			if life > 10*time.Second {
				t.Fatal("no session lives until it is watched")
			}
		}
	}
}

// expires watches a session until it ends by itself. It reports whether it lived until it was
// watched, which it may not on a busy machine.
func expires(t *testing.T, name string, at redisstore.ClientConfig, config sessions.Config, life time.Duration) bool {
	t.Helper()
	w := newWatcher(t, at, rig{sessions: config, listener: func(l redisstore.Listener) redisstore.Listener { return deaf{l} }})
	w.tracked(t)
	began := time.Now()
	_, created, err := newManager(t, at, config).Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		return false
	}
	s, ends := w.open(t, created.Key)
	if len(ends) > 0 {
		return false
	}
	ends = told(t, s, 1)
	if took := time.Since(began); took < life || took > life+20*time.Second { // a patience is longer
		t.Errorf("%s: told of %v after %v", name, ends, took)
	}
	over(t, s)
	return true
}

// TestTellsOfExpiry is what Redis does by itself, and why there is a timer: of a record
// that no client reads it tells when it removes it, and that may be long after its end.
func TestTellsOfExpiry(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--enable-debug-command", "yes")
	c := direct(t, server)
	do(t, c, "debug", "set-active-expire", 0)
	heard := make(chan sessions.Key, 16)
	client := newClient(t, redisstore.At(server.Addr))
	store := redisstore.New(client, redisstore.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	stands := make(chan bool, 100)
	running.Go(func() { store.Track(ctx, listener{heard, stands}, time.Minute) }) // a loss would hide changes
	defer running.Wait()
	defer cancel()
	<-stands
	expire := func() string {
		key := string(sessions.NewID().Key())
		do(t, c, "hset", key, "v", "1")
		do(t, c, "pexpire", key, 50)
		for range 2 {
			<-heard
		}
		return key
	}
	key := expire()
	select {
	case <-heard:
		t.Error("Redis tells of a record that has ended and is still there: the timer could go by that")
	case <-time.After(500 * time.Millisecond):
	}
	do(t, c, "pttl", key) // removes it
	select {
	case <-heard:
	case <-time.After(30 * time.Second):
		t.Error("Redis does not tell that it has removed a record")
	}
	do(t, c, "debug", "set-active-expire", 1)
	expire()
	began := time.Now()
	select {
	case <-heard:
		t.Logf("with its active expiry, Redis tells %v after the end", time.Since(began)-50*time.Millisecond)
	case <-time.After(30 * time.Second):
		t.Error("Redis does not tell that it has removed a record")
	}
}

type listener struct {
	heard  chan sessions.Key
	stands chan bool
}

func (l listener) Invalidate(key sessions.Key) { l.heard <- key }
func (l listener) Alive(time.Time) {
	select {
	case l.stands <- true:
	default:
	}
}
func (listener) Flush(string) {}

// TestMassRevocation: all sessions of a user end at once, and another's do not.
func TestMassRevocation(t *testing.T) {
	n := watching.MaxPerStream
	server := redistest.Start(t)
	at := redisstore.At(server.Addr)
	w, other := newWatcher(t, at, rig{}), newManager(t, at, sessions.Config{})
	w.tracked(t)
	keys := append(manyLogins(t, server, "mallory", n-1), login(t, other))
	began := time.Now()
	s := w.live(t, keys...)
	t.Logf("the first answer for %d sessions came after %v", n, time.Since(began))
	revoked := make(chan error, 1)
	began = time.Now()
	go func() {
		_, err := other.RevokeUser(context.Background(), "mallory")
		revoked <- err
	}()
	ends := told(t, s, n-1)
	t.Logf("%d ends were told within %v", len(ends), time.Since(began))
	if err := <-revoked; err != nil {
		t.Fatal(err)
	}
	seen := make([]bool, n)
	for _, e := range ends {
		if seen[e.Index] || e.Index == n-1 {
			t.Fatalf("told of %v", e)
		}
		seen[e.Index] = true
	}
	quiet(t, s, 100*time.Millisecond)
}

// TestBounds: a stream has a bound, all of them have one, and a caller has half. What a
// stream took, its end gives back.
func TestBounds(t *testing.T) {
	t.Parallel()
	at := redisstore.At(redistest.Start(t).Addr)
	w := newWatcher(t, at, rig{config: watching.Config{MaxSessions: 30_000}})
	w.tracked(t)
	many := make([]sessions.Key, watching.MaxPerStream+1)
	for i := range many {
		many[i] = sessions.NewID().Key()
	}
	if _, err := w.Open("caller", many); !errors.Is(err, watching.ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := w.Open("caller", nil); !errors.Is(err, watching.ErrNone) {
		t.Errorf("none: %v", err)
	}
	var streams []*watching.Stream
	open := func(owner string, n int, want error) {
		t.Helper()
		s, err := w.Open(owner, many[:n])
		if !errors.Is(err, want) {
			t.Fatalf("%s with %d: %v, want %v", owner, n, err, want)
		}
		if err == nil {
			streams = append(streams, s)
		}
	}
	open("one", 10_000, nil)
	open("one", 5001, watching.ErrFull)
	open("one", 5000, nil)
	open("one", 1, watching.ErrFull)
	open("two", 10_000, nil)
	open("two", 5000, nil)
	open("three", 1, watching.ErrFull)
	streams[0].Close()
	streams[0].Close()
	open("three", 10_000, nil)
	open("three", 1, watching.ErrFull)
	for _, s := range streams {
		s.Close()
	}
	open("one", 10_000, nil)
	streams[len(streams)-1].Close()
	streams = nil
	for range watching.MaxStreams / 2 {
		open("one", 1, nil)
	}
	open("one", 1, watching.ErrFull)
	open("two", 1, nil)
	for _, s := range streams {
		s.Close()
	}
	eventually(t, "empty hub", func() bool { streams, names, kept := w.Held(); return streams+names+kept == 0 })
	if _, err := watching.New(nil, watching.Config{MaxSessions: 1, Patience: 1, Lease: -1}); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("a config that cannot be: %v", err)
	}
}

// TestCost: no goroutine for a session nor for a stream, and a bound for the memory.
func TestCost(t *testing.T) {
	const streams, each = 20, 5000
	at := redisstore.At(redistest.Start(t).Addr)
	lives := func(watching.Source) watching.Source { return forever{} }
	w := newWatcher(t, at, rig{source: lives})
	w.tracked(t)
	keys := make([]sessions.Key, each)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	for range streams {
		for i := range keys {
			keys[i] = sessions.NewID().Key()
		}
		w.live(t, keys...)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	cost := float64(after.HeapAlloc-before.HeapAlloc) / (streams * each)
	t.Logf("%d streams of %d sessions each: %.0f bytes a session", streams, each, cost)
	if cost > 400 {
		t.Errorf("%.0f bytes a session", cost)
	}
	eventually(t, "end of goroutines", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
}

// forever is a source of sessions that live.
type forever struct{}

func (forever) Lifetimes(_ context.Context, keys ...sessions.Key) ([]sessions.Lifetime, error) {
	lifetimes := make([]sessions.Lifetime, len(keys))
	for i := range lifetimes {
		lifetimes[i].Left = time.Hour
	}
	return lifetimes, nil
}

// TestEnd: a hub that ends cuts its streams, and opens no more.
func TestEnd(t *testing.T) {
	t.Parallel()
	hub, err := watching.New(forever{}, watching.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan bool)
	go func() { hub.Run(ctx); close(ended) }()
	s, err := hub.Open("caller", []sessions.Key{sessions.NewID().Key()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := next(s, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ended
	if _, err := next(s, 30*time.Second); !errors.Is(err, watching.ErrUnavailable) {
		t.Errorf("a stream of a hub that has ended: %v", err)
	}
	if _, err := hub.Open("caller", []sessions.Key{sessions.NewID().Key()}); !errors.Is(err, watching.ErrUnavailable) {
		t.Errorf("a hub that has ended: %v", err)
	}
	if fmt.Sprint(hub.Held()) != "0 0 0" {
		t.Error("something is left")
	}
}
