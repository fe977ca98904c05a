package redisstore

import (
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// TestLatestForgets: a connection that the client has closed is looked after no more, be its
// socket known or hidden by a Dialer, and with the last of them ends the looking.
func TestLatestForgets(t *testing.T) {
	t.Parallel()
	l := newLatest(&redis.UniversalOptions{MasterName: "m", DialTimeout: time.Second})
	defer l.close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	dialled := func() net.Conn {
		conn, err := net.Dial("tcp", listener.Addr().String())
		must(t, err)
		return conn
	}
	known, hidden := l.keep(dialled(), "a"), l.keep(struct{ net.Conn }{dialled()}, "a")
	left := func() int {
		l.state.Lock()
		defer l.state.Unlock()
		return len(l.own)
	}
	if left() != 2 {
		t.Errorf("%d connections are kept, want 2", left())
	}
	for i, conn := range []net.Conn{known, hidden} {
		_ = conn.Close()
		for begun := time.Now(); left() > 1-i && time.Since(begun) < 10*time.Second; time.Sleep(time.Millisecond) {
		}
		if left() != 1-i {
			t.Fatalf("%d connections are kept after %d were closed", left(), i+1)
		}
	}
	l.looking.Wait()
}
