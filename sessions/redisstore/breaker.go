package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// probeEvery is the time between two calls that try a node while it is left
	// alone.
	probeEvery = 100 * time.Millisecond
	// probeLimit is how long the next one waits for a try that never ends, and for
	// a call with the patience to be one.
	probeLimit = time.Second
	// patience is how long a node must have kept silent for that to count. A healthy
	// one takes a millisecond, and a few with a new connection, TLS or a hiccup; the
	// timeouts of [NewClient] are five times as long, so that a hang still counts.
	patience = 20 * time.Millisecond
)

// ErrBreakerOpen says that Redis was not asked. Its text is followed by the last
// error of a call that was made.
var ErrBreakerOpen = errors.New("redis does not answer, so calls are refused at once, but for a try each 100ms")

// A breaker is a hook that leaves one node alone that did not answer a number of
// calls in a row. It is a hook and no Limiter of go-redis, because a Limiter is
// asked again for the handshake of each connection, which would use up the one
// try, and because a Cluster client sends what it refuses to the node again, after
// a pause. A call is what the caller asked for, with its retry.
//
// A call from before the opening that is answered late closes it: Redis is there.
//
// A caller that gives up before its time is neither evidence against the node
// nor a try: many of them would else cut everybody off from a healthy one.
type breaker struct {
	limit    int32
	failures atomic.Int32 // in a row; from limit on the breaker is open
	opened   *atomic.Uint64

	mu    sync.Mutex
	next  time.Time // when the next try may go
	cause error     // what a refused call is told
}

// closed costs one atomic load.
func (b *breaker) closed() bool { return b.failures.Load() < b.limit }

// allow returns an error for a call that must not be made, and tells whether it
// is a try.
func (b *breaker) allow(ctx context.Context, cmd redis.Cmder, start time.Time) (try bool, err error) {
	if b.closed() || handshake(cmd) {
		return false, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch waiting := start.Sub(b.next); {
	case waiting < 0:
	case patient(ctx, start):
		b.next = start.Add(probeLimit)
		return true, nil
	case waiting >= probeLimit:
		// Everybody is in a hurry. It goes as if from before the opening: only its
		// answer counts, and nobody with patience has to wait for it.
		b.next = start
		return false, nil
	}
	return false, b.cause
}

// done learns how a call went.
func (b *breaker) done(ctx context.Context, cmd redis.Cmder, start time.Time, try bool, err error) {
	if err == nil && b.failures.Load() == 0 {
		return // the usual case
	}
	v := judge(ctx, start, err)
	if handshake(cmd) || !try && v == unknown {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if v == answered {
		b.failures.Store(0)
		return
	}
	if v == unanswered && b.closed() && b.failures.Add(1) == b.limit {
		b.opened.Add(1)
		try = true
	}
	if try {
		b.next = time.Now().Add(probeEvery)
		b.cause = fmt.Errorf("%w: %v", ErrBreakerOpen, err) //nolint:errorlint // it would be taken for the cause and retried
	}
}

func (b *breaker) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		start := time.Now()
		try, err := b.allow(ctx, cmd, start)
		if err != nil {
			return err
		}
		err = next(ctx, cmd)
		b.done(ctx, cmd, start, try, err)
		return err
	}
}

func (b *breaker) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		start := time.Now()
		try, err := b.allow(ctx, cmds[0], start)
		if err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		err = next(ctx, cmds)
		b.done(ctx, cmds[0], start, try, err)
		return err
	}
}
