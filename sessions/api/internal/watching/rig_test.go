package watching_test

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api/internal/watching"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

func TestMain(m *testing.M) {
	// go-redis dials a node that a test has killed once a second, and sees its end then.
	ending := goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
	goleak.VerifyTestMain(testleaks.Patient(m, ending), ending)
}

// long is called by tests of many seconds.
func long(t *testing.T) {
	if os.Getenv("COATCHECK_FULL") != "1" {
		t.Skip("takes seconds: COATCHECK_FULL=1")
	}
}

func newClient(t testing.TB, c redisstore.ClientConfig) *redisstore.Client {
	t.Helper()
	if c.Password == "" {
		c.Password = redistest.Password
	}
	client, err := redisstore.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// newManager is that of another process, the test's hand, on a machine that may be busy.
func newManager(t testing.TB, c redisstore.ClientConfig, config sessions.Config) *sessions.Manager {
	t.Helper()
	c.ReadTimeout, c.DialTimeout, c.PoolTimeout = 10*time.Second, 10*time.Second, 10*time.Second
	if config.MaxPerUser == 0 {
		config.MaxPerUser = -1
	}
	m, err := sessions.NewManager(redisstore.New(newClient(t, c), redisstore.Config{}), config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A watcher is a process that watches.
type watcher struct {
	*watching.Hub
	manager *sessions.Manager
}

// A rig says what a watcher has beyond the usual.
type rig struct {
	sessions sessions.Config
	config   watching.Config
	source   func(watching.Source) watching.Source         // nil: the manager
	listener func(redisstore.Listener) redisstore.Listener // nil: the hub
}

const testLease = 400 * time.Millisecond

func newWatcher(t testing.TB, c redisstore.ClientConfig, r rig) *watcher {
	t.Helper()
	c.ReadTimeout, c.DialTimeout, c.PoolTimeout = 10*time.Second, 10*time.Second, 10*time.Second // a busy machine is no outage
	store := redisstore.New(newClient(t, c), redisstore.Config{})
	manager, err := sessions.NewManager(store, r.sessions)
	if err != nil {
		t.Fatal(err)
	}
	var source watching.Source = manager
	if r.source != nil {
		source = r.source(manager)
	}
	if r.config.Lease == 0 {
		r.config.Lease = testLease
	}
	if r.config.Patience == 0 {
		r.config.Patience = time.Minute
	}
	hub, err := watching.New(source, r.config)
	if err != nil {
		t.Fatal(err)
	}
	var listener redisstore.Listener = hub
	if r.listener != nil {
		listener = r.listener(hub)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { hub.Run(ctx) })
	running.Go(func() { store.Track(ctx, listener, hub.Lease()) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return &watcher{hub, manager}
}

// tracked waits until changes are told.
func (w *watcher) tracked(t testing.TB) {
	t.Helper()
	eventually(t, "tracking", w.Tracked)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %s within a minute", what)
		}
	}
}

func login(t testing.TB, m *sessions.Manager) sessions.Key {
	t.Helper()
	return loginAs(t, m, "42")
}

func loginAs(t testing.TB, m *sessions.Manager, user string) sessions.Key {
	t.Helper()
	_, s, err := m.Create(t.Context(), sessions.NewSession{UserID: user, Username: "ada", Roles: []string{"admin"}})
	if err != nil {
		t.Fatal(err)
	}
	return s.Key
}

// logins are many at once.
func logins(t testing.TB, m *sessions.Manager, user string, n int) []sessions.Key {
	t.Helper()
	keys := make([]sessions.Key, n)
	var running sync.WaitGroup
	next := make(chan int)
	for range 8 {
		running.Go(func() {
			for i := range next {
				_, s, err := m.Create(context.Background(), sessions.NewSession{UserID: user})
				if err != nil {
					t.Error(err)
					continue
				}
				keys[i] = s.Key
			}
		})
	}
	for i := range keys {
		next <- i
	}
	close(next)
	running.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return keys
}

// manyLogins are written at a stroke.
func manyLogins(t testing.TB, server *redistest.Server, user string, n int) []sessions.Key {
	t.Helper()
	keys := make([]sessions.Key, n)
	end := time.Now().Add(time.Hour)
	p := direct(t, server).Pipeline()
	for i := range keys {
		keys[i] = sessions.NewID().Key()
		p.HSet(t.Context(), string(keys[i]), "v", "1", "user_id", user, "expires_at", end.UTC().Format(time.RFC3339))
		p.ExpireAt(t.Context(), string(keys[i]), end)
		p.ZAdd(t.Context(), "user-sessions:"+user, redis.Z{Score: float64(end.UnixMilli()), Member: keys[i].Hash()})
	}
	if _, err := p.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	return keys
}

// open opens a stream, and returns its first answer. On a busy machine a first read may
// take too long, which ends the stream.
func (w *watcher) open(t testing.TB, keys ...sessions.Key) (*watching.Stream, []watching.End) {
	t.Helper()
	for tries := 1; ; tries++ {
		s, err := w.Open("caller", keys)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		ends, err := next(s, time.Minute)
		if errors.Is(err, watching.ErrUnavailable) && tries < 10 {
			continue
		}
		if err != nil {
			t.Fatal("the first answer:", err)
		}
		return s, ends
	}
}

// live opens a stream of sessions that all live.
func (w *watcher) live(t testing.TB, keys ...sessions.Key) *watching.Stream {
	t.Helper()
	s, ends := w.open(t, keys...)
	if len(ends) > 0 {
		t.Fatalf("ended at the beginning: %v", ends)
	}
	return s
}

func next(s *watching.Stream, patience time.Duration) ([]watching.End, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.Next(ctx)
}

// told collects ends until there are n, or fails.
func told(t testing.TB, s *watching.Stream, n int) []watching.End {
	t.Helper()
	var all []watching.End
	for end := time.Now().Add(time.Minute); len(all) < n; {
		ends, err := next(s, time.Until(end))
		if err != nil {
			t.Fatalf("after %d ends of %d: %v", len(all), n, err)
		}
		all = append(all, ends...)
	}
	return all
}

// quiet fails if a stream is told of something within a time.
func quiet(t testing.TB, s *watching.Stream, d time.Duration) {
	t.Helper()
	if ends, err := next(s, d); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("told of %v, %v", ends, err)
	}
}

// over fails unless every end was told of.
func over(t testing.TB, s *watching.Stream) {
	t.Helper()
	if ends, err := next(s, 30*time.Second); !errors.Is(err, io.EOF) || ends != nil {
		t.Errorf("at the end: %v, %v", ends, err)
	}
}

func revoke(t testing.TB, m *sessions.Manager, key sessions.Key) {
	t.Helper()
	if err := m.Revoke(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// direct is a client for what no store does.
func direct(t testing.TB, s *redistest.Server) *redis.Client {
	t.Helper()
	c := s.Client()
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func do(t testing.TB, c redis.UniversalClient, args ...any) {
	t.Helper()
	if err := c.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args[0], err)
	}
}
