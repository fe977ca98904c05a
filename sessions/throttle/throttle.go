// Package throttle counts attempts at accounts, so that passwords cannot be
// guessed. Login counts an attempt before it looks at the password:
//
//	attempt := throttle.NewAttempt(username, address)
//	wait, err := attempt.Count(ctx, counters) // wait > 0: refuse, with Retry-After
//	err = attempt.Succeed(ctx, counters)      // the password was right
//
// It owns [Counter], by which login and a store of counters, such as redisstore's,
// agree. docs/login.md says why the rules are so.
//
// # One attempt, four counters
//
//	counter               at once  then after         steady      on the first day
//	account and prefix    5        30 s to 30 min     48 a day    at most 58
//	account               20       1 s to 20 min      72 a day    at most 102
//	prefix                100      1 s to 1 min       1,440 a day at most 1,545
//	site                  500      1 s to 1 min       1,440 a day at most 1,945
//
// A prefix is the /24 of an IPv4 address or the /64 of an IPv6 address; a site is
// the /48 of an IPv6 address.
package throttle

import (
	"context"
	"time"
)

// A Counter says how often something may be tried: Free times at once, then each
// time after a longer delay, from First doubling up to Longest. One attempt is
// forgotten each Longest, which in the long run is how often there can be one.
//
// All counters of one call have the same hash tag in their keys, such as {login},
// because a Cluster counts them on one node.
type Counter struct {
	Key    string
	Unless string // where this key is marked, the counter is left out; may be empty
	Free   int    // at least 1
	First  time.Duration
	// Longest is in whole milliseconds, and not below First.
	Longest time.Duration
}

// Counters keep the throttle where all replicas see it; redisstore has them. They
// are safe for concurrent use. An error says that the counters cannot be read or
// written; login answers 503.
type Counters interface {
	// Count counts one attempt with all of counters. If one of them has to wait, it counts
	// with no counter and returns how long. It is atomic over all of them.
	Count(ctx context.Context, counters ...Counter) (wait time.Duration, err error)
	// Return takes back an attempt that was counted.
	Return(ctx context.Context, counters ...Counter) error
	// Clear forgets every attempt of a counter.
	Clear(ctx context.Context, key string) error
	// Mark marks a key for so long.
	Mark(ctx context.Context, key string, life time.Duration) error
}
