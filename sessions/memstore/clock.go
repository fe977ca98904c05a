package memstore

import (
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// A Clock goes as the system's does, ahead by what a test has added. It is a
// [sessions.Clock], so that store, counters and manager can share one. The zero Clock
// is ready. It is safe for concurrent use.
type Clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

var _ sessions.Clock = (*Clock)(nil)

// start is what every clock counts from.
var start = time.Now()

// Advance moves the clock by a duration, back by a negative one.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

// Now is the time of day.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// Elapsed is the time since some moment.
func (c *Clock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(start) + c.ahead
}
