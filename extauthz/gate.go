package extauthz

import "sync/atomic"

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
