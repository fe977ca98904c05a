package redisstore

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"
)

// A tlsConn lets go-redis look after an idle connection of TLS, as it does by itself after
// one without: else each connection of a Redis that was started anew is found dead by a
// command that was sent on it, and a revocation, which is sent again once at most, fails.
//
// go-redis must not look at the bytes, which may be a record of TLS that holds no reply: it
// would wait for one. So only the end of the connection is told.
type tlsConn struct {
	*tls.Conn
	raw syscall.Conn
}

// newTLSConn returns conn itself where there is nothing to look at.
func newTLSConn(conn *tls.Conn) net.Conn {
	raw, ok := conn.NetConn().(syscall.Conn)
	if !ok {
		return conn
	}
	return tlsConn{conn, raw}
}

// Write returns what the other side has said of a handshake that it refused, and not only
// that it has hung up: with TLS 1.3 a client has ended its part before (RFC 8446, section 4.4.2.4).
func (c tlsConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil || timedOut(err) || c.SetReadDeadline(time.Now().Add(time.Millisecond)) != nil {
		return n, err
	}
	var alert *net.OpError
	if _, said := c.Read(make([]byte, 1)); errors.As(said, &alert) && alert.Op == "remote error" {
		return n, said
	}
	return n, err
}

// SyscallConn implements [syscall.Conn]. Its error says that the other side has hung up.
func (c tlsConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.raw.SyscallConn()
	if err != nil {
		return nil, err
	}
	var ended error
	if err := raw.Control(func(fd uintptr) { ended = hungUp(fd) }); err != nil {
		return nil, err
	}
	return lookedAt{raw}, ended
}

// A lookedAt connection shows no byte.
type lookedAt struct{ syscall.RawConn }

func (lookedAt) Read(func(uintptr) bool) error { return nil }
