package watching_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api/internal/watching"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

const (
	// soon is a patience for tests that wait until it is over.
	soon = 2 * time.Second
	// later is one for tests in which it must not be over, and half of it must.
	later = 6 * time.Second
)

// unavailable waits until a stream ends so, and returns how long.
func unavailable(t testing.TB, s *watching.Stream) time.Duration {
	t.Helper()
	began := time.Now()
	ends, err := next(s, 30*time.Second)
	if !errors.Is(err, watching.ErrUnavailable) || ends != nil {
		t.Fatalf("told of %v, %v", ends, err)
	}
	return time.Since(began)
}

// atOnce opens streams that end before the patience is over; on a busy machine, one of
// several.
func atOnce(t testing.TB, w *watcher, limit time.Duration, keys ...sessions.Key) {
	t.Helper()
	var took time.Duration
	for range 10 {
		began := time.Now()
		s, err := w.Open("caller", keys)
		if err == nil {
			unavailable(t, s)
			s.Close()
		}
		if took = time.Since(began); took < limit {
			return
		}
	}
	t.Errorf("a stream that cannot be served ended after %v", took)
}

// TestConnectionLost: what is revoked while the tracking connection is away is told of as
// soon as it is back, and the others live on. One transaction ends the connection and a session.
func TestConnectionLost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	at := redisstore.At(server.Addr)
	w, other := newWatcher(t, at, rig{}), newManager(t, at, sessions.Config{})
	w.tracked(t)
	keys := logins(t, other, "42", 500)
	s := w.live(t, keys...)
	c := direct(t, server)
	for i := range 3 {
		pipe := c.TxPipeline()
		pipe.Do(t.Context(), "client", "kill", "type", "pubsub")
		pipe.Do(t.Context(), "del", string(keys[i]))
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ends := told(t, s, 1); len(ends) != 1 || ends[0].Index != i {
			t.Fatalf("told of %v", ends)
		}
	}
	quiet(t, s, 300*time.Millisecond)
}

// TestFlushAll: Redis is emptied.
func TestFlushAll(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	at := redisstore.At(server.Addr)
	w, other := newWatcher(t, at, rig{}), newManager(t, at, sessions.Config{})
	w.tracked(t)
	s := w.live(t, logins(t, other, "42", 300)...)
	do(t, direct(t, server), "flushall")
	told(t, s, 300)
	over(t, s)
}

// TestRestart: a Redis that comes back empty has ended all sessions. One that stays away
// ends the stream.
func TestRestart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	at := redisstore.At(server.Addr)
	w, other := newWatcher(t, at, rig{}), newManager(t, at, sessions.Config{})
	impatient := newWatcher(t, at, rig{config: watching.Config{Patience: soon}})
	w.tracked(t)
	impatient.tracked(t)
	keys := logins(t, other, "42", 50)
	s, early := w.live(t, keys...), impatient.live(t, keys...)
	server.Kill()
	unavailable(t, early)
	atOnce(t, impatient, soon*3/4, keys...)
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	told(t, s, len(keys))
	over(t, s)
	impatient.live(t, login(t, newManager(t, at, sessions.Config{}))) // it works again
}

// TestSilent: a Redis that hangs for less than the patience does nothing to the streams;
// one that hangs for longer ends them.
func TestSilent(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	at := redisstore.At(server.Addr)
	w, other := newWatcher(t, at, rig{}), newManager(t, at, sessions.Config{})
	impatient := newWatcher(t, at, rig{config: watching.Config{Patience: soon}})
	w.tracked(t)
	keys := logins(t, other, "42", 300)
	s := w.live(t, keys...)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	quiet(t, s, 800*time.Millisecond)
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	quiet(t, s, 800*time.Millisecond)
	revoke(t, other, keys[7])
	told(t, s, 1)
	impatient.tracked(t)
	early := impatient.live(t, keys[8:]...)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	took := unavailable(t, early)
	t.Logf("a stream ended %v after Redis had fallen silent (lease %v, patience %v)", took, testLease, soon)
	quiet(t, s, time.Millisecond)
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if streams, names, kept := impatient.Held(); streams+names+kept > 0 {
		t.Errorf("left: %d %d %d", streams, names, kept)
	}
}

// TestUntracked: a user without the rights for tracking, or a Redis that will not track:
// sessions are read again and again, and an end is told within the patience.
func TestUntracked(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	if err := server.SetUser("poor", "on", ">poor", "~session:*", "+hmget", "+pttl", "+time", "+hello"); err != nil {
		t.Fatal(err)
	}
	at := redisstore.At(server.Addr)
	other := newManager(t, at, sessions.Config{})
	at.Username, at.Password = "poor", "poor"
	w := newWatcher(t, at, rig{config: watching.Config{Patience: later}})
	keys := logins(t, other, "42", 100)
	s := w.live(t, keys...)
	quiet(t, s, later*2/3) // its sessions were read again
	revoke(t, other, keys[3])
	began := time.Now()
	told(t, s, 1)
	if took := time.Since(began); took > 2*later {
		t.Errorf("told after %v", took)
	}
	if w.Tracked() {
		t.Error("it is tracked")
	}
}

// TestUnread: changes are told, and records cannot be read.
func TestUnread(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]bool{"all": false, "one": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unread(t, one)
		})
	}
}

func unread(t *testing.T, one bool) {
	at := redisstore.At(redistest.Start(t).Addr)
	other := newManager(t, at, sessions.Config{})
	faulty := make(chan bool)
	w := newWatcher(t, at, rig{
		config: watching.Config{Patience: soon, Lease: time.Minute}, // a loss would put all in doubt
		source: func(s watching.Source) watching.Source { return refusing{s, faulty, one} },
	})
	w.tracked(t)
	key, second := login(t, other), login(t, other)
	s, calm := w.live(t, key), w.live(t, second)
	close(faulty)
	revoke(t, other, key)
	unavailable(t, s)
	quiet(t, calm, time.Second)    // its session is not in doubt
	atOnce(t, w, soon*3/4, second) // which is why this one is not kept waiting
}

// refusing gives errors from a moment on, for a whole batch or for each session.
type refusing struct {
	watching.Source
	from chan bool
	one  bool
}

func (r refusing) Lifetimes(ctx context.Context, keys ...sessions.Key) ([]sessions.Lifetime, error) {
	select {
	case <-r.from:
		if !r.one {
			return nil, errors.New("refused")
		}
		lifetimes := make([]sessions.Lifetime, len(keys))
		for i := range lifetimes {
			lifetimes[i].Err = redisstore.ErrEmptied
		}
		return lifetimes, nil
	default:
		return r.Source.Lifetimes(ctx, keys...)
	}
}

// TestMovedSlots: a slot moves with its sessions, one master tracked or all: while it moves
// no session is reported, and what is revoked then and afterwards is.
func TestMovedSlots(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0, nil)
	at := redisstore.At(cluster.Addrs()...)
	w, other := newWatcher(t, at, rig{config: watching.Config{Patience: later}}), newManager(t, at, sessions.Config{})
	w.tracked(t)
	keys := logins(t, other, "42", 60) // on every master
	s := w.live(t, keys...)
	revoke(t, other, keys[0])
	told(t, s, 1)
	moving, revoked := keys[1], keys[2]
	move := newMove(t, cluster, moving)
	move.begin()
	eventually(t, "end of tracking", func() bool { return !w.Tracked() })
	move.carry()
	quiet(t, s, soon/2)
	revoke(t, other, revoked)
	if ends := told(t, s, 1); ends[0].Index != 2 {
		t.Errorf("told of %v", ends)
	}
	move.end()
	w.tracked(t)
	quiet(t, s, soon/2)
	began := time.Now()
	revoke(t, other, moving)
	if ends := told(t, s, 1); ends[0].Index != 1 {
		t.Errorf("told of %v", ends)
	}
	t.Logf("where the slot has gone, a revocation is told within %v", time.Since(began))
}

// A move is one of a slot with its keys.
type move struct {
	testing.TB
	slot     int64
	key      string
	from, to *redis.Client
	fromID   string
	toID     string
	toPort   string
	others   []*redis.Client
}

func newMove(t testing.TB, c *redistest.Cluster, key sessions.Key) *move {
	m := &move{TB: t, key: string(key)}
	slot, err := direct(t, c.Masters[0]).ClusterKeySlot(t.Context(), string(key)).Result()
	if err != nil {
		t.Fatal(err)
	}
	m.slot = slot
	from := c.Owner(int(slot))
	to := (from + 1) % len(c.Masters)
	m.from, m.to = direct(t, c.Masters[from]), direct(t, c.Masters[to])
	m.others = []*redis.Client{direct(t, c.Masters[(from+2)%len(c.Masters)])}
	m.fromID, m.toID = m.from.Do(t.Context(), "cluster", "myid").Val().(string), m.to.Do(t.Context(), "cluster", "myid").Val().(string)
	_, m.toPort, _ = net.SplitHostPort(c.Masters[to].Addr)
	return m
}

func (m *move) begin() {
	do(m, m.to, "cluster", "setslot", m.slot, "importing", m.fromID)
	do(m, m.from, "cluster", "setslot", m.slot, "migrating", m.toID)
}

func (m *move) carry() {
	do(m, m.from, "migrate", "127.0.0.1", m.toPort, m.key, 0, 5000, "auth", redistest.Password)
}

func (m *move) end() {
	do(m, m.to, "cluster", "bumpepoch")
	for _, c := range append([]*redis.Client{m.to, m.from}, m.others...) {
		do(m, c, "cluster", "setslot", m.slot, "node", m.toID)
	}
}

// TestWatchFailover kills the master: streams go on with the one that takes its place, or end.
func TestWatchFailover(t *testing.T) {
	long(t)
	for _, kind := range []redistest.Kind{redistest.WithSentinels, redistest.InCluster} {
		t.Run(string(kind), func(t *testing.T) {
			deployment := redistest.StartDeployment(t, redistest.Topology{Kind: kind}, redistest.DeploymentOptions{})
			var at redisstore.ClientConfig
			deployment.Configure(&at.UniversalOptions)
			w, other := newWatcher(t, at, rig{config: watching.Config{Patience: 30 * time.Second}}), newManager(t, at, sessions.Config{})
			impatient := newWatcher(t, at, rig{config: watching.Config{Patience: 500 * time.Millisecond}})
			w.tracked(t)
			impatient.tracked(t)
			keys := logins(t, other, "42", 200)
			time.Sleep(300 * time.Millisecond) // replication is not waited for
			s, early := w.live(t, keys...), impatient.live(t, keys...)
			deployment.Servers[0].Kill()
			unavailable(t, early)
			// Of a Cluster only a part of the sessions has been away, and this client may hear
			// of the failover later than the watcher does.
			end := func(key sessions.Key) (began time.Time) {
				eventually(t, "revocation", func() bool {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					began = time.Now()
					err := other.Revoke(ctx, key)
					return err == nil || sessions.Absent(err) // by a call before, whose answer was lost
				})
				return began
			}
			end(keys[5])
			if ends := told(t, s, 1); ends[0].Index != 5 {
				t.Fatalf("told of %v", ends)
			}
			w.tracked(t)
			for _, i := range []int{11, 12, 13, 14} {
				began := end(keys[i])
				if ends := told(t, s, 1); ends[0].Index != i {
					t.Fatalf("told of %v", ends)
				}
				t.Logf("after the failover a revocation is told within %v", time.Since(began))
			}
			quiet(t, s, time.Second)
		})
	}
}
