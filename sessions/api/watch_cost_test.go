package api

import (
	"os"
	"runtime"
	"testing"

	"connectrpc.com/connect"
)

// TestWatchCost measures the memory of idle streams, with a connection and a client of each in this process
// included, by streams of one session and of 2,000.
func TestWatchCost(t *testing.T) {
	if os.Getenv("COATCHECK_FULL") != "1" {
		t.Skip("measures: COATCHECK_FULL=1")
	}
	s := newStand(t, nil)
	for _, each := range []int{1, 2000} {
		const streams = 40
		c := s.as("all", connect.WithGRPC())
		watchOf(t, c, "all", byKey(s.key)).hear(t)
		_, names := s.manySignIns(t, each)
		before, goroutines := used(), runtime.NumGoroutine()
		var open []*watch
		for range streams {
			open = append(open, watchOf(t, c, "all", names...))
			open[len(open)-1].hear(t)
		}
		after := used()
		t.Logf("%d streams of %d sessions: %.1f KiB a stream, %d goroutines more", streams, each, float64(after-before)/streams/1024, runtime.NumGoroutine()-goroutines)
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
