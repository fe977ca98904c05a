package load

import (
	"context"
	"sync"
	"time"
)

// A lagMeter measures when the machine does not let this process run, and takes what has
// returned only when it knows of the lag until then.
type lagMeter struct {
	now func() time.Duration

	mu      sync.Mutex
	waiting []returned

	stalls []stall // of the last seconds, in their order
	sum    struct {
		sync.Mutex
		total, worst time.Duration
	}
}

// A returned is something that took from begin to end.
type returned struct {
	begin, end time.Duration
	then       func(lag time.Duration)
}

// A stall is a time in which a goroutine that should have run did not.
type stall struct{ from, to time.Duration }

const (
	// beat is how often the meter wakes up, and tolerated how late a wake-up is no stall.
	beat, tolerated = 2 * time.Millisecond, time.Millisecond
	// remembered is how long stalls are kept: longer than any check takes.
	remembered = 2 * patience
)

// run measures until ctx ends, and takes what is left.
func (m *lagMeter) run(ctx context.Context) {
	for ctx.Err() == nil {
		due := m.now() + beat
		time.Sleep(beat)
		m.awake(due, m.now())
	}
	m.awake(m.now(), m.now())
}

func (m *lagMeter) awake(due, now time.Duration) {
	if late := now - due; late > tolerated {
		m.stalls = append(m.stalls, stall{due, now})
		m.sum.Lock()
		m.sum.total += late
		m.sum.worst = max(m.sum.worst, late)
		m.sum.Unlock()
	}
	for len(m.stalls) > 0 && m.stalls[0].to < now-remembered {
		m.stalls = m.stalls[1:]
	}
	m.mu.Lock()
	waiting := m.waiting
	m.waiting = nil
	m.mu.Unlock()
	for _, r := range waiting {
		r.then(m.within(r.begin, r.end))
	}
}

// returned takes something that has returned.
func (m *lagMeter) returned(r returned) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting = append(m.waiting, r)
}

// within is the lag in a time.
func (m *lagMeter) within(begin, end time.Duration) (lag time.Duration) {
	for i := len(m.stalls) - 1; i >= 0 && m.stalls[i].to > begin; i-- {
		if from, to := max(begin, m.stalls[i].from), min(end, m.stalls[i].to); to > from {
			lag += to - from
		}
	}
	return lag
}

// lag is all of it, and the longest.
func (m *lagMeter) lag() (total, worst time.Duration) {
	m.sum.Lock()
	defer m.sum.Unlock()
	return m.sum.total, m.sum.worst
}
