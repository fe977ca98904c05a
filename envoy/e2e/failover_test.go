package e2e_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// failoverWindow is how long after the death of a master a check may be unanswered. It
// is usually down-after and 2 s; a busy machine takes longer.
const failoverWindow = redistest.DownAfter + 10*time.Second

// A failover is the death of a master that has two replicas.
type failover struct {
	set  *redistest.Sentinels
	dead *redistest.Server
	at   time.Time
}

// fail kills the master, once both replicas have what it has.
func fail(t *testing.T, set *redistest.Sentinels) failover {
	t.Helper()
	dead := master(t, set)
	client := dead.Client()
	defer func() { _ = client.Close() }()
	eventually(t, "the master has no two replicas", func() bool {
		info, err := client.Info(t.Context(), "replication").Result()
		return err == nil && strings.Count(info, "state=online") == 2 && client.Wait(t.Context(), 2, time.Second).Val() == 2
	})
	dead.Kill()
	return failover{set, dead, time.Now()}
}

// ended waits for another master, and makes the dead one a replica of it.
func (f failover) ended(t *testing.T) {
	t.Helper()
	eventually(t, "the Sentinels choose no master", func() bool { return masterAddr(t, f.set) != f.dead.Addr })
	host, port, err := net.SplitHostPort(masterAddr(t, f.set))
	must(t, err)
	must(t, f.dead.Restart())
	client := f.dead.Client()
	defer func() { _ = client.Close() }()
	must(t, client.SlaveOf(t.Context(), host, port).Err())
}

// master is the server that the Sentinels name.
func master(t *testing.T, set *redistest.Sentinels) *redistest.Server {
	t.Helper()
	addr := masterAddr(t, set)
	for _, s := range append(set.Replicas, set.Master) {
		if s.Addr == addr {
			return s
		}
	}
	t.Fatalf("the Sentinels name %q", addr)
	return nil
}

// masterAddr is the address that the first Sentinel gives.
func masterAddr(t *testing.T, set *redistest.Sentinels) string {
	t.Helper()
	client := redis.NewSentinelClient(&redis.Options{Addr: set.Processes[0].Addr, Password: redistest.Password})
	defer func() { _ = client.Close() }()
	parts, err := client.GetMasterAddrByName(t.Context(), redistest.MasterName).Result()
	must(t, err)
	return strings.Join(parts, ":")
}

func eventually(t *testing.T, otherwise string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(otherwise)
		}
	}
}

// within holds each 503 to the window of a failover, and says how long the longest
// outage was.
func (c *clients) within(failovers []failover) {
	c.t.Helper()
	var longest time.Duration
	for _, at := range c.unavailable {
		since := failoverWindow
		for _, f := range failovers {
			if at.After(f.at) {
				since = min(since, at.Sub(f.at))
			}
		}
		if since >= failoverWindow {
			c.t.Errorf("a 503 outside of every failover, at %v", at)
			return
		}
		longest = max(longest, since)
	}
	c.t.Logf("the last 503 came %v after the death of a master", longest.Round(time.Millisecond))
}
