package lane

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// A rig is a Redis with a few records, each with its own user.
type rig struct {
	*testing.T
	server *redistest.Server
	client *redis.Client
	keys   []sessions.Key
	until  time.Time
}

var names = []string{"v", "user_id", "roles", "gone"}

func newRig(t *testing.T, records int) *rig {
	r := &rig{T: t, server: redistest.Start(t)}
	r.client = r.server.Client()
	t.Cleanup(func() { _ = r.client.Close() })
	for i := range records {
		key := sessions.NewID().Key()
		r.client.HSet(t.Context(), string(key), "v", "1", "user_id", fmt.Sprint("user ", i), "roles", `["a"]`)
		r.client.PExpire(t.Context(), string(key), time.Hour)
		r.keys = append(r.keys, key)
	}
	r.until = time.Now().Add(2 * time.Hour).Truncate(time.Millisecond)
	return r
}

// dial connects and greets.
func (r *rig) dial() net.Conn {
	r.Helper()
	conn, err := net.Dial("tcp", r.server.Addr)
	if err != nil {
		r.Fatal(err)
	}
	fmt.Fprintf(conn, "AUTH %s\r\n", redistest.Password)
	ok := make([]byte, len("+OK\r\n"))
	if _, err := io.ReadFull(conn, ok); err != nil || string(ok) != "+OK\r\n" {
		r.Fatalf("%q, %v", ok, err)
	}
	return conn
}

func (r *rig) lane(timeout time.Duration) *Lane {
	l := New(r.dial(), timeout)
	r.Cleanup(l.Close)
	return l
}

// holds tells what is wrong with an answer for one of the records.
func (r *rig) holds(i int, record sessions.Record, left time.Duration) error {
	if user := fmt.Sprint("user ", i); record["user_id"] != user || record["v"] != "1" || record["roles"] != `["a"]` || len(record) != 3 {
		return fmt.Errorf("record %d is %v", i, record)
	}
	if left <= time.Hour || left > 2*time.Hour {
		return fmt.Errorf("record %d lasts %v", i, left)
	}
	return nil
}

// TestTouch: what there is to be found, and what is left out of it.
func TestTouch(t *testing.T) {
	r := newRig(t, 1)
	l := r.lane(time.Minute)
	r.client.Set(t.Context(), "text", "x", 0)
	r.client.HSet(t.Context(), "endless", "v", "1")
	ctx := t.Context()
	for range 3 {
		if record, left, err := l.Touch(ctx, r.keys[0], r.until, names); err != nil {
			t.Error(err)
		} else if err := r.holds(0, record, left); err != nil {
			t.Error(err)
		}
	}
	if n := commands(t, r.client, "pexpireat"); n != 1 {
		t.Errorf("PEXPIREAT was sent %d times, want 1", n)
	}
	if _, _, err := l.Touch(ctx, "nothing", r.until, names); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
	if _, _, err := l.Touch(ctx, "text", r.until, names); !errors.Is(err, sessions.ErrBroken) {
		t.Errorf("text: %v", err)
	}
	if record, left, err := l.Touch(ctx, "endless", r.until, names); err != nil || left >= 0 || record["v"] != "1" {
		t.Errorf("endless: %v %v %v", record, left, err)
	}
	if _, left, err := l.Touch(ctx, r.keys[0], r.until.Add(time.Minute), names); err != nil || left < 2*time.Hour {
		t.Errorf("a step later: %v %v", left, err)
	}
	if _, _, err := l.Touch(ctx, r.keys[0], r.until, []string{strings.Repeat("x", maxNames)}); !errors.Is(err, ErrAgain) || !l.Open() {
		t.Errorf("long names: %v", err)
	}
}

func commands(t *testing.T, client *redis.Client, command string) (n int) {
	t.Helper()
	for line := range strings.Lines(client.Info(t.Context(), "commandstats").Val()) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_"+command+":calls="); ok {
			_, _ = fmt.Sscan(rest, &n)
		}
	}
	return n
}

// TestShortened: a record that another program shortens is slid again, behind the first
// check that sees it, whatever the lane remembers.
func TestShortened(t *testing.T) {
	r := newRig(t, 1)
	l := r.lane(time.Minute)
	key := string(r.keys[0])
	for _, how := range []func(){
		func() { r.client.PExpire(t.Context(), key, time.Minute) },
		func() { r.client.PExpireAt(t.Context(), key, r.until.Add(-time.Second)) },
		func() {
			r.client.Del(t.Context(), key)
			r.client.HSet(t.Context(), key, "v", "1", "user_id", "user 0", "roles", `["a"]`)
			r.client.PExpire(t.Context(), key, time.Minute)
		},
	} {
		for range 3 {
			if _, _, err := l.Touch(t.Context(), r.keys[0], r.until, names); err != nil {
				t.Fatal(err)
			}
		}
		how()
		if _, left, err := l.Touch(t.Context(), r.keys[0], r.until, names); err != nil || left < 0 {
			t.Fatal(left, err)
		}
		since := time.Now()
		for r.client.PExpireTime(t.Context(), key).Val() != time.Duration(r.until.UnixMilli())*time.Millisecond {
			if time.Since(since) > 30*time.Second {
				t.Fatalf("it ends at %v", r.client.PExpireTime(t.Context(), key).Val())
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// TestWritesAreTried: a node that refuses to write, such as one that has become a
// replica, answers for about a second at most.
func TestWritesAreTried(t *testing.T) {
	r := newRig(t, 1)
	l := r.lane(time.Minute)
	touch := func() error {
		_, _, err := l.Touch(t.Context(), r.keys[0], r.until, names)
		return err
	}
	if err := errors.Join(touch(), touch()); err != nil {
		t.Fatal(err)
	}
	if err := r.client.Do(t.Context(), "replicaof", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	for touch() == nil {
		if time.Since(since) > time.Minute {
			t.Fatal("a replica answers")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if took := time.Since(since); took > 10*writes {
		t.Errorf("a replica answered for %v", took)
	}
	if l.Open() {
		t.Error("the lane is open")
	}
}

// TestRefusedTogether: where a node refuses the write of one call, the reads of the others
// that were sent with it are no answers: the node may have been a replica for some time.
func TestRefusedTogether(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	l := New(client, 10*time.Second)
	defer l.Close()
	until := time.Now().Add(time.Hour)
	field := []string{"v"}
	touch := func(key sessions.Key, errs chan<- error) {
		_, _, err := l.Touch(t.Context(), key, until, field)
		errs <- err
	}
	in := bufio.NewReader(server)
	// reply waits for so many commands, and answers them.
	reply := func(commands int, replies string) {
		t.Helper()
		for commands > 0 {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "*") {
				commands--
			}
		}
		for in.Buffered() > 0 {
			_, _ = in.Discard(in.Buffered())
		}
		if _, err := io.WriteString(server, replies); err != nil {
			t.Fatal(err)
		}
	}
	const record, lasts = "*1\r\n$1\r\n1\r\n", ":3600000\r\n"
	errs := make(chan error, 4)
	go touch("known", errs)
	reply(3, ":1\r\n"+record+lasts)
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	waiting := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.queue)
	}
	go touch("first", errs)
	for !l.Busy() || waiting() > 0 {
		time.Sleep(time.Millisecond)
	}
	for i, key := range []sessions.Key{"known", "new"} {
		go touch(key, errs)
		for waiting() != i+1 {
			time.Sleep(time.Millisecond)
		}
	}
	reply(3, ":1\r\n"+record+lasts)
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	// Only the second one writes.
	reply(5, record+lasts+"-READONLY You can't write against a read only replica.\r\n"+record+lasts)
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrAgain) {
			t.Errorf("error is %v, want %v", err, ErrAgain)
		}
	}
	if l.Open() {
		t.Error("the lane is open")
	}
}

// TestDeadlines: callers leave when their time is over, the first and those who have
// joined; a Redis that goes on in time finds the connection in step.
func TestDeadlines(t *testing.T) {
	r := newRig(t, 8)
	l := r.lane(time.Minute)
	if err := r.server.Pause(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var ctx context.Context
			var cancel context.CancelFunc
			if i%2 == 0 {
				ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
			} else {
				ctx, cancel = silent{t.Context(), time.Now().Add(50 * time.Millisecond)}, func() {}
			}
			defer cancel()
			start := time.Now()
			if _, _, err := l.Touch(ctx, r.keys[i], r.until, names); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error is %v, want %v", err, context.DeadlineExceeded)
			}
			if took := time.Since(start); took < 45*time.Millisecond || took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	wg.Wait()
	if err := r.server.Resume(); err != nil {
		t.Fatal(err)
	}
	for i, key := range r.keys {
		if record, left, err := l.Touch(t.Context(), key, r.until, names); err != nil {
			t.Error(err)
		} else if err := r.holds(i, record, left); err != nil {
			t.Error(err)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := l.Touch(over, r.keys[0], r.until, names); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has left: %v", err)
	}
}

// A silent context has a deadline that its Done does not tell.
type silent struct {
	context.Context
	end time.Time
}

func (s silent) Deadline() (time.Time, bool) { return s.end, true }
func (silent) Done() <-chan struct{}         { return nil }
func (silent) Err() error                    { return nil }

// TestLate: a Redis that does not answer in time closes the lane, and all who wait ask
// again.
func TestLate(t *testing.T) {
	r := newRig(t, 8)
	l := r.lane(100 * time.Millisecond)
	if err := r.server.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.server.Resume() }()
	var wg sync.WaitGroup
	for _, key := range r.keys {
		wg.Go(func() {
			if _, _, err := l.Touch(t.Context(), key, r.until, names); !errors.Is(err, ErrAgain) {
				t.Errorf("error is %v, want %v", err, ErrAgain)
			}
		})
	}
	wg.Wait()
	if _, _, err := l.Touch(t.Context(), r.keys[0], r.until, names); !errors.Is(err, ErrAgain) || l.Open() {
		t.Errorf("afterwards: %v", err)
	}
}

// A lingering connection takes its time to close.
type lingering struct {
	net.Conn
	until chan struct{}
}

func (l lingering) Close() error {
	<-l.until
	return l.Conn.Close()
}

// TestLingering: no caller waits until a connection is closed, which may take as long as
// another one to a Sentinel.
func TestLingering(t *testing.T) {
	conn, server := net.Pipe() // which nothing is read from
	defer server.Close()
	closed := make(chan struct{})
	l := New(lingering{conn, closed}, 50*time.Millisecond)
	start := time.Now()
	var wg sync.WaitGroup
	timer := time.AfterFunc(20*time.Second, func() { close(closed) })
	for i := range 3 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*30*time.Second)
			defer cancel()
			_, _, err := l.Touch(ctx, sessions.Key(fmt.Sprint(i)), time.Now().Add(time.Hour), names)
			if took := time.Since(start); !errors.Is(err, ErrAgain) || took > 10*time.Second {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
	wg.Wait()
	if l.Open() || time.Since(start) > 10*time.Second {
		t.Error("it waits")
	}
	if timer.Stop() {
		close(closed)
	}
}

// A cut is a connection whose replies are spoiled: behind so many bytes it is broken, or
// other bytes are put in.
type cut struct {
	net.Conn
	after  int
	put    string // empty: it breaks
	halves bool   // a byte at a time
}

func (c *cut) Read(b []byte) (int, error) {
	if c.after == 0 {
		if c.put == "" {
			return 0, io.ErrUnexpectedEOF
		}
		n := copy(b, c.put)
		if c.put = c.put[n:]; c.put == "" {
			c.after = -1
		}
		return n, nil
	}
	if c.after > 0 {
		b = b[:min(len(b), c.after)]
	}
	if c.halves {
		b = b[:1]
	}
	n, err := c.Conn.Read(b)
	if c.after > 0 {
		c.after -= n
	}
	return n, err
}

// TestSpoiled breaks the replies, and puts others between them, at each byte: the answer
// is the session's own, or none.
func TestSpoiled(t *testing.T) {
	r := newRig(t, 2)
	for _, put := range []string{"", "-ERR x\r\n", ":1\r\n", "+OK\r\n", "*-1\r\n", "_\r\n", "$-1\r\n", "$3\r\nabc\r\n", ">2\r\n$1\r\na\r\n$1\r\nb\r\n", "-WRONGTYPE x\r\n", "\r\n", "*4\r\n"} {
		right := 0
		for after := 0; after < 150; after++ {
			conn := &cut{Conn: r.dial(), after: after, put: put, halves: after%3 == 0}
			l := New(conn, 200*time.Millisecond)
			bad := false
			for i := range 4 {
				record, left, err := l.Touch(t.Context(), r.keys[i%2], r.until, names)
				switch {
				case err == nil:
					if err := r.holds(i%2, record, left); err != nil && inside(put) {
						t.Errorf("%q put behind %d bytes: %v", put, after, err)
					}
					right++
				case errors.Is(err, ErrAgain):
					bad = true
				case put != "-WRONGTYPE x\r\n" || !errors.Is(err, sessions.ErrBroken):
					t.Errorf("%q put behind %d bytes: %v", put, after, err)
				}
			}
			if bad == l.Open() {
				t.Errorf("%q put behind %d bytes: open is %v", put, after, l.Open())
			}
			l.Close()
			_ = conn.Close()
		}
		if right == 0 {
			t.Errorf("%q: nothing was answered", put)
		}
	}
}

// TestLeftOver: replies with those to another touch behind them are none: the next session
// would get them.
func TestLeftOver(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	l := New(ours, time.Minute)
	defer l.Close()
	go func() {
		_, _ = theirs.Read(make([]byte, 4096))
		_, _ = io.WriteString(theirs, ":1\r\n*1\r\n$1\r\n1\r\n:60000\r\n"+":1\r\n*1\r\n$1\r\n1\r\n:60000\r\n")
	}()
	_, _, err := l.Touch(t.Context(), sessions.NewID().Key(), time.Now().Add(time.Minute), []string{sessions.FieldVersion})
	if !errors.Is(err, ErrAgain) || l.Open() {
		t.Errorf("%v, open: %v", err, l.Open())
	}
}

// inside reports whether a text that is put into the middle of a value can be told from
// the value: a server that does that is not to be helped.
func inside(put string) bool { return put == "" || put[0] == '-' || put[0] == '+' || put[0] == '>' }

// TestManyAtOnce: many callers, some in a hurry, and connections that are killed: each
// answer is that of its session.
func TestManyAtOnce(t *testing.T) {
	r := newRig(t, 200)
	var mu sync.Mutex
	l := r.lane(time.Minute)
	current := func() *Lane {
		mu.Lock()
		defer mu.Unlock()
		if !l.Open() {
			l = r.lane(time.Minute)
		}
		return l
	}
	var wg sync.WaitGroup
	var fine, other int
	for w := range 32 {
		wg.Go(func() {
			for n := range 300 {
				i := (w*31 + n*7) % len(r.keys)
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if n%3 == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(n%7)*100*time.Microsecond)
				}
				record, left, err := current().Touch(ctx, r.keys[i], r.until.Add(time.Duration(n%2)*time.Second), names)
				cancel()
				switch {
				case err == nil:
					if err := r.holds(i, record, min(left, 2*time.Hour)); err != nil {
						t.Error(err)
					}
				case !errors.Is(err, ErrAgain) && !errors.Is(err, context.DeadlineExceeded):
					t.Error(err)
				}
				mu.Lock()
				if err == nil {
					fine++
				} else {
					other++
				}
				mu.Unlock()
				if w == 0 && n%50 == 49 {
					r.client.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
				}
			}
		})
	}
	wg.Wait()
	if fine < 32*300/4 || other == 0 {
		t.Errorf("%d were answered, %d not", fine, other)
	}
}

// TestLongValues: a long record is read, and one that is too long is skipped without harm
// to those beside it.
func TestLongValues(t *testing.T) {
	r := newRig(t, 1)
	for i, size := range []int{1 << 20, maxReplies - 100, maxReplies + 1, 3 * maxReplies} {
		long := sessions.Key(fmt.Sprint("long ", i))
		r.client.HSet(t.Context(), string(long), "v", "1", "roles", strings.Repeat("x", size))
		r.client.PExpire(t.Context(), string(long), time.Hour)
		l := r.lane(10 * time.Second)
		record, _, err := l.Touch(t.Context(), long, r.until, names)
		if fits := size < maxReplies; fits != (err == nil) || err != nil && !errors.Is(err, ErrAgain) || fits && len(record["roles"]) != size {
			t.Errorf("%d bytes: %d, %v", size, len(record["roles"]), err)
		}
		if record, left, err := l.Touch(t.Context(), r.keys[0], r.until, names); err != nil {
			t.Error(err)
		} else if err := r.holds(0, record, left); err != nil {
			t.Error(err)
		}
	}
}
