package extauthz

import "sync/atomic"

// A gate bounds the checks that wait for their sessions at the same time. A
// check that does not fit is not queued: behind a store that hangs a queue only
// makes everybody late. A check that needs no lookup passes by the gate, since
// it is cheaper to answer than to refuse.
type gate struct {
	limit  int64
	inside atomic.Int64
}

// enter reports whether there is room. If there is, leave must follow.
func (g *gate) enter() bool {
	if g.inside.Add(1) > g.limit {
		g.leave()
		return false
	}
	return true
}

func (g *gate) leave() { g.inside.Add(-1) }
