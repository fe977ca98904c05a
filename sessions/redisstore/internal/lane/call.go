package lane

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// A state is where a call is, or the turn that it is given.
type state uint8

const (
	queued   state = iota
	leading        // it runs the next batch
	sent           // it is in the batch that is under way
	answered       // its caller may read it
	gone           // its caller has left
)

// A verdict is what the replies to a call say.
type verdict uint8

const (
	fine      verdict = iota
	wrongType         // the key holds another type
	again             // ask by another way
	refused           // and the node refuses such calls: the lane closes
)

// A call is one touch.
type call struct {
	key      sessions.Key
	sum      uint64 // of the key
	until    time.Time
	names    []string
	deadline time.Time
	bounded  bool // it has a deadline
	slides   bool // PEXPIREAT is sent

	// The replies.
	verdict verdict
	moved   bool // by PEXPIREAT
	ttl     int64
	text    []byte // the values, one after the other
	spans   []span

	state state // under the lane's lock
	turn  chan state
	timer *time.Timer // nil: never needed
}

// A span is where a value is in the text; from is -1 for a field that is not there.
type span struct{ from, to int }

var calls = sync.Pool{New: func() any { return &call{turn: make(chan state, 1)} }}

var seed = maphash.MakeSeed()

func newCall(key sessions.Key, until time.Time, names []string) *call {
	c := calls.Get().(*call)
	c.key, c.until, c.names = key, until, names
	c.sum = maphash.String(seed, string(key))
	return c
}

// free gives a call back that no other goroutine knows.
func (c *call) free() {
	text, spans := c.text[:0], c.spans[:0]
	if cap(text) > maxKept {
		text = nil
	}
	*c = call{turn: c.turn, timer: c.timer, text: text, spans: spans}
	calls.Put(c)
}

// begin notes the deadline, and returns the error of a caller whose time is over.
func (c *call) begin(ctx context.Context, deadline time.Time, bounded bool) error {
	c.deadline, c.bounded = deadline, bounded
	if err := ctx.Err(); err != nil {
		return err
	}
	if bounded && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// size is how much of a batch the names take.
func (c *call) size() (n int) {
	for _, name := range c.names {
		n += len(name) + len("$4096\r\n\r\n")
	}
	return n + len(c.key)
}

// hand gives a turn to the caller, unless it has left. The call self is not told.
func (c *call) hand(turn state, self *call) {
	if c.state == gone {
		return
	}
	c.state = turn
	if c != self {
		c.turn <- turn
	}
}

// next waits for a turn, until the caller's time is over. A context without Done has its
// deadline all the same.
func (c *call) next(ctx context.Context) (state, error) {
	if ctx.Done() != nil || !c.bounded {
		select {
		case turn := <-c.turn:
			return turn, nil
		case <-ctx.Done():
			return gone, ctx.Err()
		}
	}
	left := time.Until(c.deadline)
	if c.timer == nil {
		c.timer = time.NewTimer(left)
	} else {
		c.timer.Reset(left)
	}
	defer c.timer.Stop()
	select {
	case turn := <-c.turn:
		return turn, nil
	case <-c.timer.C:
		return gone, context.DeadlineExceeded
	}
}

// result makes what Touch returns. The values share one text.
func (c *call) result() (sessions.Record, time.Duration, error) {
	switch {
	case c.verdict == wrongType:
		return nil, 0, fmt.Errorf("%w: it is no hash", sessions.ErrBroken)
	case c.verdict != fine:
		return nil, 0, ErrAgain
	case c.ttl == noKey:
		return nil, 0, sessions.ErrNotFound
	}
	text := string(c.text)
	record := make(sessions.Record, len(c.names))
	for i, s := range c.spans {
		if s.from >= 0 {
			record[c.names[i]] = text[s.from:s.to]
		}
	}
	return record, Left(c.ttl), nil
}

// Left is what PTTL says of a key that is there, in milliseconds, as a duration: negative
// where the key has no end. It is [sessions.MaxTimeout] at most: a program that takes
// microseconds for milliseconds gives a key an end that no duration reaches, and one that
// has wrapped round may be negative.
func Left(pttl int64) time.Duration {
	return time.Duration(min(max(pttl, -1), sessions.MaxTimeout.Milliseconds())) * time.Millisecond
}

// noKey is what PTTL says where there is no key.
const noKey = -2
