package extauthz

import (
	"net"
	"sync"
	"sync/atomic"
)

// A gate bounds what goes on at the same time. What does not fit is not queued:
// behind a store that hangs a queue only makes everybody late.
type gate struct {
	limit  int64
	inside atomic.Int64
}

// enter reports whether there is room. If there is, leave must follow.
func (g *gate) enter() bool {
	for {
		inside := g.inside.Load()
		if inside >= g.limit {
			return false
		}
		if g.inside.CompareAndSwap(inside, inside+1) {
			return true
		}
	}
}

func (g *gate) leave() { g.inside.Add(-1) }

// The calls whose CheckRequest may be on its way at the same time: of everybody,
// and above that still of each connection. From an Envoy a request comes with the
// call, so that there are hardly any; of a peer that begins messages and does not
// end them each could hold the largest message in memory. The second number keeps
// such a peer from keeping the others out.
const (
	maxReceiving      = 512
	maxReceivingOfOne = 2
)

// A reception counts the calls whose CheckRequest is on its way.
type reception struct {
	mu    sync.Mutex
	total int
	of    map[net.Addr]int // by connection, whose address is one and the same value
}

// enter reports whether there is room for one more from a connection. If there
// is, leave must follow.
func (r *reception) enter(connection net.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.of[connection]
	if r.total >= maxReceiving && n >= maxReceivingOfOne {
		return false
	}
	if r.of == nil {
		r.of = make(map[net.Addr]int)
	}
	r.of[connection] = n + 1
	r.total++
	return true
}

func (r *reception) leave(connection net.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total--
	if r.of[connection]--; r.of[connection] == 0 {
		delete(r.of, connection)
	}
}
