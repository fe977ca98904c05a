package serve

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
)

// A peer of a listener that speaks HTTP/1.1 may send thousands of requests without waiting
// for an answer, as no browser and no proxy does, and be served for as long as it has sent
// some. Such requests take turns.

// inTurn has a server serve so, and returns the listener that it must accept from.
func inTurn(server *http.Server, l net.Listener) net.Listener {
	all, next := newTurns(), server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		runtime.Gosched() // of fifty connections, each would otherwise be served for 10 ms at a time
		if c, ok := r.Context().Value(askingKey{}).(*asking); ok && !c.sent.Swap(false) && all.await() {
			defer all.pass()
		}
		next.ServeHTTP(w, r)
	})
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if encrypted, ok := conn.(*tls.Conn); ok {
			conn = encrypted.NetConn()
		}
		return context.WithValue(ctx, askingKey{}, conn)
	}
	return askingListener{l}
}

type askingListener struct{ net.Listener }

func (l askingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &asking{Conn: conn}, nil
}

// askingKey has, in the context of a connection, the connection.
type askingKey struct{}

// asking is a connection that knows whether its peer has sent something since it was asked
// last. If a request comes and it has not, then the request came with the one before.
type asking struct {
	net.Conn
	sent atomic.Bool
}

func (a *asking) Read(b []byte) (int, error) {
	n, err := a.Conn.Read(b)
	if n > 1 { // net/http reads a byte while it serves, to see whether the peer is there
		a.sent.Store(true)
	}
	return n, err
}
