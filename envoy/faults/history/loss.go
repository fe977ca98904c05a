package history

import (
	"math"
	"time"
)

// forever is a moment that does not come.
const forever = time.Duration(math.MaxInt64)

// A loss is a time in which Redis may lose what it has acknowledged.
type loss struct {
	from, to time.Duration
	all      bool // also what was written before: Redis is emptied, and brings nothing back
}

// overlaps reports whether something that took from begin to end was under way in the loss.
func (l *loss) overlaps(begin, end time.Duration) bool { return begin <= l.to && end >= l.from }

// Lose declares that what is written from now on may be lost, until the returned function
// says when that is over. With emptied, so may all that was written before; but no session
// comes back then, for there is no other half of Redis that still has it.
func (h *History) Lose(from time.Duration, emptied bool) (over func(to time.Duration)) {
	l := &loss{from: from, to: forever, all: emptied}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.losses = append(h.losses, l)
	return h.ends(&l.to)
}

// ends returns what says when a declared time is over.
func (h *History) ends(end *time.Duration) func(to time.Duration) {
	return func(to time.Duration) {
		h.mu.Lock()
		defer h.mu.Unlock()
		*end = to
	}
}

// written reports whether a write that took from begin to end may have been lost.
func (h *History) written(begin, end time.Duration) bool {
	for _, l := range h.losses {
		if l.overlaps(begin, end) || l.all && begin <= l.to {
			return true
		}
	}
	return false
}

// lossy reports whether a loss was declared within a time in which Redis may have two halves,
// of which one forgets what the other has acknowledged.
func (h *History) lossy(begin, end time.Duration) bool {
	for _, l := range h.losses {
		if !l.all && l.overlaps(begin, end) {
			return true
		}
	}
	return false
}

// A down is a time in which a replica was not there.
type down struct {
	replica  int
	from, to time.Duration
}

// Down declares that calls to a replica may fail from now on, until the returned function
// says when that is over.
func (h *History) Down(replica int, from time.Duration) (over func(to time.Duration)) {
	d := &down{replica: replica, from: from, to: forever}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.downs = append(h.downs, d)
	return h.ends(&d.to)
}

// down reports whether a replica was not there for some of a time.
func (h *History) down(replica int, begin, end time.Duration) bool {
	for _, d := range h.downs {
		if d.replica == replica && begin <= d.to && end >= d.from {
			return true
		}
	}
	return false
}
