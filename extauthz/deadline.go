package extauthz

import (
	"context"
	"sync"
	"time"
)

// A bound is the context of one lookup. It is [context.WithDeadline] of the call's
// context without its cancellation, and made into one when Done is asked for: until then
// an end is a time, and needs neither a timer nor a channel.
type bound struct {
	call context.Context // for its values
	end  time.Time

	mu    sync.Mutex
	made  context.Context // nil until it is needed
	stop  context.CancelFunc
	ended bool
}

func (b *bound) Deadline() (time.Time, bool) { return b.end, true }

func (b *bound) Done() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.make().Done()
}

// Err is not nil only if Done is closed, too.
func (b *bound) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made == nil && !b.ended && time.Now().Before(b.end) {
		return nil
	}
	return b.make().Err()
}

func (b *bound) Value(key any) any {
	b.mu.Lock()
	made := b.made
	b.mu.Unlock()
	if made != nil {
		return made.Value(key)
	}
	return b.call.Value(key)
}

// make is called with mu locked.
func (b *bound) make() context.Context {
	if b.made == nil {
		b.made, b.stop = context.WithDeadline(context.WithoutCancel(b.call), b.end)
		if b.ended {
			b.stop()
		}
	}
	return b.made
}

// cancel ends the context, because the lookup has ended.
func (b *bound) cancel() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	if b.stop != nil {
		b.stop()
	}
}

// boundsAtOnce is how many bounds are allocated at once. What keeps one keeps them all,
// with the contexts of their calls.
const boundsAtOnce = 8

// bounds makes bounds, each for one lookup: a store may keep its context for longer than
// the lookup takes, so that no second one can use it.
type bounds struct {
	again bool // there will be more of them
	left  []bound
}

func (b *bounds) new(call context.Context, end time.Time) *bound {
	switch {
	case !b.again:
		return &bound{call: call, end: end}
	case len(b.left) == 0:
		b.left = make([]bound, boundsAtOnce)
	}
	one := &b.left[0]
	b.left = b.left[1:]
	one.call, one.end = call, end
	return one
}
