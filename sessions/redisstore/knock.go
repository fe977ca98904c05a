package redisstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// A knock is a hook that keeps what is known of why a node was not reached: go-redis dials
// for longer than a call waits, which then ends as if Redis were slow.
type knock struct {
	secrets hideSecrets
	failed  atomic.Pointer[failedDial]
}

// A failedDial is the last dial, if it failed.
type failedDial struct {
	error
	at time.Time
}

// justNow is for how long a failed dial explains a call that was late: go-redis dials again
// after a pause of 50 ms, each time for a quarter of a second at most.
const justNow = 500 * time.Millisecond

func (k *knock) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			k.failed.Store(&failedDial{k.secrets.hide(err), time.Now()})
			return conn, err
		}
		k.failed.Store(nil)
		return newTelling(conn), nil
	}
}

func (k *knock) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return k.explain(next(ctx, cmd), cmd) }
}

func (k *knock) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return k.explain(next(ctx, cmds), cmds...) }
}

// explain adds to errors of a call the dial that it waited for in vain.
func (k *knock) explain(err error, cmds ...redis.Cmder) error {
	failed := k.failed.Load()
	if err == nil || failed == nil || time.Since(failed.at) > justNow {
		return err
	}
	for _, cmd := range cmds {
		if err := cmd.Err(); waited(err) {
			cmd.SetErr(inVain{err, failed.error})
		}
	}
	if waited(err) {
		return inVain{err, failed.error}
	}
	return err
}

// waited reports whether a call got no connection in its time, or may not have got one.
func waited(err error) bool {
	return (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout)) && !errors.As(err, new(inVain))
}

// inVain is the error of a call that was late, or for which the dials left no place. What
// it says of the node goes by that error, and what is amiss by the dial.
type inVain struct {
	error
	dial error
}

func (v inVain) Error() string { return v.error.Error() + ", waiting for: " + v.dial.Error() }
func (v inVain) Unwrap() error { return v.error }

// A telling connection keeps what a server has said before it hung up. Who writes to such a
// connection learns of a broken pipe, and not why; and go-redis goes on with AUTH when HELLO
// was refused. One of TLS needs none of it: there the server hangs up before the handshake.
type telling struct {
	net.Conn
	raw   syscall.Conn // by which go-redis looks after idle ones
	heard bool         // the first reply
	told  error        // the refusal
}

// newTelling wraps a new connection.
func newTelling(conn net.Conn) net.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		return newTLSConn(secure)
	}
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return conn
	}
	return &telling{Conn: conn, raw: raw}
}

func (t *telling) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if !t.heard && n > 0 {
		t.hear(b[:n])
	}
	return n, err
}

func (t *telling) Write(b []byte) (int, error) {
	if t.told != nil {
		return 0, t.told
	}
	n, err := t.Conn.Write(b)
	if err == nil || t.heard || timedOut(err) {
		return n, err
	}
	var reply [64]byte
	if t.SetReadDeadline(time.Now().Add(time.Millisecond)) == nil { // what a side that has hung up said is there
		if m, _ := t.Conn.Read(reply[:]); m > 0 {
			t.hear(reply[:m])
		}
	}
	if t.told != nil {
		err = t.told
	}
	return n, err
}

// hear looks at the beginning of what the server says.
func (t *telling) hear(reply []byte) {
	t.heard = true
	if bytes.HasPrefix(reply, []byte("-ERR "+maxClients)) {
		t.told = refusedReply("ERR " + maxClients + " reached")
	}
}

// SyscallConn implements [syscall.Conn].
func (t *telling) SyscallConn() (syscall.RawConn, error) { return t.raw.SyscallConn() }
