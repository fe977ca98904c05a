package redisstore

import (
	"strings"
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
