package memstore

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/sessions/throttle"
)

// Counters are [throttle.Counters] in memory: they count and wait as those of
// redisstore do. They are safe for concurrent use.
type Counters struct {
	config Config

	mu   sync.Mutex
	keys map[string]counter // counters and marks
}

// A counter is the time that it lives, in units of Longest: the number of attempts and
// its end cannot disagree.
type counter struct{ last, end time.Time }

var _ throttle.Counters = (*Counters)(nil)

// NewCounters returns Counters that have counted nothing.
func NewCounters(config Config) *Counters {
	return &Counters{config: config.withDefaults(), keys: make(map[string]counter)}
}

// enter begins a call, at a moment, unless its context is done. Times are exact to the
// millisecond, as in Redis.
func (c *Counters) enter(ctx context.Context) (now time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return now, err
	}
	c.mu.Lock()
	return c.config.Clock.Now().Truncate(time.Millisecond), nil
}

// at is what is kept at a key; what has ended leaves the memory.
func (c *Counters) at(key string, now time.Time) (counter, bool) {
	k, ok := c.keys[key]
	if ok && !now.Before(k.end) {
		delete(c.keys, key)
		return counter{}, false
	}
	return k, ok
}

// leftOut reports whether a counter does not count, because its mark is there.
func (c *Counters) leftOut(t throttle.Counter, now time.Time) bool {
	if t.Unless == "" || t.Unless == t.Key {
		return false
	}
	_, marked := c.at(t.Unless, now)
	return marked
}

// Count counts one attempt with all of counters, or returns how long to wait, or
// [ErrFull].
func (c *Counters) Count(ctx context.Context, counters ...throttle.Counter) (wait time.Duration, err error) {
	now, err := c.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer c.mu.Unlock()
	counted := make(map[string]counter)
	for _, t := range counters {
		if c.leftOut(t, now) {
			continue
		}
		k, there := c.at(t.Key, now)
		if !there {
			k = counter{last: now, end: now}
		}
		if k.last.After(now) {
			k.last = now
		}
		if n := attempts(k, t); n >= t.Free {
			wait = max(wait, k.last.Add(delay(t, n)).Sub(now))
		}
		counted[t.Key] = counter{last: now, end: k.end.Add(t.Longest)}
	}
	if wait > 0 {
		return wait, nil
	}
	return 0, c.keep(counted, now)
}

// attempts is how many a counter has not forgotten.
func attempts(k counter, t throttle.Counter) int {
	return int(math.Ceil(float64(k.end.Sub(k.last)) / float64(t.Longest)))
}

// delay is how long after the last of n attempts there can be another one.
func delay(t throttle.Counter, n int) time.Duration {
	grown := float64(t.First) * math.Pow(2, float64(n-t.Free))
	return time.Duration(min(grown, float64(t.Longest)))
}

// keep writes counters, if there is room for all of them.
func (c *Counters) keep(counted map[string]counter, now time.Time) error {
	if len(c.keys)+len(counted) > c.config.Limit {
		for key := range c.keys {
			_, _ = c.at(key, now)
		}
	}
	added := 0
	for key := range counted {
		if _, there := c.keys[key]; !there {
			added++
		}
	}
	if len(c.keys)+added > c.config.Limit {
		return ErrFull
	}
	for key, k := range counted {
		c.keys[key] = k
	}
	return nil
}

// Return takes back an attempt that was counted.
func (c *Counters) Return(ctx context.Context, counters ...throttle.Counter) error {
	now, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	for _, t := range counters {
		k, there := c.at(t.Key, now)
		if !there || c.leftOut(t, now) {
			continue
		}
		k.end = k.end.Add(-t.Longest)
		c.keys[t.Key] = k
	}
	return nil
}

// Clear forgets every attempt of a counter.
func (c *Counters) Clear(ctx context.Context, key string) error {
	if _, err := c.enter(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	delete(c.keys, key)
	return nil
}

// Mark marks a key for so long, or returns [ErrFull].
func (c *Counters) Mark(ctx context.Context, key string, life time.Duration) error {
	now, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	return c.keep(map[string]counter{key: {now, now.Add(life)}}, now)
}
