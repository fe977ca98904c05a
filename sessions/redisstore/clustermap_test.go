package redisstore

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestMap asks nodes that tell different maps: three masters of a Cluster, one that is not
// of it and has all slots by its own account, and two that know of none.
func TestMap(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0, nil)
	loner := func() *redistest.Server { return redistest.StartWith(t, redistest.Options{Cluster: true}) }
	stranger, bare, bare2 := loner(), loner(), loner()
	client := stranger.Client()
	defer client.Close()
	must(t, client.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err())
	m := cluster.Masters
	theirs, its := told(t, m[0]), told(t, stranger)
	if theirs == its {
		t.Fatal("both tell the same map")
	}
	for _, test := range []struct {
		name    string
		want    string
		servers []*redistest.Server
	}{
		{"two against one", theirs, []*redistest.Server{stranger, m[0], m[1]}},
		{"nodes without slots", theirs, []*redistest.Server{bare, bare2, m[0]}},
		{"no slots at all", "", []*redistest.Server{bare}},
	} {
		if got := told(t, test.servers...); got != test.want {
			t.Errorf("%s: the map is\n%s", test.name, got)
		}
	}
	asked(t, m[0])
	must(t, m[2].Pause())
	begin := time.Now()
	if got := told(t, stranger, m[2], m[0], m[1]); got != theirs {
		t.Errorf("with one that hangs: the map is\n%s", got)
	}
	if took := time.Since(begin); took > 10*askWait {
		t.Errorf("with one that hangs, it took %v", took)
	}
	hangs := asker(t, m[2])
	for range 2 {
		if _, err := hangs.ask(t.Context()); err == nil {
			t.Error("a map of none that answers")
		}
	}
	must(t, m[2].Resume())
}

// told is the map on which these servers agree, in words.
func told(t *testing.T, servers ...*redistest.Server) string {
	t.Helper()
	slots, err := asker(t, servers...).ask(t.Context())
	must(t, err)
	return masters(slots)
}

func asker(t *testing.T, servers ...*redistest.Server) *mapper {
	t.Helper()
	m := &mapper{nodes: new(nodes)}
	for _, server := range servers {
		client := server.Client()
		t.Cleanup(func() { _ = client.Close() })
		m.nodes.add(client)
	}
	return m
}

// TestMapOfLateNodes: a node without slots, which answers at once, may have left; and a
// master is one also where go-redis reaches it by another address than the others.
func TestMapOfLateNodes(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0, nil)
	want := told(t, cluster.Masters[0])
	servers := []*redistest.Server{redistest.StartWith(t, redistest.Options{Cluster: true})}
	for _, master := range cluster.Masters {
		client := master.Client()
		defer client.Close()
		must(t, client.ClientPause(t.Context(), 2*askWait).Err())
		servers = append(servers, master)
	}
	if got := told(t, servers...); got != want {
		t.Errorf("the map is\n%s", got)
	}
	proxy, err := redistest.NewProxy(cluster.Masters[0].Addr)
	must(t, err)
	defer proxy.Close()
	client := redis.NewClient(&redis.Options{Addr: proxy.Addr, NodeAddress: cluster.Masters[0].Addr, Password: redistest.Password})
	defer client.Close()
	nodes := new(nodes)
	nodes.add(client)
	if answer := nodes.all()[0].tellMap(); answer.err != nil || !answer.byMaster() {
		t.Errorf("%s is no master in %v, %v", answer.addr, masters(answer.slots), answer.err)
	}
}

// asked has go-redis, and then a caller, ask a node for the map. What go-redis holds is what
// it was told, and not what the caller was.
func asked(t *testing.T, server *redistest.Server) {
	t.Helper()
	m := asker(t, server)
	ask := mapperNode{m}.ProcessHook(func(context.Context, redis.Cmder) error { return errors.New("one node was asked") })
	for _, call := range []struct {
		by    redis.ProcessHook
		holds bool
	}{{m.ProcessHook(ask), false}, {ask, true}} {
		question := redis.NewClusterSlotsCmd(t.Context(), "cluster", "slots")
		must(t, call.by(t.Context(), question))
		if len(question.Val()) == 0 || (m.held.Load() != nil) != call.holds {
			t.Errorf("told %v; go-redis holds a map: %v", question.Val(), !call.holds)
		}
	}
}

// TestDownAtStart: while a Cluster has told no map, callers do not queue for it.
func TestDownAtStart(t *testing.T) {
	t.Parallel()
	silent := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes the connections
		must(t, err)
		t.Cleanup(func() { _ = l.Close() })
		return l.Addr().String()
	}
	for name, addrs := range map[string][]string{
		"refused": {"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}, "silent": {silent(), silent(), silent()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := At(addrs...)
			config.BreakerFailures = 5
			client, err := NewClient(config)
			must(t, err)
			defer client.Close()
			var mu sync.Mutex
			var all []time.Duration
			var running sync.WaitGroup
			begin := time.Now()
			for range 40 {
				running.Go(func() {
					for time.Since(begin) < 2*time.Second {
						ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
						asked := time.Now()
						_ = client.Get(ctx, "key").Err()
						cancel()
						mu.Lock()
						all = append(all, time.Since(asked))
						mu.Unlock()
						time.Sleep(20 * time.Millisecond)
					}
				})
			}
			running.Wait()
			slices.Sort(all)
			half := all[len(all)/2]
			t.Logf("%d calls, half of them within %v, all within %v", len(all), half, all[len(all)-1])
			if half > 200*time.Millisecond { // ten times what a known outage may cost
				t.Errorf("half of the calls took more than %v", half)
			}
		})
	}
}

// TestVote: masters decide, where they tell different maps, and else all nodes.
func TestVote(t *testing.T) {
	one := func(master string) []redis.ClusterSlot {
		return []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: master}, {Addr: "replica"}}}}
	}
	for _, test := range []struct{ name, answers, want string }{
		{"none", "", ""},
		{"most nodes", "x:a y:b z:b", "b"},
		{"most nodes, in another order", "y:b x:a z:b", "b"},
		{"a master against three replicas", "x:a y:a z:a b:b", "b"},
		{"a master first", "b:b x:a y:a z:a", "b"},
		{"a master each, and a replica", "a:a b:b x:b", "b"},
	} {
		votes := vote{of: make(map[string]tally)}
		for _, answer := range strings.Fields(test.answers) {
			addr, master, _ := strings.Cut(answer, ":")
			votes.count(mapAnswer{addr: addr, slots: one(master)})
		}
		votes.count(mapAnswer{addr: "bare"})
		got := ""
		for _, slot := range votes.agreed {
			got = masterOf(slot)
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
