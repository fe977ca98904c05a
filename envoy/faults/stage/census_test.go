package stage

import (
	"net"
	"os"
	"testing"
	"time"
)

type self struct{ Server }

func (self) Pid() int { return os.Getpid() }

type other struct{ Server }

func (other) Pid() int { return 1 }

// TestCensus finds the replica that has a connection open, among two; and the time that
// takes does not depend on how many connections the machine has.
func TestCensus(t *testing.T) {
	c := &census{sources: make(map[string]source), servers: func() []Server { return []Server{other{}, self{}} }}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = listener.Close() }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	must(t, err)
	accepted, err := listener.Accept()
	must(t, err)
	defer func() { _ = accepted.Close() }()
	took := time.Hour
	for range 10 { // the machine may be busy for some of them
		begin := time.Now()
		if got := c.replica(accepted.(*net.TCPConn)); got != replica(1) {
			t.Errorf("the connection is %s's", got)
		}
		took = min(took, time.Since(begin))
	}
	if took > 100*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	must(t, conn.Close())
	if got := c.replica(accepted.(*net.TCPConn)); got != coatcheck {
		t.Errorf("a closed connection is %s's", got)
	}
	ip := c.enroll("redis-7")
	if got := c.source(&net.TCPAddr{IP: net.ParseIP(ip), Port: 1}); got != "redis-7" {
		t.Errorf("%s is %s", ip, got)
	}
	if got := c.source(&net.TCPAddr{IP: net.ParseIP("127.0.0.1"), Port: 1}); got != coatcheck {
		t.Errorf("127.0.0.1 is %s", got)
	}
}
