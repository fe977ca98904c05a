package e2e_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// recovery is how long after the Sentinels have named another master a check may be
// unanswered: ten times what it usually is at most. How long the Sentinels take is theirs:
// after a stall of two seconds they do nothing for 30 s.
const recovery = 10 * time.Second

// downAfter is long enough for the Sentinels of a busy machine not to find a master dead
// that lives.
const downAfter = 3 * time.Second

// patientSentinels have the Sentinels wait for so long.
func patientSentinels(t *testing.T, set *redistest.Sentinels) {
	t.Helper()
	for _, s := range set.Processes {
		client := redis.NewSentinelClient(&redis.Options{Addr: s.Addr, Password: redistest.Password})
		must(t, client.Set(t.Context(), redistest.MasterName, "down-after-milliseconds", fmt.Sprint(downAfter.Milliseconds())).Err())
		must(t, client.Close())
	}
}

// A failover is the death of a master that has two replicas.
type failover struct {
	dead  *redistest.Server
	at    time.Time
	named chan string // the address of another master
	until time.Time   // when it was named; once there is a name
}

// fail kills the master, once both replicas have what it has.
func fail(t *testing.T, set *redistest.Sentinels) *failover {
	t.Helper()
	var dead *redistest.Server
	eventually(t, "no master has two replicas", func() bool {
		dead = master(t, set)
		client := dead.Client()
		defer func() { _ = client.Close() }()
		info, err := client.Info(t.Context(), "replication").Result()
		return err == nil && strings.Count(info, "state=online") == 2 && client.Wait(t.Context(), 2, time.Second).Val() == 2
	})
	dead.Kill()
	f := &failover{dead: dead, at: time.Now(), named: make(chan string, 1)}
	go func() {
		for t.Context().Err() == nil {
			if addr, err := askSentinel(t.Context(), set); err == nil && addr != dead.Addr {
				f.until = time.Now()
				f.named <- addr
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	return f
}

// ended waits for another master, and makes the dead one a replica of it.
func (f *failover) ended(t *testing.T) {
	t.Helper()
	var addr string
	select {
	case addr = <-f.named:
	case <-time.After(2 * time.Minute):
		t.Fatal("the Sentinels choose no master")
	}
	host, port, err := net.SplitHostPort(addr)
	must(t, err)
	must(t, f.dead.Restart())
	client := f.dead.Client()
	defer func() { _ = client.Close() }()
	must(t, client.ReplicaOf(t.Context(), host, port).Err())
}

// master is the server that the Sentinels name.
func master(t *testing.T, set *redistest.Sentinels) *redistest.Server {
	t.Helper()
	addr, err := askSentinel(t.Context(), set)
	must(t, err)
	for _, s := range append(set.Replicas, set.Master) {
		if s.Addr == addr {
			return s
		}
	}
	t.Fatalf("the Sentinels name %q", addr)
	return nil
}

// askSentinel returns the address of the master that the first Sentinel names.
func askSentinel(ctx context.Context, set *redistest.Sentinels) (string, error) {
	client := redis.NewSentinelClient(&redis.Options{Addr: set.Processes[0].Addr, Password: redistest.Password})
	defer func() { _ = client.Close() }()
	parts, err := client.GetMasterAddrByName(ctx, redistest.MasterName).Result()
	return strings.Join(parts, ":"), err
}

func eventually(t *testing.T, otherwise string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(otherwise)
		}
	}
}

// within holds each 503 to the window of a failover, and says how long they went on.
func (c *clients) within(failovers []*failover) {
	c.t.Helper()
	var death, name time.Duration
	for _, at := range c.unavailable {
		next := slices.IndexFunc(failovers, func(f *failover) bool { return f.at.After(at) })
		if next < 0 {
			next = len(failovers)
		}
		if next == 0 || at.After(failovers[next-1].until.Add(recovery)) {
			c.t.Errorf("a 503 outside of every failover, at %v", at)
			return
		}
		last := failovers[next-1]
		death, name = max(death, at.Sub(last.at)), max(name, at.Sub(last.until))
	}
	c.t.Logf("the last 503 came %v after the death of a master, and %v after the Sentinels named another",
		death.Round(time.Millisecond), name.Round(time.Millisecond))
}
