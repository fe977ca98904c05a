package redisstore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// probeEvery is the time between two probes of a node that is spared.
	probeEvery = 100 * time.Millisecond
	// probeLimit is how long the next probe waits for one that does not end, and for
	// a call that can be a probe.
	probeLimit = time.Second
)

// A breaker is a hook that spares one node that has not answered a number of calls
// in a row.
//
//	state      means               calls that go                  an answer        no answer
//	closed     failures < limit    all                            failures = 0     failures + 1
//	open       now < next          none                           closed           -
//	half-open  now >= next         a call with time: the probe    closed           open for 100ms
//	           a second later      a call with less time          closed           half-open
//
// Open, it waits for the end of its probe for a second at most. The answer to a call
// that was sent before the opening closes it, too, because Redis is there.
//
// A call that ends without an answer counts only if it had time enough (conclusive). A
// call whose caller gives up earlier proves nothing, and is no probe: else many such
// callers would cut off all others from a healthy node. If only such calls come, one a
// second goes, and only its answer counts.
//
// It is a hook and no Limiter of go-redis, because a Limiter is asked again for the
// handshake of each connection, which would use up the probe, and because a Cluster
// client sends the calls that it refuses to the node again, after a pause. A call is
// the one of the caller, with its retry.
type breaker struct {
	limit    int32
	failures atomic.Int32 // in a row
	opened   *atomic.Uint64
	door     door

	mu    sync.Mutex
	next  time.Time // when the next probe may go
	cause error     // of the refusals
}

// A breakerOpen is [ErrBreakerOpen] with the end of the last call that was made, in words:
// as an error it would be taken for that call's, and retried.
type breakerOpen struct {
	by   Cause
	last string
}

func (b breakerOpen) Error() string { return ErrBreakerOpen.Error() + ": " + b.last }
func (breakerOpen) Unwrap() error   { return ErrBreakerOpen }

// openedBy is the cause that has opened the breaker; empty while it is closed.
func (b *breaker) openedBy() Cause {
	b.mu.Lock()
	defer b.mu.Unlock()
	var open breakerOpen
	if b.closed() || !errors.As(b.cause, &open) {
		return ""
	}
	return open.by
}

// closed costs one atomic load.
func (b *breaker) closed() bool { return b.failures.Load() < b.limit }

// allow returns an error for a call that must not go, and reports whether the call
// is the probe.
func (b *breaker) allow(ctx context.Context, cmd redis.Cmder, start time.Time) (probe bool, err error) {
	if b.closed() || beside(cmd) {
		return false, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch halfOpen := start.Sub(b.next); {
	case halfOpen < 0:
		return false, b.cause
	case hasTime(ctx, start):
		b.next = start.Add(probeLimit)
		return true, nil
	case halfOpen < probeLimit:
		return false, b.cause
	}
	b.next = start // still half-open: a probe need not wait for this call
	return false, nil
}

// done learns how a call ended.
func (b *breaker) done(ctx context.Context, cmd redis.Cmder, start time.Time, probe bool, err error) {
	if err == nil && b.failures.Load() == 0 {
		return // the usual case
	}
	o := classify(ctx, start, err)
	if beside(cmd) || !probe && o == unknown {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if o == answered {
		b.failures.Store(0)
		return
	}
	opens := o == unanswered && b.closed() && b.failures.Add(1) == b.limit
	if opens {
		b.opened.Add(1)
	}
	if opens || probe {
		b.next = time.Now().Add(probeEvery)
		b.cause = breakerOpen{by: causeOf(err), last: err.Error()}
	}
}

func (b *breaker) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		start := time.Now()
		probe, err := b.allow(ctx, cmd, start)
		if err != nil {
			return err
		}
		err = next(ctx, cmd)
		b.door.learn(cmd, b.limit, err)
		b.done(ctx, cmd, start, probe, err)
		return err
	}
}

func (b *breaker) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		start := time.Now()
		probe, err := b.allow(ctx, cmds[0], start)
		if err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
			return err
		}
		err = next(ctx, cmds)
		b.door.learn(cmds[0], b.limit, err)
		b.done(ctx, cmds[0], start, probe, err)
		return err
	}
}
