package redisstore

import (
	"testing"
	"time"

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
