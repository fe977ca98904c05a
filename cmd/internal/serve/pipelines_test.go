package serve

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPipelines: requests that come before the answer to another on the same connection are
// answered one a millisecond, with TLS, too, and those of a client that waits at once.
func TestPipelines(t *testing.T) {
	const together = 20
	for _, encrypted := range []bool{false, true} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a") }))
		server.Listener = inTurn(server.Config, server.Listener)
		dial := func() (net.Conn, error) { return net.Dial("tcp", server.Listener.Addr().String()) }
		if encrypted {
			server.StartTLS()
			dial = func() (net.Conn, error) {
				return tls.Dial("tcp", server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
			}
		} else {
			server.Start()
		}
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		answers := bufio.NewReader(conn)
		ask := func(n int) time.Duration {
			t.Helper()
			begin := time.Now()
			if _, err := io.WriteString(conn, strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n", n)); err != nil {
				t.Fatal(err)
			}
			for range n {
				answer, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, answer.Body)
			}
			return time.Since(begin)
		}
		if took := ask(together); took < (together-1)*breath {
			t.Errorf("TLS %v: %d requests at once were answered in %v", encrypted, together, took)
		}
		least := time.Hour
		for range 50 { // whatever the machine does
			least = min(least, ask(1))
		}
		if least >= breath {
			t.Errorf("TLS %v: one that waits is answered after %v", encrypted, least)
		}
		_ = conn.Close()
		server.Close()
	}
}

// TestRendered: answers are made now and then, and shared by those that wait and take the
// same; none is older than its request.
func TestRendered(t *testing.T) {
	var begun, made atomic.Int64
	h := &rendered{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Accept"))
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write([]byte{byte(begun.Add(1))})
	})}
	begin := time.Now()
	var running sync.WaitGroup
	for i := range 50 {
		running.Go(func() {
			accept := []string{"text/plain", "text/html"}[i/40]
			for range 3 {
				before := begun.Load()
				r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
				r.Header.Set("Accept", accept)
				h.ServeHTTP(w, r)
				made.Add(1)
				if n := int64(w.Body.Bytes()[0]); n <= before || w.Code != http.StatusAccepted || w.Header().Get("Content-Type") != accept {
					t.Errorf("the answer %d, %d, %v; %d were there before", n, w.Code, w.Header(), before)
				}
			}
		})
	}
	running.Wait()
	if n, most := begun.Load(), int64(time.Since(begin)/renderEvery)+1; n > most || n > made.Load()/2 {
		t.Errorf("%d answers were made, in time for %d, for %d requests", n, most, made.Load())
	}
}
