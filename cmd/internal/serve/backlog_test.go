package serve

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/coatcheck/coatcheck/extauthz"
)

// backlogged serves checks as the process does, and returns where, and its backlogs.
func backlogged(t *testing.T) (string, *backlogs) {
	t.Helper()
	listener, err := listen("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	authorization, err := extauthz.New(onlyAda{}, extauthz.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := newGRPCServer(configure(t, "127.0.0.1:1"), transport(nil, slog.New(slog.DiscardHandler), func() {}), func(time.Duration) {})
	extauthz.Register(takenUp{server}, authorization)
	all := newBacklogs(configure(t, "127.0.0.1:1"), slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- server.Serve(all.listen(listener)) }()
	t.Cleanup(func() { server.Stop(); <-served })
	return listener.Addr().String(), all
}

// A frames is a peer that writes HTTP/2 frame by frame.
type frames struct {
	net.Conn
	*http2.Framer
	text    bytes.Buffer
	encoder *hpack.Encoder
	next    uint32
	ponged  chan struct{}
	ended   chan struct{}
}

func newFrames(t *testing.T, addr string) *frames {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	f := &frames{Conn: conn, Framer: http2.NewFramer(conn, conn), next: 1, ponged: make(chan struct{}), ended: make(chan struct{})}
	f.encoder = hpack.NewEncoder(&f.text)
	_, err = io.WriteString(conn, http2.ClientPreface)
	if err := errors.Join(err, f.WriteSettings()); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(f.ended)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if ping, ok := frame.(*http2.PingFrame); ok && ping.IsAck() {
				close(f.ponged)
			}
		}
	}()
	return f
}

// call begins a call of a method with one more header, and resets it.
func (f *frames) call(method, name, value string) error {
	f.text.Reset()
	for _, field := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "coatcheck"},
		{Name: ":path", Value: method}, {Name: "content-type", Value: "application/grpc"},
		{Name: name, Value: value, Sensitive: true},
	} {
		_ = f.encoder.WriteField(field)
	}
	f.next += 2
	return errors.Join(f.WriteHeaders(http2.HeadersFrameParam{StreamID: f.next, BlockFragment: f.text.Bytes(), EndHeaders: true}),
		f.WriteRSTStream(f.next, http2.ErrCodeCancel))
}

// endedBy wants the server to end the connection.
func (f *frames) endedBy(t *testing.T, limit time.Duration) {
	select {
	case <-f.ended:
	case <-time.After(limit):
		t.Error("the connection is still open")
	}
}

// stillThere wants the server to answer.
func (f *frames) stillThere(t *testing.T) {
	if err := f.WritePing(false, [8]byte{}); err != nil {
		t.Error(err)
		return
	}
	select {
	case <-f.ponged:
	case <-f.ended:
		t.Error("the connection is closed")
	}
}

// TestRapidReset: peers on many connections begin calls and reset them at once, whatever
// they call. A check goes through, the connections of those whose calls are no checks are
// closed, others are not, and once the peers are gone nothing is left of them.
func TestRapidReset(t *testing.T) {
	for name, method := range map[string]string{
		"checks": authv3.Authorization_Check_FullMethodName, "long checks": authv3.Authorization_Check_FullMethodName,
		"health": "/grpc.health.v1.Health/Check", "unknown": "/a/b",
	} {
		t.Run(name, func(t *testing.T) {
			padding := strings.Repeat("x", 300*strings.Count(name, "long"))
			addr, all := backlogged(t)
			client := caller(t, addr)
			before := runtime.NumGoroutine()
			var running sync.WaitGroup
			for range 8 {
				f := newFrames(t, addr)
				running.Go(func() {
					for range 800 {
						if f.call(method, "x-padding", padding) != nil {
							break // the connection is closed
						}
					}
					if _, err := client.Check(t.Context(), &authv3.CheckRequest{}); err != nil {
						t.Error(err)
					}
					if padding == "" {
						f.endedBy(t, 20*time.Second)
					} else {
						f.stillThere(t)
					}
					_ = f.Close()
				})
			}
			running.Wait()
			eventually(t, "the calls of connections that are gone are forgotten", func() bool { return all.calls.Load() == 0 })
			eventually(t, "the goroutines have ended", func() bool { return runtime.NumGoroutine() < before+40 })
		})
	}
}

// TestBacklog: a connection is read no further while as many of its calls are not taken
// up, or any where all connections have too many, and never later than promised.
func TestBacklog(t *testing.T) {
	all := newBacklogs(configure(t, "127.0.0.1:1"), slog.New(slog.DiscardHandler))
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := newBacklogConn(ours, all)
	go func() { _, _ = io.Copy(theirs, zeros{}) }()
	read := func() time.Duration {
		t.Helper()
		begin := time.Now()
		if _, err := c.Read(make([]byte, 32<<10)); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	begin := func(n int) {
		for range n {
			c.begin()
		}
	}
	wants := func(what string, calls, together int64) {
		t.Helper()
		if c.calls.Load() != calls || all.calls.Load() != together {
			t.Errorf("%s: %d calls, %d of all, want %d and %d", what, c.calls.Load(), all.calls.Load(), calls, together)
		}
	}
	// Whatever the machine does, a read that waits in vain takes as long as is promised.
	begin(unread - 1)
	read()
	wants("one less", unread-1, unread-1)
	begin(1)
	if took := read(); took < catchUp {
		t.Errorf("it was read after %v", took)
	}
	wants("given up", 0, 0)
	c.less()
	wants("taken up after that", 0, 0)

	begin(unread + 1)
	resumed := make(chan struct{})
	go func() { read(); close(resumed) }()
	for range 2 {
		select {
		case <-resumed:
			t.Error("it was read with too many calls")
		case <-time.After(catchUp / 10):
		}
		c.less()
	}
	<-resumed
	wants("two are taken up", unread-1, unread-1)

	all.calls.Add(unreadTogether - unread + 1)
	if took := read(); took < catchUp {
		t.Errorf("it was read after %v, though all have too many", took)
	}
	wants("given up, too", 0, unreadTogether-unread+1)
	all.calls.Store(unreadTogether)
	begin(3)
	_ = c.Close()
	wants("closed", 0, unreadTogether)
	begin(1)
	wants("begun after that", 0, unreadTogether)
}

// TestBacklogOfTheIdle: calls that no handler takes up count no more soon, on a
// connection that sends nothing more, too.
func TestBacklogOfTheIdle(t *testing.T) {
	addr, all := backlogged(t)
	f := newFrames(t, addr)
	for range unread / 2 {
		if err := f.call(authv3.Authorization_Check_FullMethodName, "grpc-encoding", "morse"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.WritePing(false, [8]byte{}); err != nil {
		t.Fatal(err)
	}
	<-f.ponged
	eventually(t, "they are forgotten", func() bool { return all.calls.Load() == 0 })
}

// TestReadAtOnce: a connection that waited for data while others began too many calls
// passes on what it gets in small pieces, and all of it.
func TestReadAtOnce(t *testing.T) {
	all := newBacklogs(configure(t, "127.0.0.1:1"), slog.New(slog.DiscardHandler))
	ours, theirs := net.Pipe()
	defer ours.Close()
	c := newBacklogConn(ours, all)
	c.long = true
	sent := bytes.Repeat([]byte("0123456789"), 1000)
	go func() {
		time.Sleep(50 * time.Millisecond) // it is read from before
		all.calls.Store(unreadTogether)
		_, _ = theirs.Write(sent)
		_ = theirs.Close()
	}()
	var got []byte
	for {
		b := make([]byte, 32<<10)
		n, err := c.Read(b)
		if n > piece {
			t.Errorf("%d bytes are read at once", n)
		}
		got = append(got, b[:n]...)
		if err != nil {
			break
		}
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("%d bytes were read of %d", len(got), len(sent))
	}
}

// zeros is endless.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestShortCalls: connections whose calls are shorter than a check, or that send much and
// no calls, are read in pieces, one at a time, and none waits for one that does not go on,
// or has ended. Those with checks wait for no other.
func TestShortCalls(t *testing.T) {
	all := newBacklogs(configure(t, "127.0.0.1:1"), slog.New(slog.DiscardHandler))
	type reader struct {
		*backlogConn
		calls int // in 32 KiB
	}
	reads := func(calls int) reader {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = ours.Close(); _ = theirs.Close() })
		go func() { _, _ = io.Copy(theirs, zeros{}) }()
		return reader{newBacklogConn(ours, all), calls}
	}
	wants := func(what string, r reader, size int, turn bool) {
		t.Helper()
		n, err := r.Read(make([]byte, 32<<10))
		if err != nil {
			t.Fatal(err)
		}
		for range n * r.calls / (32 << 10) {
			r.begin()
		}
		r.forget() // they are taken up
		if n != size || r.turn.Load() != turn {
			t.Errorf("%s: %d bytes, it has the turn: %v", what, n, r.turn.Load())
		}
	}
	checks := reads(32 << 10 / short)
	for range 2 {
		wants("a new connection with checks", checks, piece, false)
	}
	wants("which are as long as checks", checks, 30<<10, false)
	first, second := reads(2*32<<10/short), reads(2*32<<10/short)
	wants("a new connection", first, piece, false)
	const some = several * (piece / 20) // bytes, as 20 calls were in that
	wants("which has the turn", first, some, true)
	wants("and again", first, some, true)
	wants("another new one", second, piece, false)
	begin := time.Now()
	wants("which waits in vain", second, some, false)
	if took := time.Since(begin); took < ownTurn {
		t.Errorf("it has waited %v", took)
	}
	wants("checks meanwhile", checks, 32<<10, false)
	_ = first.Close()
	wants("the other has ended", second, some, true)
	_ = second.Close()
	nothing := reads(0)
	for range beside/piece + 1 {
		wants("a connection with no calls", nothing, piece, false)
	}
	wants("which has more bytes than come before a call", nothing, piece, true)
	_ = nothing.Close()
	once := reads(0)
	once.judged = 1
	for range (beside+all.longest)/piece + 1 {
		wants("a connection that had a call", once, piece, false)
	}
	wants("which has more bytes than a check can have", once, piece, true)
	_ = once.Close()
	const two = 512 // bytes: two calls are in a piece
	resets := reads(32 << 10 / two)
	for range several / 2 {
		wants("another connection with checks", resets, piece, false)
		resets.dead.Add(2)
	}
	resets.reset.Add(2 * tooOften)
	wants("which are reset before they are taken up", resets, several*two, true)
	wants("and then no more", resets, 32<<10-2*several*two, false)
	wants("so that it is as before", resets, 32<<10, false)
	_ = resets.Close()
	begun := reads(32 << 10 / two)
	for range several / 2 {
		wants("one more", begun, piece, false)
	}
	begun.awaited.Add(17)
	wants("which has many calls without their messages", begun, several*two, true)
	_ = begun.Close()
	ours, theirs := net.Pipe()
	one := reader{newBacklogConn(ours, all), 0}
	one.flood = true
	go func() { _, _ = theirs.Write(make([]byte, piece)) }()
	wants("a little", one, piece, false)
	_ = one.Close()
	if len(all.turns) != 0 {
		t.Error("a connection that is closed has the turn")
	}
}

func caller(t *testing.T, addr string) authv3.AuthorizationClient {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return authv3.NewAuthorizationClient(conn)
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not so: " + what)
		}
	}
}

// TestBacklogOfCallers: callers that do nothing wrong are never refused, however many
// checks they send at once, and calls that no handler ever sees do not add up.
func TestBacklogOfCallers(t *testing.T) {
	addr, all := backlogged(t)
	client := caller(t, addr)
	burst := func() {
		t.Helper()
		var running sync.WaitGroup
		for range 500 {
			running.Go(func() {
				for range 3 {
					if _, err := client.Check(t.Context(), &authv3.CheckRequest{}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		running.Wait()
	}
	burst()
	f := newFrames(t, addr)
	for range 10 * unread { // gRPC answers these before any handler
		if err := f.call(authv3.Authorization_Check_FullMethodName, "grpc-encoding", "morse"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.WritePing(false, [8]byte{}); err != nil {
		t.Fatal(err)
	}
	<-f.ponged // all of them are read
	burst()
	if n := all.calls.Load(); n >= unread {
		t.Errorf("%d calls are still counted", n)
	}
}
