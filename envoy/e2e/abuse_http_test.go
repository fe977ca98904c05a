package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// httpAttacks are for every listener that speaks HTTP/1.1.
var httpAttacks = []attack{
	{"2,000 silent connections", 1024 * bytesAConnection, silentConnections},
	{"1,000 requests a byte at a time", 1000 * bytesAConnection, slowRequests},
	{"endless headers", 20 * bytesAConnection, endlessRequests},
	{"answers that are not read", 50 * bytesAConnection, unreadPages},
}

var loginAttacks = []attack{
	{"bodies of 100 MB", 20 * bytesAConnection, hugeBodies},
	{"500 bodies a byte at a time", 500 * bytesAConnection, slowBodies},
}

var adminAttacks = []attack{
	{"50 clients that ask for metrics at once", 50 * bytesAConnection, manyScrapes},
}

// slowRequests send the lines of a request a byte at a time.
func slowRequests(t *testing.T, d door) {
	var conns []net.Conn
	for range 1000 {
		conn, err := d.dial()
		if err != nil {
			continue // the listener has closed it: that many are there
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nX-A: ")
		conns = append(conns, conn)
	}
	for range 12 {
		for _, conn := range conns {
			_, _ = io.WriteString(conn, "x")
		}
		time.Sleep(500 * time.Millisecond)
	}
	endedWithin(t, conns, 20*time.Second, "a slow request")
}

// endlessRequests send header lines until the server has enough.
func endlessRequests(t *testing.T, d door) {
	var running sync.WaitGroup
	for range 20 {
		conn, err := d.dial()
		must(t, err)
		defer conn.Close()
		running.Go(func() {
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n")
			line := "X-A: " + strings.Repeat("x", 8<<10) + "\r\n"
			for i := range 64 << 20 / len(line) {
				if _, err := io.WriteString(conn, line); err != nil {
					return
				}
				if i == 64<<20/len(line)-1 {
					t.Error("64 MiB of headers are taken")
				}
			}
		})
	}
	running.Wait()
}

// unreadPages ask for thousands of pages and read none of them.
func unreadPages(t *testing.T, d door) {
	request := strings.Repeat("GET /.auth/login HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 100)
	for range 50 {
		conn, err := d.dial()
		must(t, err)
		defer conn.Close()
		_ = conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		for range 100 {
			if _, err := io.WriteString(conn, request); err != nil {
				break // the server has stopped reading
			}
		}
	}
	time.Sleep(time.Second)
}

// hugeBodies announce 100 MB, or no length, and send it until they are refused.
func hugeBodies(t *testing.T, d door) {
	var running sync.WaitGroup
	for i := range 20 {
		conn, err := d.dial()
		must(t, err)
		defer conn.Close()
		length := "Content-Length: 104857600"
		if i%2 == 0 {
			length = "Transfer-Encoding: chunked"
		}
		running.Go(func() {
			_, _ = fmt.Fprintf(conn, "POST /.auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n%s\r\n\r\n", length)
			chunk := "1000\r\n" + strings.Repeat("x", 4096) + "\r\n"
			for range 100 << 20 / 4096 {
				if _, err := io.WriteString(conn, chunk); err != nil {
					return
				}
			}
			t.Error("a body of 100 MB is taken")
		})
	}
	running.Wait()
}

// slowBodies hold a login open: its body comes a byte at a time.
func slowBodies(t *testing.T, d door) {
	var conns []net.Conn
	for range 500 {
		conn, err := d.dial()
		must(t, err)
		defer conn.Close()
		_, _ = io.WriteString(conn, "POST /.auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9000\r\n\r\n")
		conns = append(conns, conn)
	}
	for range 5 {
		for _, conn := range conns {
			_, _ = io.WriteString(conn, "a")
		}
		time.Sleep(300 * time.Millisecond)
	}
	endedWithin(t, conns, 40*time.Second, "a slow body") // the time for a request is 15 s
}

// manyScrapes is a Prometheus gone mad.
func manyScrapes(t *testing.T, d door) {
	until := time.Now().Add(2 * time.Second)
	transport := &http.Transport{MaxIdleConnsPerHost: 50}
	defer transport.CloseIdleConnections()
	var running sync.WaitGroup
	for range 50 {
		running.Go(func() {
			for time.Now().Before(until) {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.addr+"/metrics", nil)
				if err != nil {
					t.Error(err)
					return
				}
				response, err := transport.RoundTrip(r)
				if err != nil {
					continue
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
		})
	}
	running.Wait()
}
