package watching_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2" //nolint:depguard // streams of any size and length; it keeps no secret
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api/internal/watching"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A life is one session of the model: what has been asked of it.
type life struct {
	id      sessions.ID
	key     sessions.Key
	ending  atomic.Bool // a revocation was sent
	revoked atomic.Bool // and acknowledged
}

// TestModel opens and closes streams at random, while sessions are revoked and used, and the
// tracking connection breaks. Each stream is told of each of its sessions that was revoked,
// once for each name, of no other, and in the first answer of all that were revoked before.
func TestModel(t *testing.T) {
	t.Parallel()
	lasts := 2 * time.Second
	if os.Getenv("COATCHECK_FULL") == "1" {
		lasts = time.Minute
	}
	server := redistest.Start(t)
	at := redisstore.At(server.Addr)
	config := sessions.Config{IdleTimeout: 10 * time.Minute, IdleStep: time.Millisecond, MaxPerUser: -1}
	w, other := newWatcher(t, at, rig{}), newManager(t, at, config)
	w.tracked(t)
	m := &model{T: t, hub: w.Hub, manager: other, lives: make([]*life, 400), stop: make(chan struct{})}
	for i := range m.lives {
		id, s, err := other.Create(t.Context(), sessions.NewSession{UserID: "42"})
		if err != nil {
			t.Fatal(err)
		}
		m.lives[i] = &life{id: id, key: s.Key}
	}
	var changing, watching sync.WaitGroup
	changing.Go(func() { m.use() })
	changing.Go(func() { m.revoke(lasts) })
	changing.Go(func() {
		c := server.Client()
		defer c.Close()
		for m.sleep(300 * time.Millisecond) {
			_ = c.Do(context.Background(), "client", "kill", "type", "pubsub").Err()
		}
	})
	for i := range 8 {
		watching.Go(func() { m.watch(rand.New(rand.NewPCG(uint64(i), 1))) })
	}
	time.Sleep(lasts)
	close(m.stop)
	changing.Wait()
	watching.Wait()
	if streams, names, kept := w.Held(); streams+names+kept > 0 {
		t.Errorf("left: %d %d %d", streams, names, kept)
	}
	t.Logf("%d streams, %d ends at the beginning, %d later", m.streams.Load(), m.early.Load(), m.late.Load())
}

type model struct {
	*testing.T
	hub                  *watching.Hub
	manager              *sessions.Manager
	lives                []*life
	stop                 chan struct{}
	streams, early, late atomic.Int64
}

// sleep reports whether the model goes on.
func (m *model) sleep(d time.Duration) bool {
	select {
	case <-m.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// use slides sessions, each use of which is a change.
func (m *model) use() {
	for m.sleep(time.Millisecond) {
		l := m.lives[rand.IntN(len(m.lives))]
		if _, err := m.manager.Touch(context.Background(), l.id); err != nil && (!sessions.Absent(err) || !l.ending.Load()) {
			m.Errorf("a use: %v", err)
		}
	}
}

// revoke ends three quarters of the sessions, one after the other.
func (m *model) revoke(lasts time.Duration) {
	n := len(m.lives) * 3 / 4
	for _, i := range rand.Perm(len(m.lives))[:n] {
		if !m.sleep(lasts / time.Duration(n)) {
			return
		}
		l := m.lives[i]
		l.ending.Store(true)
		if err := m.manager.Revoke(context.Background(), l.key); err != nil {
			m.Errorf("a revocation: %v", err)
		}
		l.revoked.Store(true)
	}
}

// watch opens streams until the end of the model.
func (m *model) watch(chance *rand.Rand) {
	for m.sleep(0) {
		names := make([]*life, 1+chance.IntN(200))
		keys := make([]sessions.Key, len(names))
		before := make([]bool, len(names))
		for i := range names {
			names[i] = m.lives[chance.IntN(len(m.lives))]
			keys[i] = names[i].key
			before[i] = names[i].revoked.Load()
		}
		s, err := m.hub.Open("caller", keys)
		if err != nil {
			m.Error(err)
			return
		}
		m.streams.Add(1)
		m.follow(s, names, before, time.Duration(chance.IntN(200))*time.Millisecond)
		s.Close()
	}
}

// follow listens to a stream for a time, and then until it was told of all that was revoked.
func (m *model) follow(s *watching.Stream, names []*life, before []bool, lasts time.Duration) {
	told := make([]bool, len(names))
	first := true
	for end := time.Now().Add(lasts); ; {
		ends, err := next(s, max(time.Until(end), 10*time.Millisecond))
		if errors.Is(err, context.DeadlineExceeded) && !first || errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, context.DeadlineExceeded) {
			continue
		}
		if first && errors.Is(err, watching.ErrUnavailable) {
			return // the first read took too long, on a busy machine
		}
		if err != nil {
			m.Error(err)
			return
		}
		for _, e := range ends {
			if told[e.Index] || !names[e.Index].ending.Load() || e.Reason != watching.NotFound {
				m.Errorf("told of %v, told before: %v", e, told[e.Index])
			}
			told[e.Index] = true
		}
		for i := range names {
			if first && before[i] && !told[i] {
				m.Error("a session that was revoked before is not in the first answer")
			}
		}
		if first {
			m.early.Add(int64(len(ends)))
		} else {
			m.late.Add(int64(len(ends)))
		}
		first = false
	}
	m.complete(s, names, told)
}

// complete waits for the ends that were acknowledged by now.
func (m *model) complete(s *watching.Stream, names []*life, told []bool) {
	for end := time.Now().Add(time.Minute); ; {
		missing := false
		for i, l := range names {
			missing = missing || l.revoked.Load() && !told[i]
		}
		if !missing {
			return
		}
		if time.Now().After(end) {
			m.Error("a revocation was never told of")
			return
		}
		ends, err := next(s, 50*time.Millisecond)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			m.Error("there are revocations of which it was not told:", err)
			return
		}
		m.late.Add(int64(len(ends)))
		for _, e := range ends {
			if told[e.Index] || !names[e.Index].ending.Load() {
				m.Errorf("told of %v, told before: %v", e, told[e.Index])
			}
			told[e.Index] = true
		}
	}
}
