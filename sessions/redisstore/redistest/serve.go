package redistest

import (
	"net"
	"testing"
)

// Serve stands in for a server that is no Redis, or a faulty one: it hands each connection
// to do until the test ends, and returns the address.
func Serve(t testing.TB, do func(net.Conn)) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				do(conn)
			}()
		}
	}()
	return listener.Addr().String()
}
