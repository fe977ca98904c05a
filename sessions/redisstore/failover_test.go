package redisstore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A failover is one kill of a master, in times since it.
type failover struct {
	promoted time.Duration // a replica says that it is a master
	told     time.Duration // those whom clients ask, name it
	lanes    time.Duration // the first check of every session succeeds: by lanes
	others   time.Duration // and by go-redis alone
}

// TestFailoverTimes kills masters, one after the other, and tells Redis's part of the time
// until the first check succeeds from ours, with touches on lanes and without.
func TestFailoverTimes(t *testing.T) {
	if !full {
		t.Skip("takes a minute: COATCHECK_FULL=1")
	}
	t.Run("Sentinel", func(t *testing.T) {
		d := redistest.StartDeployment(t, redistest.Topology{Kind: redistest.WithSentinels}, redistest.DeploymentOptions{})
		f := newFailoverRig(t, d)
		f.kills(redistest.DownAfter, func(dead *redistest.Server) (bool, error) {
			for _, sentinel := range d.Sentinels.Processes {
				addr, err := d.Sentinels.MasterOf(t.Context(), sentinel)
				if err != nil || addr == dead.Addr {
					return false, err
				}
			}
			return true, nil
		})
	})
	t.Run("Cluster", func(t *testing.T) {
		d := redistest.StartDeployment(t, redistest.Topology{Kind: redistest.InCluster}, redistest.DeploymentOptions{})
		f := newFailoverRig(t, d)
		f.kills(redistest.NodeTimeout, func(dead *redistest.Server) (bool, error) {
			_, port, _ := strings.Cut(dead.Addr, ":")
			for _, s := range d.Servers {
				if s == dead {
					continue
				}
				client := s.Client()
				shards, err := client.ClusterSlots(t.Context()).Result() //nolint:staticcheck // what clients ask
				client.Close()
				if err != nil {
					return false, err
				}
				for _, shard := range shards {
					if strings.HasSuffix(shard.Nodes[0].Addr, ":"+port) {
						return false, nil
					}
				}
			}
			return true, nil
		})
	})
}

// A failoverRig has two clients, whose ids cover every master.
type failoverRig struct {
	*testing.T
	d             *redistest.Deployment
	lanes, others *sessions.Manager
	ids           []sessions.ID
}

func newFailoverRig(t *testing.T, d *redistest.Deployment) *failoverRig {
	t.Helper()
	config := hasty()
	d.Configure(&config.UniversalOptions)
	byGoRedis := connect(t, config)
	byGoRedis.AddHook(silentHook{}) // which ends its lanes
	f := &failoverRig{T: t, d: d}
	f.lanes, f.others = newManager(t, connect(t, config), sessions.Config{MaxPerUser: -1}), newManager(t, byGoRedis, sessions.Config{MaxPerUser: -1})
	config.UniversalOptions = patient // the test's hand
	d.Configure(&config.UniversalOptions)
	f.ids = logins(t, newManager(t, connect(t, config), sessions.Config{MaxPerUser: -1}), 48)
	return f
}

// A silentHook sees commands and changes nothing.
type silentHook struct{}

func (silentHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (silentHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (silentHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// kills kills the master of the first session, seven times, and starts it again.
func (f *failoverRig) kills(wait time.Duration, named func(dead *redistest.Server) (bool, error)) {
	f.Helper()
	var all []failover
	for range 7 {
		all = append(all, f.kill(named))
	}
	median := func(of func(failover) time.Duration) time.Duration {
		times := make([]time.Duration, len(all))
		for i, one := range all {
			times[i] = of(one)
		}
		slices.Sort(times)
		return times[len(times)/2].Round(10 * time.Millisecond)
	}
	f.Logf("%s, of %d kills, with a timeout of %v: promoted after a median of %v, named everywhere after %v, first answers by lanes after %v, by go-redis after %v; behind the promotion %v and %v; all: %v",
		f.d.Topology, len(all), wait,
		median(func(o failover) time.Duration { return o.promoted }), median(func(o failover) time.Duration { return o.told }),
		median(func(o failover) time.Duration { return o.lanes }), median(func(o failover) time.Duration { return o.others }),
		median(func(o failover) time.Duration { return o.lanes - o.promoted }), median(func(o failover) time.Duration { return o.others - o.promoted }), all)
	if most := median(func(o failover) time.Duration { return max(o.lanes, o.others) - o.promoted }); most > 2*time.Second {
		f.Errorf("the client needed %v behind the promotion", most)
	}
}

func (f *failoverRig) kill(named func(*redistest.Server) (bool, error)) (o failover) {
	f.Helper()
	master := f.masterOfFirst()
	ids := f.heldBy(master)
	loads := []*load{startLoad(f.T, f.lanes, 4, checkTimeout, f.ids...), startLoad(f.T, f.others, 4, checkTimeout, f.ids...)}
	time.Sleep(700 * time.Millisecond) // lanes, and replication, which is not waited for
	replicas := f.replicasOf(master)
	start := time.Now()
	master.Kill()
	promoted := f.when(start, func() (bool, error) { return f.anyMaster(replicas), nil })
	told := f.when(start, func() (bool, error) { return named(master) })
	lanes, others := f.served(f.lanes, start, ids), f.served(f.others, start, ids)
	o = failover{<-promoted, <-told, <-lanes, <-others}
	for _, l := range loads {
		failed(f.T, l.end())
	}
	if err := master.Restart(); err != nil {
		f.Fatal(err)
	}
	f.settled(master)
	return o
}

// when waits for a state, beside the others.
func (f *failoverRig) when(start time.Time, is func() (bool, error)) <-chan time.Duration {
	at := make(chan time.Duration, 1)
	go func() {
		for time.Since(start) < 30*time.Second {
			if ok, err := is(); ok && err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		at <- time.Since(start)
	}()
	return at
}

// served waits until each session was answered for since.
func (f *failoverRig) served(m *sessions.Manager, start time.Time, ids []sessions.ID) <-chan time.Duration {
	return f.when(start, func() (bool, error) {
		for len(ids) > 0 {
			if _, err := check(m, ids[0], checkTimeout); err != nil {
				return false, err
			}
			ids = ids[1:]
		}
		return true, nil
	})
}

func (f *failoverRig) anyMaster(servers []*redistest.Server) bool {
	for _, s := range servers {
		if role(s) == "master" {
			return true
		}
	}
	return false
}

// role is what a server takes itself for.
func role(s *redistest.Server) string {
	client := s.Client()
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	answer, err := client.Do(ctx, "role").Slice()
	if err != nil || len(answer) == 0 {
		return ""
	}
	text, _ := answer[0].(string)
	return text
}

// masterOfFirst is the server that holds the first session as a master.
func (f *failoverRig) masterOfFirst() *redistest.Server {
	f.Helper()
	for _, s := range f.d.Servers {
		if role(s) == "master" && f.holds(s, f.ids[0]) {
			return s
		}
	}
	f.Fatal("no master holds the session")
	return nil
}

func (f *failoverRig) holds(s *redistest.Server, id sessions.ID) bool {
	client := s.Client()
	defer client.Close()
	return client.Exists(f.Context(), string(id.Key())).Val() == 1
}

func (f *failoverRig) heldBy(s *redistest.Server) (ids []sessions.ID) {
	for _, id := range f.ids {
		if f.holds(s, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (f *failoverRig) replicasOf(master *redistest.Server) (replicas []*redistest.Server) {
	for _, s := range f.d.Servers {
		if s != master && role(s) == "slave" {
			replicas = append(replicas, s)
		}
	}
	return replicas
}

// settled waits until a server that was started again is a replica in step, and the
// Sentinels have ended the failover.
func (f *failoverRig) settled(s *redistest.Server) {
	f.Helper()
	client := s.Client()
	defer client.Close()
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		info := client.Info(f.Context(), "replication").Val()
		if strings.Contains(info, "role:slave") && strings.Contains(info, "master_link_status:up") {
			break
		}
		if time.Since(start) > time.Minute {
			f.Fatal("the server is no replica within a minute")
		}
	}
	time.Sleep(4 * time.Second) // Sentinels try no failover of the same master sooner
}

// TestWaitAfterMove: on a client whose map of a Cluster is old, a revocation still reaches
// the master of the record, and it is this one's replicas that acknowledge.
func TestWaitAfterMove(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 1, nil)
	config := checking(cluster.Addrs()...)
	config.IsClusterMode, config.ReadTimeout = true, 10*time.Second
	client := connect(t, config)
	store := redisstore.New(client, redisstore.Config{WaitReplicas: 1, WaitTimeout: 9 * time.Second})
	m, err := sessions.NewManager(store, sessions.Config{MaxPerUser: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, s, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	looking := cluster.Masters[0].Client()
	defer looking.Close()
	slot, err := looking.ClusterKeySlot(t.Context(), string(s.Key)).Result()
	if err != nil {
		t.Fatal(err)
	}
	from, to := cluster.Owner(int(slot)), (cluster.Owner(int(slot))+1)%3
	if n, err := store.Delete(t.Context(), "42", s.Key); n != 1 || err != nil {
		t.Fatalf("deleted %d: %v", n, err)
	}
	cluster.Move(t, int(slot), to)
	record := map[string]any{"v": "1", "user_id": "42"}
	target := cluster.Masters[to].Client()
	defer target.Close()
	if err := errors.Join(target.HSet(t.Context(), string(s.Key), record).Err(), target.PExpire(t.Context(), string(s.Key), time.Minute).Err()); err != nil {
		t.Fatal(err)
	}
	cluster.Replicas[from].Kill() // whose word would be of no use
	if n, err := store.Delete(t.Context(), "42", s.Key); n != 1 || err != nil {
		t.Fatalf("after the move: deleted %d: %v", n, err)
	}
	if target.Exists(t.Context(), string(s.Key)).Val() != 0 {
		t.Error("the record is there")
	}
	cluster.Replicas[to].Kill()
	if err := errors.Join(target.HSet(t.Context(), string(s.Key), record).Err(), target.PExpire(t.Context(), string(s.Key), time.Minute).Err()); err != nil {
		t.Fatal(err)
	}
	quick := redisstore.New(client, redisstore.Config{WaitReplicas: 1, WaitTimeout: 10 * time.Millisecond})
	if n, err := quick.Delete(t.Context(), "42", s.Key); n != 1 || !errors.Is(err, sessions.ErrNotReplicated) {
		t.Errorf("without its replica: deleted %d: %v", n, err)
	}
}
