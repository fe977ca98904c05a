// Package lane sends touches of sessions to one Redis node over one connection, in
// batches: a touch goes at once when no other is under way, and else with all that come
// meanwhile, when the batch before it has been answered.
//
//	l := lane.New(conn, 100*time.Millisecond)
//	record, left, err := l.Touch(ctx, key, until, names)
//	if errors.Is(err, lane.ErrAgain) {
//		// ask by a way that knows redirects, retries and breakers
//	}
//
// # What it is not
//
// A lane knows the usual answers only. For each other one (a redirect, an error of Redis,
// a connection that breaks or is late) it returns [ErrAgain], which says nothing about the
// session, and its caller asks go-redis, which has the rules for these. So an outage, a
// failover or a missing right looks as it does without lanes. An error that says more than
// that the node does not hold the key closes the lane, too, and the whole batch asks again.
//
// # Who does the work
//
// A lane has no goroutine. The caller who finds it idle writes and reads for itself. Those
// who come meanwhile wait in the queue; the last of them leads the next batch, because its
// deadline is the last. A caller who has less time than a batch may take does not read: a
// goroutine does, so that the caller can leave and the connection stays in step.
//
// # What can never happen
//
// Nothing of a batch is handed out before all of its replies have been read, each of the
// kind that its command has, with no byte left over. Otherwise the connection is closed,
// and the whole batch is ErrAgain: an answer is never another session's. No touch joins a
// batch that has been sent, so each reads what stands in Redis after it began.
package lane

import (
	"bufio"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// ErrAgain says that the lane could not tell, and nothing about the session.
var ErrAgain = errors.New("the lane cannot tell")

const (
	// maxQueue is how many calls wait at most; the others are ErrAgain at once.
	maxQueue = 2048
	// maxBatch is how many calls one batch has at most.
	maxBatch = 256
	// maxNames is how many bytes the names of the fields may have, so that a batch has
	// about 1 MiB at most. A check has five short ones and those of headers and conditions.
	maxNames = 4096
	// maxReplies is how many bytes of values are kept of one batch. A longer record is
	// skipped and ErrAgain.
	maxReplies = 4 << 20
	// maxSliding is how many sessions are slid at once behind their checks.
	maxSliding = 16
	// maxKept is how long a buffer may be that is used again.
	maxKept = 64 << 10
)

// A Lane is one connection to one node. It is safe for concurrent use.
type Lane struct {
	timeout time.Duration
	start   time.Time

	// The one who runs the batch uses these.
	conn net.Conn
	in   *bufio.Reader
	out  []byte
	kept int // bytes of values, of this batch

	mu     sync.Mutex
	queue  []*call
	batch  []*call
	busy   bool // a batch is under way, or about to be
	closed bool // no call is taken in
	broken bool // the connection is closed
	slid   slid

	sliding int // calls of slide
}

// New returns a lane on a connection to a Redis that has been greeted and has replied to
// all that it was sent. It owns the connection. A batch may take the timeout.
func New(conn net.Conn, timeout time.Duration) *Lane {
	return &Lane{conn: conn, in: bufio.NewReaderSize(conn, 16<<10), timeout: timeout, start: time.Now()}
}

// Touch is sessions.Store's: PEXPIREAT where it is needed, HMGET and PTTL. It returns
// [ErrAgain] where it cannot tell, and the context's error when its time is over.
func (l *Lane) Touch(ctx context.Context, key sessions.Key, until time.Time, names []string) (sessions.Record, time.Duration, error) {
	c := newCall(key, until, names)
	deadline, bounded := ctx.Deadline()
	if err := c.begin(ctx, deadline, bounded); err != nil {
		return nil, 0, err
	}
	leads, ok := l.join(c)
	if !ok {
		c.free()
		return nil, 0, ErrAgain
	}
	if !leads || !l.lead(c) {
		if err := l.wait(ctx, c); err != nil {
			return nil, 0, err // and c is not free: it may be written to
		}
	}
	defer c.free()
	return c.result()
}

// join takes a call in, unless there is no room or no connection, and reports whether
// the call leads a batch at once.
func (l *Lane) join(c *call) (leads, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) >= maxQueue || c.size() > maxNames {
		return false, false
	}
	l.queue = append(l.queue, c)
	if l.busy {
		return false, true
	}
	l.busy = true
	c.state = leading
	return true, true
}

// lead runs a batch, and reports whether c is answered. Where c may have to leave before
// it is, a goroutine runs it.
func (l *Lane) lead(c *call) (done bool) {
	if c.bounded && time.Until(c.deadline) < l.timeout {
		l.mu.Lock()
		c.state = queued
		l.mu.Unlock()
		go l.run(nil)
		return false
	}
	l.run(c)
	return true
}

// run sends the queue and reads its replies. The call self, if any, needs no hint that it
// is answered.
func (l *Lane) run(self *call) {
	now := time.Since(l.start)
	batch := l.take(now)
	var err error
	if len(batch) > 0 {
		err = l.exchange(batch)
	}
	l.settle(self, err, now, time.Since(l.start))
}

// take makes a batch of the queue.
func (l *Lane) take(now time.Duration) []*call {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.queue), maxBatch)
	l.batch = append(l.batch[:0], l.queue[:n]...)
	l.queue = append(l.queue[:0], l.queue[n:]...)
	due := l.slid.due(now)
	for i, c := range l.batch {
		c.state = sent
		c.slides = due && i == 0 || !l.slid.known(c.sum, c.until)
	}
	return l.batch
}

// exchange sends a batch and reads all of its replies.
func (l *Lane) exchange(batch []*call) error {
	if err := l.conn.SetDeadline(time.Now().Add(l.timeout)); err != nil {
		return err
	}
	l.out, l.kept = l.out[:0], 0
	for _, c := range batch {
		l.out = c.append(l.out)
	}
	if _, err := l.conn.Write(l.out); err != nil {
		return err
	}
	for _, c := range batch {
		if err := l.read(c); err != nil {
			return err
		}
	}
	if l.in.Buffered() > 0 {
		return errStep
	}
	if cap(l.out) > maxKept {
		l.out = nil
	}
	return nil
}

// settle hands out what a batch has brought, and the lead of the next one.
func (l *Lane) settle(self *call, err error, sent, received time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// A refusal holds for all: a replica, say, has read for the others what may be old.
	refuses := slices.ContainsFunc(l.batch, func(c *call) bool { return c.verdict == refused })
	l.closed = l.closed || refuses
	for _, c := range l.batch {
		if err != nil || refuses {
			c.verdict = again
		} else {
			l.note(c, sent, received)
		}
		c.hand(answered, self)
	}
	clear(l.batch)
	if err != nil {
		l.closed = true
		l.end()
	}
	l.pass()
}

// pass gives the lead to the last who can join the next batch. The calls that wait for
// a closed lane are sent back.
func (l *Lane) pass() {
	if l.closed {
		for _, c := range l.queue {
			c.verdict = again
			c.hand(answered, nil)
		}
		l.queue = nil
	}
	n := min(len(l.queue), maxBatch)
	if l.busy = n > 0; l.busy {
		l.queue[n-1].hand(leading, nil)
		return
	}
	if l.closed {
		l.end()
	}
}

// end closes the connection, once. That may take time, and is not waited for.
func (l *Lane) end() {
	if !l.broken {
		l.broken = true
		go func() { _ = l.conn.Close() }()
	}
}

// note remembers the end that an answer has shown. Where it is not as it was, another
// program has shortened it: the check has its answer, and the record is slid behind it.
func (l *Lane) note(c *call, sent, received time.Duration) {
	if c.verdict > wrongType || l.slid.note(c, sent, received) || l.sliding >= maxSliding {
		return
	}
	l.sliding++
	go l.slide(c.key, c.until)
}

// slide is for a session whose check has found its end shortened. Where many are, the
// others are slid by the next check.
func (l *Lane) slide(key sessions.Key, until time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	_, _, _ = l.Touch(ctx, key, until, []string{sessions.FieldVersion})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sliding--
}

// wait returns nil when c is answered. Else the caller's time is over.
func (l *Lane) wait(ctx context.Context, c *call) error {
	for {
		turn, err := c.next(ctx)
		switch {
		case err != nil && l.leave(c):
			return err
		case err != nil, turn == answered, l.lead(c):
			return nil //nolint:nilerr // the answer came at the last moment
		}
	}
}

// leave takes a call away whose time is over, unless it has been answered.
func (l *Lane) leave(c *call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch c.state {
	case answered:
		<-c.turn
		return false
	case queued:
		l.remove(c)
	case leading:
		l.remove(c)
		go l.run(nil)
	}
	c.state = gone
	return true
}

func (l *Lane) remove(c *call) {
	for i, other := range l.queue {
		if other == c {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			return
		}
	}
}

// Close has all later calls return [ErrAgain], and closes the connection when those that
// were taken in are answered.
func (l *Lane) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	if !l.busy {
		l.end()
	}
}

// Open reports whether the lane takes calls in.
func (l *Lane) Open() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.closed
}

// Busy reports whether a batch is under way.
func (l *Lane) Busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy
}
