package redisstore

import (
	"testing"
	"time"
)

// TestObserving: what every operation does costs no allocation.
func TestObserving(t *testing.T) {
	m := newMetrics(nil, new(nodes))
	operation := func() (err error) {
		defer m.touch.done(time.Now(), &err)
		return nil
	}
	if n := testing.AllocsPerRun(1000, func() { _ = operation() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
