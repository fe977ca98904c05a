package extauthz

import (
	"net"
	"sync"
	"sync/atomic"
)

// An inFlight is a limit on calls at the same time. A call above the limit is not
// queued: behind a store that hangs a queue only makes every call late.
type inFlight struct {
	limit  int64
	inside atomic.Int64
}

// enter reports whether there is room. If there is, leave must follow.
func (f *inFlight) enter() bool {
	for {
		inside := f.inside.Load()
		if inside >= f.limit {
			return false
		}
		if f.inside.CompareAndSwap(inside, inside+1) {
			return true
		}
	}
}

func (f *inFlight) leave() { f.inside.Add(-1) }

// How many calls may have their CheckRequest on its way at the same time: of all
// connections, and above that still of each. From an Envoy a message comes with the
// call, so such calls are few. A peer that begins messages and does not end them could
// hold the largest message in memory for each; the second number keeps such a peer
// from shutting the others out.
const (
	maxReceiving      = 256
	maxReceivingOfOne = 2
)

// An arrivals counts the calls whose CheckRequest is on its way.
type arrivals struct {
	mu    sync.Mutex
	total int
	of    map[net.Addr]int // by connection, whose address is one and the same value
}

// enter reports whether there is room for one more from a connection. If there
// is, leave must follow.
func (a *arrivals) enter(connection net.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.of[connection]
	if a.total >= maxReceiving && n >= maxReceivingOfOne {
		return false
	}
	if a.of == nil {
		a.of = make(map[net.Addr]int)
	}
	a.of[connection] = n + 1
	a.total++
	return true
}

func (a *arrivals) leave(connection net.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	if a.of[connection]--; a.of[connection] == 0 {
		delete(a.of, connection)
	}
}
