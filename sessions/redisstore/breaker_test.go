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
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
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
	ctx := context.Background()
	return n.callIn(ctx, args...)
}

// callIn is call for a caller of its own.
func (n *fakeNode) callIn(ctx context.Context, args ...any) error {
	return n.breaker.ProcessHook(func(context.Context, redis.Cmder) error {
		n.calls++
		time.Sleep(n.takes)
		return n.end
	})(ctx, redis.NewCmd(ctx, args...))
}

// TestImpatience: a timeout says something of the node only to somebody who has
// waited, and who has no time is no try.
func TestImpatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNode(3)
		n.end, n.takes = context.DeadlineExceeded, patience/2
		for range 100 {
			_ = n.call()
		}
		if !n.breaker.closed() {
			t.Error("the impatient have opened it")
		}
		n.takes = patience
		for range 3 {
			_ = n.call()
		}
		if n.breaker.closed() {
			t.Error("the patient have not opened it")
		}
		time.Sleep(probeEvery)
		hurry, cancel := context.WithTimeout(t.Context(), patience/2)
		defer cancel()
		calls := n.calls
		if err := n.callIn(hurry, "hmget"); !errors.Is(err, ErrBreakerOpen) || n.calls != calls {
			t.Errorf("whoever is in a hurry is a try: %v", err)
		}
		n.end = nil
		if err := n.call(); err != nil || !n.breaker.closed() {
			t.Errorf("the try after it: %v", err)
		}
	})
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
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errors.New("connection refused"))}
	for err, want := range map[error]verdict{
		nil:                                    answered,
		redis.Nil:                              answered,
		replyError("LOADING"):                  answered,
		fmt.Errorf("x: %w", replyError("OOM")): answered,
		refused:                                unanswered,
		unreached{refused}:                     unanswered,
		io.EOF:                                 unanswered,
		io.ErrUnexpectedEOF:                    unanswered,
		os.ErrDeadlineExceeded:                 unanswered,
		context.DeadlineExceeded:               unanswered,
		errors.New("no Redis at all"):          unanswered,
		context.Canceled:                       unknown,
		redis.ErrPoolTimeout:                   unknown,
		redis.ErrPoolExhausted:                 unknown,
		redis.ErrClosed:                        unknown,
		fmt.Errorf("%w: x", ErrBreakerOpen):    unknown,
	} {
		if got := verdictOf(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
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

// TestHandshakeDoesNotCount: it belongs to the call that needs it.
func TestHandshakeDoesNotCount(t *testing.T) {
	n := newFakeNode(2)
	n.end = io.EOF
	for range 10 {
		_ = n.call("hello", 3)
	}
	if !n.breaker.closed() {
		t.Error("it opens by handshakes alone")
	}
	n.open()
	n.end = nil
	if err := n.call("client", "setinfo"); err != nil || n.breaker.closed() {
		t.Errorf("closed by a handshake, %v", err)
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
			t.Errorf("after a try that told nothing: %v", err)
		}
		n.end = replyError("LOADING")
		time.Sleep(probeEvery)
		_ = n.call()
		if err := n.call(); errors.Is(err, ErrBreakerOpen) {
			t.Errorf("after an answer: %v", err)
		}
	})
}

// TestOneProbe: of many callers at once, one tries; one that does not come back
// keeps the others waiting a second.
func TestOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breaker{limit: 1, opened: new(atomic.Uint64)}
		cmd := redis.NewCmd(t.Context(), "hmget")
		b.done(cmd, false, time.Now(), io.EOF)
		tries := func() (n int64) {
			var count atomic.Int64
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if try, _ := b.allow(context.Background(), cmd); try {
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
	if try, err := n.breaker.allow(context.Background(), cmd); try || err != nil {
		t.Fatal(try, err)
	}
	n.open()
	n.breaker.done(cmd, false, time.Now(), io.EOF) // a late failure changes nothing
	n.breaker.done(cmd, false, time.Now(), nil)
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
				try, err := b.allow(context.Background(), cmd)
				if err != nil {
					continue
				}
				var end error
				if (i+j)%7 != 0 {
					end = io.EOF
				}
				b.done(cmd, try, time.Now(), end)
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
			try, _ := n.breaker.allow(context.Background(), cmd)
			n.breaker.done(cmd, try, time.Now(), nil)
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
			if try, _ := n.breaker.allow(context.Background(), cmd); try {
				n.breaker.done(cmd, try, time.Now(), io.EOF)
			}
		}
	})
}
