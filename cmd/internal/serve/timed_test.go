package serve

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/nearcache"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A wrongClock is the clock of a machine that is days off.
type wrongClock struct {
	start time.Time
	off   time.Duration
}

func (c wrongClock) Now() time.Time         { return time.Now().Add(c.off) }
func (c wrongClock) Elapsed() time.Duration { return time.Since(c.start) }

// TestFirstCheckByAWrongClock: Redis was away at the start, so that this machine's clock
// is all that there is, and it is wrong. The first check when Redis is back finds its
// session, and the first login makes one of the usual length.
func TestFirstCheckByAWrongClock(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(t).Addr, Password: redistest.Password})
	defer func() { _ = client.Close() }()
	store := redisstore.New(client, redisstore.Config{})
	right, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := right.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []time.Duration{48 * time.Hour, -48 * time.Hour} {
		start := func() *timed {
			m, err := sessions.NewManager(store, sessions.Config{Clock: wrongClock{time.Now(), off}})
			if err != nil {
				t.Fatal(err)
			}
			return &timed{Manager: m}
		}
		if _, err := start().Touch(t.Context(), id); err != nil {
			t.Errorf("%v off, a check: %v", off, err)
		}
		if _, err := start().Lookup(t.Context(), id.Key()); err != nil {
			t.Errorf("%v off, a page of login: %v", off, err)
		}
		_, s, err := start().Create(t.Context(), sessions.NewSession{UserID: "43"})
		if err != nil || time.Until(s.ExpiresAt) > 13*time.Hour {
			t.Errorf("%v off, a login: %v, %v", off, s, err)
		}
	}
}

// TestTimeThatMayNotBeAsked: without the right to TIME, checks go by this machine's
// clock, as ever.
func TestTimeThatMayNotBeAsked(t *testing.T) {
	server := redistest.Start(t)
	admin := redis.NewClient(&redis.Options{Addr: server.Addr, Password: redistest.Password})
	defer func() { _ = admin.Close() }()
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "some", "on", ">secret", "~*", "+@all", "-time").Err(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr, Username: "some", Password: "secret"})
	defer func() { _ = client.Close() }()
	m, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&timed{Manager: m}).Touch(t.Context(), sessions.NewID()); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("an unknown session: %v", err)
	}
}

// TestNearCacheHolds: a near cache that remembers that a key names nothing does not say so
// while missing sessions are held.
func TestNearCacheHolds(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(t).Addr, Password: redistest.Password})
	defer func() { _ = client.Close() }()
	store := redisstore.New(client, redisstore.Config{})
	m, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := nearcache.New(nearcache.Config{Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	cache.Alive(time.Now())
	near, id := cache.Sessions(&timed{Manager: m, missing: store.Missing}), sessions.NewID()
	if _, err := near.Touch(t.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
		t.Fatal(err)
	}
	store.HoldMissing(time.Now().Add(time.Minute))
	if _, _, err := near.Peek(id, nil); !errors.Is(err, redisstore.ErrEmptied) {
		t.Errorf("while they are held: %v", err)
	}
}
