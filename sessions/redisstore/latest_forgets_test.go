package redisstore

import (
	"net"
	"runtime"
	"strings"
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
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", listener.Addr().String())
		must(t, err)
		return conn
	}
	known, hidden := l.keep(dial(), dialled{"a", true}), l.keep(struct{ net.Conn }{dial()}, dialled{"a", true})
	left := func() int {
		l.state.Lock()
		defer l.state.Unlock()
		return len(l.conns)
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
	if l.doubted() {
		t.Error("there is doubt without a connection that was made in it")
	}
	// Another goroutine must not begin while the first one waits for its next look.
	for range 20 {
		_ = l.keep(struct{ net.Conn }{dial()}, dialled{"a", true}).Close()
	}
	var stack [1 << 20]byte
	if n := strings.Count(string(stack[:runtime.Stack(stack[:], true)]), "(*latest).look("); n > 1 {
		t.Errorf("%d goroutines look after the connections", n)
	}
}

// TestLatestBelieves: an epoch that is lower than one told not long ago, by Sentinels that
// answer sooner, ends nothing, and neither does another spelling.
func TestLatestBelieves(t *testing.T) {
	l := newLatest(&redis.UniversalOptions{MasterName: "m", DialTimeout: time.Second})
	defer l.close()
	now := time.Now()
	for _, step := range []struct {
		answer word
		after  time.Duration
		want   string
	}{
		{word{"a:1", 6}, 0, "a:1"}, {word{"b:1", 7}, time.Second, "b:1"}, {word{"a:1", 6}, 2 * time.Second, "b:1"},
		{word{"name:1", 7}, 3 * time.Second, "b:1"}, {word{"a:1", 6}, 12 * time.Second, "b:1"}, {word{"c:1", 0}, 14 * time.Second, "c:1"},
	} {
		l.asked = now.Add(step.after)
		if l.believe(step.answer); l.believed.addr != step.want {
			t.Errorf("after %v, told %v, %s is believed, want %s", step.after, step.answer, l.believed.addr, step.want)
		}
	}
}
