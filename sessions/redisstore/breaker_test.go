package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// A fakeNode ends calls as it is told, and counts them.
type fakeNode struct {
	breaker *breaker
	end     error
	takes   time.Duration
	calls   int
}

func newFakeNode(limit int32) *fakeNode {
	return &fakeNode{breaker: &breaker{limit: limit, opened: new(atomic.Uint64)}}
}

// call is one command through the breaker.
func (n *fakeNode) call(args ...any) error {
	if args == nil {
		args = []any{"hmget", "k", "f"}
	}
	return n.callIn(context.Background(), args...)
}

// callIn is call for a caller of its own.
func (n *fakeNode) callIn(ctx context.Context, args ...any) error {
	return n.breaker.ProcessHook(func(context.Context, redis.Cmder) error {
		n.calls++
		time.Sleep(n.takes)
		return n.end
	})(ctx, redis.NewCmd(ctx, args...))
}

// callWithin is a command whose caller waits only so long.
func (n *fakeNode) callWithin(wait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	return n.callIn(ctx, "hmget", "k", "f")
}

// open lets so many calls fail that the breaker opens.
func (n *fakeNode) open() {
	n.end = io.EOF
	for n.breaker.closed() {
		_ = n.call()
	}
	n.calls = 0
}

// replyError is an error that a server replied with.
type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

func TestVerdict(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	silent := &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
	for err, want := range map[error]outcome{
		nil:                                    answered,
		redis.Nil:                              answered,
		replyError("LOADING"):                  answered,
		fmt.Errorf("x: %w", replyError("OOM")): answered,
		refused:                                unanswered,
		unreached{refused}:                     unanswered,
		io.EOF:                                 unanswered,
		io.ErrUnexpectedEOF:                    unanswered,
		syscall.ECONNRESET:                     unanswered,
		unreached{silent}:                      unanswered,
		unreached{context.DeadlineExceeded}:    unanswered,
		silent:                                 late,
		os.ErrDeadlineExceeded:                 late,
		context.DeadlineExceeded:               late,
		fmt.Errorf("x: %w", silent):            late,
		errors.New("no Redis at all"):          unanswered,
		context.Canceled:                       unknown,
		redis.ErrPoolTimeout:                   unknown,
		redis.ErrPoolExhausted:                 unknown,
		redis.ErrClosed:                        unknown,
		fmt.Errorf("%w: x", ErrBreakerOpen):    unknown,
	} {
		if got := outcomeOf(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
		if got := Answered(err); got != (want == answered) {
			t.Errorf("%v: answered is %v", err, got)
		}
	}
	for _, err := range []error{sessions.ErrNotFound, fmt.Errorf("%w: x", sessions.ErrBroken), sessions.ErrFieldExists, ErrNotReplicated} {
		if !Answered(err) {
			t.Errorf("%v: no answer", err)
		}
	}
}

// TestOpens: only so many failures in a row open it.
func TestOpens(t *testing.T) {
	n := newFakeNode(3)
	for i, end := range []error{io.EOF, io.EOF, nil, io.EOF, io.EOF, redis.Nil, io.EOF, io.EOF, context.Canceled, redis.ErrPoolTimeout} {
		if n.end = end; !errors.Is(n.call(), end) {
			t.Errorf("call %d was refused", i)
		}
	}
	n.end = io.EOF
	_ = n.call()
	calls := n.calls
	for range 100 {
		if err := n.call(); !errors.Is(err, ErrBreakerOpen) || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "EOF") {
			t.Fatalf("error is %v, want %v with the cause in words", err, ErrBreakerOpen)
		}
	}
	if n.calls != calls || n.breaker.opened.Load() != 1 {
		t.Errorf("%d calls while it was open, opened %d times", n.calls-calls, n.breaker.opened.Load())
	}
	if err := n.call("hello", 3); !errors.Is(err, io.EOF) {
		t.Errorf("a handshake: %v", err)
	}
}

// TestBesideDoesNotCount: a handshake belongs to the call that needs it, and the map of a
// Cluster is told by a node that does not serve, too.
func TestBesideDoesNotCount(t *testing.T) {
	for _, command := range [][]any{{"hello", 3}, {"client", "setinfo"}, {"cluster", "slots"}} {
		n := newFakeNode(2)
		n.end = io.EOF
		for range 10 {
			_ = n.call(command...)
		}
		if !n.breaker.closed() {
			t.Errorf("%v alone opens it", command)
		}
		n.open()
		n.end = nil
		if err := n.call(command...); err != nil || n.breaker.closed() {
			t.Errorf("closed by %v, %v", command, err)
		}
	}
}

// TestProbes: one call each 100 ms, until one is answered.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNode(3)
		n.open()
		for range 1000 {
			time.Sleep(time.Millisecond)
			_ = n.call()
		}
		if n.calls != 10 {
			t.Errorf("%d tries in a second", n.calls)
		}
		n.end = context.Canceled // tells nothing
		time.Sleep(probeEvery)
		_ = n.call()
		if err := n.call(); !errors.Is(err, ErrBreakerOpen) {
			t.Errorf("after a probe that told nothing: %v", err)
		}
		n.end = replyError("OOM")
		time.Sleep(probeEvery)
		_ = n.call()
		if err := n.call(); errors.Is(err, ErrBreakerOpen) {
			t.Errorf("after an answer: %v", err)
		}
	})
}

// TestLoading: a node that loads its data is spared, and the refusals name that.
func TestLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNode(3)
		n.end = replyError("LOADING Redis is loading the dataset in memory")
		for range 3 {
			_ = n.call()
		}
		if err := n.call(); !errors.Is(err, ErrBreakerOpen) || n.breaker.openedBy() != CauseLoading {
			t.Errorf("after three answers that it loads: %v, opened by %q", err, n.breaker.openedBy())
		}
		n.end = nil
		time.Sleep(probeEvery)
		if err := n.call(); err != nil {
			t.Errorf("once it has loaded: %v", err)
		}
	})
}

// TestImpatience: a caller that gives up says nothing about the node, unless the
// node had some time; and what is no timeout counts however short it was.
func TestImpatience(t *testing.T) {
	timeout := &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, test := range []struct {
		end         error
		waits, took time.Duration
		opens       bool
	}{
		{context.DeadlineExceeded, time.Minute, 0, false},
		{context.DeadlineExceeded, time.Minute, conclusive - 1, false},
		{context.DeadlineExceeded, time.Minute, conclusive, true},
		{context.DeadlineExceeded, conclusive, conclusive, true},
		{context.DeadlineExceeded, conclusive - 1, time.Second, false}, // late itself
		{timeout, time.Minute, conclusive - 1, false},
		{timeout, time.Minute, conclusive, true},
		{unreached{timeout}, 0, 0, true}, // the dial has had its time
		{unreached{refused}, 0, 0, true},
		{io.EOF, 0, 0, true},
		{context.Canceled, time.Minute, time.Second, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newFakeNode(3)
			n.end, n.takes = test.end, test.took
			for range 3 {
				_ = n.callWithin(test.waits)
			}
			if open := !n.breaker.closed(); open != test.opens {
				t.Errorf("%v after %v of %v: open is %v", test.end, test.took, test.waits, open)
			}
		})
	}
}

// TestImpatienceBreaksNoRow: what tells nothing neither counts nor starts anew.
func TestImpatienceBreaksNoRow(t *testing.T) {
	n := newFakeNode(2)
	for _, end := range []error{io.EOF, context.DeadlineExceeded, io.EOF} {
		n.end = end
		_ = n.call()
	}
	if n.breaker.closed() {
		t.Error("it is closed")
	}
}

// TestImpatientCallersAreNoTry: they are refused, and the next one with time enough
// is the probe at once, however many of them there are.
func TestImpatientCallersAreNoTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNode(3)
		n.open()
		n.end = context.DeadlineExceeded
		for range probeLimit / time.Millisecond {
			time.Sleep(time.Millisecond)
			if err := n.callWithin(conclusive - 1); !errors.Is(err, ErrBreakerOpen) {
				t.Fatalf("error is %v, want %v", err, ErrBreakerOpen)
			}
		}
		n.end = nil
		if err := n.callWithin(conclusive); err != nil || n.calls != 1 {
			t.Errorf("one with time enough: %v, %d calls", err, n.calls)
		}
	})
}

// TestOnlyImpatientCallers: if no other calls come, one a second goes, which takes no
// probe's place, and its answer counts.
func TestOnlyImpatientCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNode(3)
		n.open()
		n.end = context.DeadlineExceeded
		hurry := func(d time.Duration) {
			for range d / time.Millisecond {
				time.Sleep(time.Millisecond)
				_ = n.callWithin(time.Millisecond / 2)
			}
		}
		hurry(probeEvery + 5*probeLimit)
		if n.calls != 5 || n.breaker.closed() {
			t.Errorf("%d were let through in five seconds", n.calls)
		}
		if err := n.callWithin(conclusive); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one with time enough behind them: %v", err)
		}
		n.end = nil
		hurry(probeEvery + probeLimit)
		if !n.breaker.closed() {
			t.Error("it is still open")
		}
	})
}

// TestOneProbe: of many callers at once, one tries; one that does not come back
// keeps the others waiting a second.
func TestOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{limit: 1, opened: new(atomic.Uint64)}
		cmd := redis.NewCmd(t.Context(), "hmget")
		b.done(t.Context(), cmd, time.Now(), false, io.EOF)
		tries := func() (n int64) {
			var count atomic.Int64
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if probe, _ := b.allow(t.Context(), cmd, time.Now()); probe {
						count.Add(1)
					}
				})
			}
			wg.Wait()
			return count.Load()
		}
		for _, step := range []struct {
			after time.Duration
			want  int64
		}{{probeEvery - 1, 0}, {1, 1}, {probeLimit - 1, 0}, {1, 1}} {
			time.Sleep(step.after)
			if got := tries(); got != step.want {
				t.Errorf("after %v more: %d tries, want %d", step.after, got, step.want)
			}
		}
	})
}

// TestLateAnswer: a call from before the opening that is answered closes it.
func TestLateAnswer(t *testing.T) {
	n := newFakeNode(2)
	cmd := redis.NewCmd(t.Context(), "hmget")
	if probe, err := n.breaker.allow(t.Context(), cmd, time.Now()); probe || err != nil {
		t.Fatal(probe, err)
	}
	n.open()
	n.breaker.done(t.Context(), cmd, time.Now(), false, io.EOF) // a late failure changes nothing
	n.breaker.done(t.Context(), cmd, time.Now(), false, nil)
	if !n.breaker.closed() {
		t.Error("it is still open")
	}
}

// TestPipeline: every command learns that it was refused.
func TestPipeline(t *testing.T) {
	n := newFakeNode(1)
	n.open()
	cmds := []redis.Cmder{redis.NewCmd(t.Context(), "hmget"), redis.NewCmd(t.Context(), "pexpireat")}
	err := n.breaker.ProcessPipelineHook(func(context.Context, []redis.Cmder) error { panic("sent") })(t.Context(), cmds)
	for _, err := range []error{err, cmds[0].Err(), cmds[1].Err()} {
		if !errors.Is(err, ErrBreakerOpen) {
			t.Errorf("error is %v, want %v", err, ErrBreakerOpen)
		}
	}
}

// TestRaces lets many calls end as they like; the race detector watches.
func TestRaces(t *testing.T) {
	b := &breaker{limit: 3, opened: new(atomic.Uint64)}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			cmd := redis.NewCmd(t.Context(), "hmget")
			for j := range 2000 {
				start := time.Now()
				probe, err := b.allow(t.Context(), cmd, start)
				if err != nil {
					continue
				}
				var end error
				if (i+j)%7 != 0 {
					end = io.EOF
				}
				b.done(t.Context(), cmd, start, probe, end)
			}
		})
	}
	wg.Wait()
}

func BenchmarkBreakerClosed(b *testing.B) {
	n := newFakeNode(10)
	cmd := redis.NewCmd(b.Context(), "hmget")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			start := time.Now()
			probe, _ := n.breaker.allow(b.Context(), cmd, start)
			n.breaker.done(b.Context(), cmd, start, probe, nil)
		}
	})
}

func BenchmarkBreakerOpen(b *testing.B) {
	n := newFakeNode(1)
	n.open()
	cmd := redis.NewCmd(b.Context(), "hmget")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			start := time.Now()
			if probe, _ := n.breaker.allow(b.Context(), cmd, start); probe {
				n.breaker.done(b.Context(), cmd, start, probe, io.EOF)
			}
		}
	})
}
