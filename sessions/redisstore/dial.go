package redisstore

import (
	"context"
	"net"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// DialHook hides from go-redis that a node cannot be reached while the breaker is
// open: it hands out a connection that fails. Else go-redis would try eight
// times, in which the call waits and the pool is short of a place, and after a
// poolful of such failures answer every call with the last of them until its own
// probe, once a second, gets through. So one try is over in milliseconds, and the
// first after Redis is back finds it.
//
// It does the same while the door is shut, and where a Sentinel refuses us, which go-redis
// would ask eight times, too.
func (b *breaker) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if err := b.door.shut(b.limit, time.Now()); err != nil {
			return deadConn{err}, nil //nolint:nilerr // the connection fails with it
		}
		conn, err := next(ctx, network, addr)
		switch {
		case err == nil:
			return conn, nil
		case Refused(err):
			b.door.refuse(b.limit, err)
			return deadConn{err}, nil
		case b.closed():
			return nil, unreached{err}
		}
		return deadConn{unreached{err}}, nil
	}
}

// unreached says that it was the dial that failed. It keeps its error whole where
// go-redis unwraps it once.
type unreached struct{ error }

func (u unreached) Unwrap() error { return u.error }

// A deadConn is a connection that was never made. The pool throws it out when it
// looks after it (SyscallConn), and a call that gets it fails (Read, Write).
type deadConn struct{ err error }

func (c deadConn) Read([]byte) (int, error)              { return 0, c.err }
func (c deadConn) Write([]byte) (int, error)             { return 0, c.err }
func (c deadConn) SyscallConn() (syscall.RawConn, error) { return nil, c.err }
func (deadConn) Close() error                            { return nil }
func (deadConn) LocalAddr() net.Addr                     { return nowhere{} }
func (deadConn) RemoteAddr() net.Addr                    { return nowhere{} }
func (deadConn) SetDeadline(time.Time) error             { return nil }
func (deadConn) SetReadDeadline(time.Time) error         { return nil }
func (deadConn) SetWriteDeadline(time.Time) error        { return nil }

type nowhere struct{}

func (nowhere) Network() string { return "none" }
func (nowhere) String() string  { return "none" }
