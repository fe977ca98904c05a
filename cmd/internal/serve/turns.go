package serve

import "time"

// turns are of peers that send one thing after the other without a wait, so that the
// processors would work for them alone, and hear of a check each 10 ms only: as long as there
// is something to do the runtime does not look what has come. One at a time has its turn, and
// before each turn the processors are left to others for a breath.
type turns chan struct{}

const (
	// ownTurn is how long one waits for its turn at most: the peer that has it may read nothing.
	ownTurn = time.Second
	breath  = time.Millisecond
)

func newTurns() turns { return make(turns, 1) }

// await reports whether the turn has come, which [turns.pass] ends.
func (t turns) await() bool {
	late := time.NewTimer(ownTurn)
	defer late.Stop()
	select {
	case t <- struct{}{}:
		time.Sleep(breath)
		return true
	case <-late.C:
		return false
	}
}

func (t turns) pass() { <-t }
