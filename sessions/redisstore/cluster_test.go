package redisstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestCluster kills one master of three under load. The sessions of the others
// are served as if nothing were; those of the dead one are errors, never gone,
// and served again by its replica.
func TestCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 1, nil)
	config := checking(cluster.Addrs()...)
	m := newManager(t, connect(t, config), sessions.Config{MaxPerUser: -1})
	ids := logins(t, m, 96) // over all slots
	shards := make([][]sessions.ID, len(cluster.Masters))
	client := cluster.Masters[0].Client()
	defer client.Close()
	for _, id := range ids {
		slot, err := client.ClusterKeySlot(t.Context(), string(id.Key())).Result()
		if err != nil {
			t.Fatal(err)
		}
		owner := cluster.Owner(int(slot))
		shards[owner] = append(shards[owner], id)
	}
	for i, master := range cluster.Masters {
		replicated(t, master, cluster.Replicas[i])
	}
	dead, others := startLoad(t, m, 4, checkTimeout, shards[1]...), startLoad(t, m, 8, enough, append(shards[0], shards[2]...)...)
	time.Sleep(300 * time.Millisecond)
	killed := time.Now()
	cluster.Masters[1].Kill()
	time.Sleep(redistest.NodeTimeout / 2)
	served := untilServed(t, m, killed, shards[1]...)
	bad := failed(t, dead.end())
	p50, _, most := quantiles(bad)
	t.Logf("Cluster: served %v after a master was killed (node timeout %v); %d checks failed, half of them within %v, all within %v",
		served, redistest.NodeTimeout, len(bad), p50, most)
	if len(bad) == 0 || most > heldUp {
		t.Errorf("of the dead master's checks %d failed, the slowest took %v", len(bad), most)
	}
	calls := others.end()
	_, p99, most := quantiles(calls)
	t.Logf("Cluster: of the others' %d checks 99 of 100 took at most %v, all at most %v", len(calls), p99, most)
	if bad := failed(t, calls); len(bad) != 0 {
		t.Errorf("%d checks of other masters' sessions failed: %v", len(bad), bad[0].err)
	}
}

// TestClusterPauses: what a Cluster refuses is asked for again by go-redis, and is still
// known within 20 ms.
func TestClusterPauses(t *testing.T) {
	t.Parallel()
	client, err := redisstore.NewClient(redisstore.At("127.0.0.1:1", "127.0.0.1:2"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	cluster, ok := client.UniversalClient.(*redis.ClusterClient)
	if !ok {
		t.Fatalf("a client of %T", client.UniversalClient)
	}
	o := cluster.Options()
	if most := time.Duration(o.MaxRedirects) * o.MaxRetryBackoff; most > 20*time.Millisecond {
		t.Errorf("a refusal may be known after %v", most)
	}
}

// TestClusterBySeed is told one address only, and does all there is to do.
func TestClusterBySeed(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0, nil)
	config := checking(cluster.Masters[2].Addr)
	config.IsClusterMode = true
	client := connect(t, config)
	m := newManager(t, client, sessions.Config{})
	ids := logins(t, m, 32)
	for _, id := range ids {
		if _, err := check(m, id, enough); err != nil {
			t.Error(err)
		}
	}
	for i, server := range cluster.Masters {
		looking := server.Client()
		if n := looking.DBSize(t.Context()).Val(); n == 0 {
			t.Errorf("master %d has no session", i)
		}
		looking.Close()
	}
	_, diagnosed := redisstore.New(client, redisstore.Config{}).Diagnose(t.Context())
	added := m.Add(t.Context(), ids[0].Key(), map[string]string{"cart": "3"})
	_, missing := m.Touch(t.Context(), sessions.NewID())
	if err := errors.Join(diagnosed, added, unless(missing, sessions.ErrNotFound), m.SyncClock(t.Context())); err != nil {
		t.Error(err)
	}
	if n, err := m.RevokeUser(t.Context(), "42"); err != nil || n != len(ids) {
		t.Errorf("revoked %d, %v", n, err)
	}
	for _, server := range cluster.Masters {
		looking := server.Client()
		if n := calls(t, looking, "command"); n > 0 { // go-redis waits for it past any deadline
			t.Errorf("COMMAND was sent %d times", n)
		}
		looking.Close()
	}
}
