package api

import (
	"runtime"
	"testing"

	"connectrpc.com/connect"
)

// TestWatchCost holds the memory of idle streams to twice what docs/api.md says: 100 KiB
// each, with a connection and its client in this process included, and 250 bytes for each
// session.
func TestWatchCost(t *testing.T) {
	s := newStand(t, nil)
	for _, each := range []int{1, 2000} {
		const streams = 40
		c := s.as("all", connect.WithGRPC())
		watchOf(t, c, "all", byKey(s.key)).hear(t)
		_, names := s.manySignIns(t, each)
		before := used()
		var open []*watch
		for range streams {
			open = append(open, watchOf(t, c, "all", names...))
			open[len(open)-1].hear(t)
		}
		cost := (int(used()) - int(before)) / streams
		t.Logf("%d streams of %d sessions: %d KiB a stream", streams, each, cost>>10)
		if limit := 2 * (100<<10 + 250*each); cost > limit {
			t.Errorf("a stream of %d sessions takes %d KiB, more than %d", each, cost>>10, limit>>10)
		}
		for _, w := range open {
			w.end()
		}
	}
}

func used() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
