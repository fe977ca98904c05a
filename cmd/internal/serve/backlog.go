package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
)

// backlogs are the calls that have begun and that no handler has taken up yet. gRPC
// starts a goroutine for each call, up to grpc.max_streams of each connection. Peers that
// begin calls and reset them at once (CVE-2023-44487) would so have hundreds of thousands
// of them, and a check would wait behind these. Thus a connection with some is not read
// until they are taken up, and those with calls that are shorter than a check or that are
// reset at once, with many whose message does not come, or with more bytes than checks can
// have, are read a few calls at a time, one connection after the other. That slows a peer
// down. None is refused, but for one that resets short calls again and again.
type backlogs struct {
	calls   atomic.Int64 // of all connections
	longest int          // the bytes of a check at most
	turns   turns        // of floods
	logger  *slog.Logger
	often   *rate.Limiter
}

func newBacklogs(c *config.Config, logger *slog.Logger) *backlogs {
	longest := c.MaxMessageBytes + c.MaxHeaderBytes
	return &backlogs{longest: longest + longest/4, turns: newTurns(), logger: logger, often: rate.NewLimiter(1, 5)}
}

const (
	// unread is the backlog of a connection with which it is not read.
	unread = 64
	// unreadTogether is that of all connections with which none is read that has one.
	unreadTogether = 4096
	// unfinished is how many calls of a connection may be without their message, or all of
	// it. It is a small part of what the Check API takes of all connections, so that a few
	// do not reach that first, and are refused at full speed.
	unfinished = 16
	// short is less than a call of Envoy's takes, with its headers, in bytes; several that
	// are shorter are no checks. Their connection is read in pieces that have several.
	short, several = 100, 16
	// piece is how much of a connection is handed on at once before its calls are judged, and
	// of one with more bytes than calls can have.
	piece, longestPiece = 1 << 10, 32 << 10
	// beside is more than an Envoy sends before its first call.
	beside = 4 << 10
	// tooOften is how many calls that are reset before they are answered end their connection,
	// if they are short, and half of all or more.
	tooOften = 256
	// catchUp is how long a connection is not read at most for want of room. A call that gRPC
	// itself ends before its handler is never taken up, and counts no more then.
	catchUp = 100 * time.Millisecond
)

// listen has the connections of a listener count their calls.
func (b *backlogs) listen(l net.Listener) net.Listener { return backlogListener{l, b} }

type backlogListener struct {
	net.Listener
	all *backlogs
}

func (l backlogListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newBacklogConn(conn, l.all), nil
}

// backlogConn is a connection that is read as its backlog allows.
type backlogConn struct {
	net.Conn
	*backlog
	rest []byte      // what was read and has to wait for its turn; the reader's alone
	more bool        // it got as much as it had asked for; the reader's alone
	idle *time.Timer // gives up the calls of a connection with nothing more to read
}

func newBacklogConn(conn net.Conn, all *backlogs) *backlogConn {
	c := &backlogConn{Conn: conn, backlog: &backlog{Addr: conn.RemoteAddr(), all: all, taken: make(chan struct{}, 1), size: piece}}
	c.idle = time.AfterFunc(time.Hour, c.forget)
	c.idle.Stop()
	return c
}

func (c *backlogConn) Read(b []byte) (int, error) {
	if err := c.endTurn(); err != nil {
		return 0, err
	}
	if c.more || len(c.rest) > 0 {
		runtime.Gosched() // a flood would have 10 ms before another goroutine has its turn
	}
	if c.full() {
		c.catchUp()
	}
	n, err := c.receive(b)
	c.more = n == len(b)
	if c.flood && (c.more || len(c.rest) > 0) {
		c.awaitTurn() // one that sends a little and waits for the answer is no flood
	}
	return n, err
}

// receive is the rest of what was read before, or what comes. All of it is handed on only
// where the calls are long enough, and all connections together have not too many.
func (c *backlogConn) receive(b []byte) (n int, err error) {
	if len(c.rest) == 0 {
		if n, err = c.wait(b); n <= c.size || !c.slowly() {
			c.read += n
			return n, err
		}
		c.rest = append(c.rest, b[:n]...) // an error comes again after the rest
	}
	n = len(c.rest)
	if c.slowly() {
		n = min(n, c.size)
	}
	n = copy(b, c.rest[:n])
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.rest = nil
	}
	c.read += n
	return n, nil
}

// wait waits for data. With nothing more to read, no read would give up the calls.
func (c *backlogConn) wait(b []byte) (int, error) {
	if c.calls.Load() > 0 {
		c.idle.Reset(catchUp)
		defer c.idle.Stop()
	}
	return c.Conn.Read(b)
}

// RemoteAddr is what gRPC tells its tap and its handlers of a connection, so that these
// find the backlog.
func (c *backlogConn) RemoteAddr() net.Addr { return c.backlog }

func (c *backlogConn) Close() error {
	c.closed.Store(true)
	c.forget()
	c.passTurn()
	return c.Conn.Close()
}

// A backlog is that of one connection.
type backlog struct {
	net.Addr
	all     *backlogs
	calls   atomic.Int64
	closed  atomic.Bool   // nothing is counted any more
	waiting atomic.Bool   // the reader of the connection waits
	taken   chan struct{} // tells it that a call was taken up
	turn    atomic.Bool   // it has the turn of floods
	reset   atomic.Int64  // calls that were reset before they were answered
	dead    atomic.Int64  // and before they were taken up, since it was judged last
	awaited atomic.Int64  // calls whose message has not come, or not all of it

	// Those of the reader alone, which calls gRPC's tap, too.
	judged      int  // calls until it was judged last
	read, begun int  // bytes that it got, and calls in them, since then
	long, flood bool // as it was judged: it has checks; it has none, or none that end as they should
	short       bool // its calls are no checks
	size        int  // of the pieces in which it is read
}

// backlogOf is that of the connection of a call; nil: it has none.
func backlogOf(ctx context.Context) *backlog {
	if p, ok := peer.FromContext(ctx); ok {
		b, _ := p.Addr.(*backlog)
		return b
	}
	return nil
}

// begin counts a call.
func (b *backlog) begin() {
	if b == nil {
		return
	}
	b.begun++
	b.calls.Add(1)
	b.all.calls.Add(1)
	// gRPC may close a connection while its reader still has some of it.
	if b.closed.Load() {
		b.forget()
	}
}

// take is called by the handler of a call. Its error is for a call whose caller has gone:
// whatever it asks for has no reader.
func (b *backlog) take(ctx context.Context) error {
	if b != nil {
		b.less()
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		if b != nil {
			b.dead.Add(1)
		}
		b.end(ctx)
		return status.FromContextError(ctx.Err()).Err()
	}
	return nil
}

// await counts a call while it decodes its message.
func (b *backlog) await(decode func(any) error) func(any) error {
	if b == nil {
		return decode
	}
	return func(message any) error {
		b.awaited.Add(1)
		defer b.awaited.Add(-1)
		return decode(message)
	}
}

// end is called by the handler when it has ended.
func (b *backlog) end(ctx context.Context) {
	if b != nil && errors.Is(ctx.Err(), context.Canceled) {
		b.reset.Add(1)
	}
}

// less counts a call no more. One that is forgotten is not counted anyway.
func (b *backlog) less() {
	for n := b.calls.Load(); n > 0; n = b.calls.Load() {
		if !b.calls.CompareAndSwap(n, n-1) {
			continue
		}
		b.all.calls.Add(-1)
		if b.waiting.Load() {
			select {
			case b.taken <- struct{}{}:
			default:
			}
		}
		return
	}
}

func (b *backlog) forget() { b.all.calls.Add(-b.calls.Swap(0)) }

// full reports whether the connection must not be read.
func (b *backlog) full() bool {
	n := b.calls.Load()
	return n >= unread || n > 0 && b.all.calls.Load() >= unreadTogether
}

// slowly reports whether the connection is read in small pieces.
func (b *backlog) slowly() bool { return !b.long || b.all.calls.Load() >= unreadTogether }

// endTurn is called when what was read is dealt with. It judges the calls in that, and
// its error is for a peer that is to be read no more.
func (b *backlog) endTurn() error {
	b.passTurn()
	b.judge()
	if reset := int(b.reset.Load()); !b.short || reset < tooOften || reset < b.judged/2 {
		return nil
	}
	if b.all.often.Allow() {
		b.all.logger.Warn("a peer begins calls and resets them at once; its connection is closed", "peer", b.String())
	}
	return errResets
}

// judge looks at several calls, or at more bytes than the calls can have.
func (b *backlog) judge() {
	// The message of the last call that was judged may have come since then.
	idle := b.read > beside+(b.begun+min(1, b.judged))*b.all.longest
	if !idle && b.begun < several {
		return
	}
	// An Envoy sends the message with the call. Its clients leave, and its time for a check
	// passes, when the call has long been taken up, unless Coatcheck has too much to do.
	dead := int(b.dead.Swap(0))
	b.short = idle || b.begun*short > b.read
	b.flood = b.short || 2*dead > b.begun || b.awaited.Load() > unfinished
	b.long = !b.flood
	b.size = piece
	if !idle {
		b.size = min(longestPiece, b.read/b.begun*several)
	}
	b.judged += b.begun
	b.read, b.begun = 0, 0
}

var errResets = errors.New("the peer resets its calls at once")

func (b *backlog) passTurn() {
	if b.turn.CompareAndSwap(true, false) {
		b.all.turns.pass()
	}
}

func (b *backlog) awaitTurn() {
	if !b.all.turns.await() {
		return
	}
	if b.turn.Store(true); b.closed.Load() {
		b.passTurn()
	}
}

func (b *backlog) catchUp() {
	b.waiting.Store(true)
	defer b.waiting.Store(false)
	late := time.NewTimer(catchUp)
	defer late.Stop()
	for b.full() {
		select {
		case <-b.taken:
		case <-late.C:
			b.forget()
		}
	}
}

// takenUp registers services whose handlers take up their calls.
type takenUp struct{ grpc.ServiceRegistrar }

func (t takenUp) RegisterService(desc *grpc.ServiceDesc, service any) {
	own := *desc
	own.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		own.Methods[i] = m
		own.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			b := backlogOf(ctx)
			if err := b.take(ctx); err != nil {
				return nil, err
			}
			defer b.end(ctx)
			return m.Handler(srv, ctx, b.await(decode), interceptor)
		}
	}
	own.Streams = make([]grpc.StreamDesc, len(desc.Streams))
	for i, s := range desc.Streams {
		own.Streams[i] = s
		own.Streams[i].Handler = takesUp(s.Handler)
	}
	t.ServiceRegistrar.RegisterService(&own, service)
}

func takesUp(handler grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		ctx := stream.Context()
		b := backlogOf(ctx)
		if err := b.take(ctx); err != nil {
			return err
		}
		defer b.end(ctx)
		return handler(srv, stream)
	}
}

// unknown answers calls of methods that are not there.
func unknown(any, grpc.ServerStream) error {
	return status.Error(codes.Unimplemented, "no such method")
}
