package redisstore

import "testing"

// TestObserving: what every operation does costs no allocation.
func TestObserving(t *testing.T) {
	m := newMetrics(nil, new(nodes))
	operation := func() (err error) {
		_, call := m.touch.begin(t.Context())
		defer call.done(&err)
		return nil
	}
	if n := testing.AllocsPerRun(1000, func() { _ = operation() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
