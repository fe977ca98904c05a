package serve

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// backlogs are the calls that have begun and that no handler has taken up yet. gRPC
// starts a goroutine for each call, up to grpc.max_streams of each connection. Peers that
// begin calls and reset them at once (CVE-2023-44487) would so have hundreds of thousands
// of them, and a check would wait behind these. Thus a connection with some is not read
// until they are taken up, and one with many short calls is read in small pieces. A peer
// is slowed down by that and never refused.
type backlogs struct {
	calls atomic.Int64 // of all connections
}

const (
	// unread is the backlog of a connection with which it is not read.
	unread = 64
	// unreadTogether is that of all connections with which none is read that has one.
	unreadTogether = 4096
	// dense is how many calls may begin with what is read at once. With more, half of it is
	// read the next time. Checks of Envoy are longer than a 128th of what gRPC reads at once.
	dense = 128
	// smallest, first and largest are the pieces in bytes in which a connection is read, the
	// largest as gRPC does; the smallest, too, while all together have too many calls.
	smallest, first, largest = 1 << 10, 4 << 10, 32 << 10
	// catchUp is how long a connection is not read at most. A call that gRPC itself ends
	// before its handler is never taken up, and counts no more then.
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
	idle *time.Timer // gives up the calls of a connection with nothing more to read
}

func newBacklogConn(conn net.Conn, all *backlogs) *backlogConn {
	c := &backlogConn{Conn: conn, backlog: &backlog{Addr: conn.RemoteAddr(), all: all, piece: first, taken: make(chan struct{}, 1)}}
	c.idle = time.AfterFunc(time.Hour, c.forget)
	c.idle.Stop()
	return c
}

func (c *backlogConn) Read(b []byte) (int, error) {
	b = b[:min(len(b), c.await())]
	if len(c.rest) > 0 {
		n := copy(b, c.rest)
		if c.rest = c.rest[n:]; len(c.rest) == 0 {
			c.rest = nil
		}
		c.more = true
		return n, nil
	}
	if c.calls.Load() > 0 {
		c.idle.Reset(catchUp)
		defer c.idle.Stop()
	}
	n, err := c.Conn.Read(b)
	c.more = n == len(b)
	// Connections that all waited for data may have it at the same moment.
	if n > smallest && c.all.calls.Load() >= unreadTogether {
		c.rest, n, c.more = append(c.rest, b[smallest:n]...), smallest, true
		return n, nil // an error comes again after the rest
	}
	return n, err
}

// RemoteAddr is what gRPC tells its tap and its handlers of a connection, so that these
// find the backlog.
func (c *backlogConn) RemoteAddr() net.Addr { return c.backlog }

func (c *backlogConn) Close() error {
	c.closed.Store(true)
	c.forget()
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

	// Those of the reader alone, which calls gRPC's tap, too.
	begun int  // calls since the last piece
	piece int  // bytes that are read at once
	more  bool // the last piece was full
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
		return status.FromContextError(ctx.Err()).Err()
	}
	return nil
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

// await waits until the connection may be read, and returns how much of it.
func (b *backlog) await() int {
	if b.begun > dense {
		b.piece = max(smallest, b.piece/2)
	} else {
		b.piece = min(largest, 2*b.piece)
	}
	b.begun = 0
	if b.more {
		runtime.Gosched() // others have their turn between the pieces of a flood
	}
	if b.full() {
		b.catchUp()
	}
	if b.all.calls.Load() >= unreadTogether {
		return smallest
	}
	return b.piece
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
			if err := backlogOf(ctx).take(ctx); err != nil {
				return nil, err
			}
			return m.Handler(srv, ctx, decode, interceptor)
		}
	}
	own.Streams = make([]grpc.StreamDesc, len(desc.Streams))
	for i, s := range desc.Streams {
		own.Streams[i] = s
		own.Streams[i].Handler = func(srv any, stream grpc.ServerStream) error {
			if err := backlogOf(stream.Context()).take(stream.Context()); err != nil {
				return err
			}
			return s.Handler(srv, stream)
		}
	}
	t.ServiceRegistrar.RegisterService(&own, service)
}

// unknown answers calls of methods that are not there.
func unknown(_ any, stream grpc.ServerStream) error {
	if err := backlogOf(stream.Context()).take(stream.Context()); err != nil {
		return err
	}
	return status.Error(codes.Unimplemented, "no such method")
}
