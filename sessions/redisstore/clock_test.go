package redisstore_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestNodeWithAWrongClock: one of three masters is 13 hours ahead. What it holds
// itself is its own to end; it ends and hides nothing that others hold: not where it
// tells the time, and not where it holds the list of a user's sessions or the mark.
func TestNodeWithAWrongClock(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartClusterWithClocks(t)
	options := patient
	options.Addrs, options.IsClusterMode = cluster.Addrs(), true
	client := connect(t, redisstore.ClientConfig{UniversalOptions: options})
	looking := cluster.Masters[0].Client()
	defer func() { _ = looking.Close() }()
	for _, ahead := range []time.Duration{13 * time.Hour, -13 * time.Hour} {
		t.Run(ahead.String(), func(t *testing.T) {
			store := redisstore.New(client, redisstore.Config{})
			m, err := sessions.NewManager(store, sessions.Config{})
			if err != nil {
				t.Fatal(err)
			}
			setClock(t, cluster.Masters[1], 0)
			users := map[string][]sessions.ID{}
			for range 24 { // over all slots
				user := sessions.NewID().Key().Handle()
				for range 4 {
					users[user] = append(users[user], newLogin(t, m, user))
				}
			}
			setClock(t, cluster.Masters[1], ahead)
			for range 12 {
				if err := m.SyncClock(t.Context()); err != nil {
					t.Fatal(err)
				}
				if off := time.Until(m.Now()).Abs(); off > time.Minute { // half of a round trip, of a busy machine
					t.Fatalf("the time is %v off", off)
				}
			}
			elsewhere := func(id sessions.ID) bool { return owner(t, looking, cluster, string(id.Key())) != 1 }
			for user, ids := range users {
				for _, id := range ids {
					_, err := m.Touch(t.Context(), id)
					if elsewhere(id) && err != nil {
						t.Errorf("a session that another node holds: %v", err)
					}
				}
				if list, _, err := m.List(t.Context(), user); err != nil || len(list) < count(ids, elsewhere) {
					t.Errorf("%d are listed of %d: %v", len(list), count(ids, elsewhere), err)
				}
				before := time.Now()
				if n, err := m.RevokeUser(t.Context(), user); err != nil || n < count(ids, elsewhere) {
					t.Errorf("%d were revoked of %d: %v", n, count(ids, elsewhere), err)
				}
				for _, id := range ids {
					if _, err := m.Touch(t.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
						t.Errorf("after the revocation: %v", err)
					}
				}
				// The age of the mark comes from the node that holds it, at any time of its clock.
				if _, _, err := m.Create(t.Context(), sessions.NewSession{UserID: user, Began: before.Add(-time.Second)}); !errors.Is(err, sessions.ErrEnded) {
					t.Errorf("a login that began before the revocation: %v", err)
				}
				// One that begins within a slow answer of it is taken for one that began before.
				for {
					_, _, err := m.Create(t.Context(), sessions.NewSession{UserID: user, Began: time.Now()})
					if !errors.Is(err, sessions.ErrEnded) {
						break
					}
					if time.Since(before) > 20*time.Second {
						t.Fatalf("a login that began after it: %v", err)
					}
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
}

// TestListedByAWrongClock: the master that holds the list of a user's sessions is 13
// hours ahead, and a program that makes a session by the documented recipe has listed
// it and not yet written the record, while others look at the list. When it has, the
// session is one that a revocation finds.
func TestListedByAWrongClock(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartClusterWithClocks(t)
	options := patient
	options.Addrs, options.IsClusterMode = cluster.Addrs(), true
	client := connect(t, redisstore.ClientConfig{UniversalOptions: options})
	m := newManager(t, client, sessions.Config{})
	looking := cluster.Masters[0].Client()
	defer func() { _ = looking.Close() }()
	user := "0"
	for n := 1; owner(t, looking, cluster, "user-sessions:"+user) != 1; n++ {
		user = strconv.Itoa(n)
	}
	key := sessions.NewID().Key()
	for owner(t, looking, cluster, string(key)) == 1 {
		key = sessions.NewID().Key()
	}
	setClock(t, cluster.Masters[1], 13*time.Hour)

	end, index := time.Now().Add(12*time.Hour), "user-sessions:"+user
	client.ZAdd(t.Context(), index, redis.Z{Score: float64(end.UnixMilli()), Member: key.Hash()})
	client.PExpireAt(t.Context(), index, end.Add(24*time.Hour))
	for range 3 {
		if _, _, err := m.List(t.Context(), user); err != nil {
			t.Fatal(err)
		}
	}
	// One whose record is that node's ends at once, and its login fails.
	var err error
	for range 50 {
		if _, _, err = m.Create(t.Context(), sessions.NewSession{UserID: user}); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	client.HSet(t.Context(), string(key), "v", "1", "user_id", user, "expires_at", end.UTC().Format(time.RFC3339))
	client.PExpireAt(t.Context(), string(key), time.Now().Add(time.Hour))
	if _, err := m.Lookup(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if _, err := m.RevokeUser(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Lookup(t.Context(), key); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("a session that the revocation missed: %v", err)
	}
}

func newLogin(t *testing.T, m *sessions.Manager, user string) sessions.ID {
	t.Helper()
	id, _, err := m.Create(t.Context(), sessions.NewSession{UserID: user})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func count(ids []sessions.ID, which func(sessions.ID) bool) (n int) {
	for _, id := range ids {
		if which(id) {
			n++
		}
	}
	return n
}

func owner(t *testing.T, client *redis.Client, cluster *redistest.Cluster, key string) int {
	t.Helper()
	slot, err := client.ClusterKeySlot(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Owner(int(slot))
}

// setClock sets a server's clock and waits until it shows.
func setClock(t *testing.T, server *redistest.Server, ahead time.Duration) {
	t.Helper()
	if err := server.SetClock(ahead); err != nil {
		t.Fatal(err)
	}
	client := server.Client()
	defer func() { _ = client.Close() }()
	for range 3000 {
		now, err := client.Time(t.Context()).Result()
		if err == nil && (time.Until(now)-ahead).Abs() < 10*time.Second {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("its clock does not show %v ahead", ahead)
}

// TestServerWithAWrongClock: a single server's clock is 13 hours ahead for one
// sample, and no session that is used, listed or beside which one logs in meanwhile is
// lost by our doing: those with an hour to live that the server keeps, are there.
func TestServerWithAWrongClock(t *testing.T) {
	server := redistest.StartWith(t, redistest.Options{Clock: true})
	client := newClient(t, server.Addr)
	// They idle for days, so that the server's own clock does not end them.
	m := newManager(t, client, sessions.Config{IdleTimeout: 48 * time.Hour, AbsoluteTimeout: 100 * time.Hour})
	if err := m.SyncClock(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids := logins(t, m, 6)
	for _, ahead := range []time.Duration{13 * time.Hour, -13 * time.Hour} {
		setClock(t, server, ahead)
		if err := m.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids[:5] {
			if _, err := m.Touch(t.Context(), id); err != nil {
				t.Errorf("%v ahead: %v", ahead, err)
			}
		}
		setClock(t, server, 0)
		for range 3 {
			if err := m.SyncClock(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if list, _, err := m.List(t.Context(), "42"); err != nil || len(list) != len(ids) {
			t.Errorf("%v ahead: %d are listed of %d, %v", ahead, len(list), len(ids), err)
		}
	}
	if n, err := m.RevokeUser(t.Context(), "42"); err != nil || n != len(ids) {
		t.Errorf("%d were revoked of %d, %v", n, len(ids), err)
	}
}
