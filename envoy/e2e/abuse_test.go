package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// The memory bound that docs/operations.md states and this test checks: twice the
// memory of the idle server, the collector's headroom, a sum for each call that is
// begun and not finished, and a number of messages in transfer.
const (
	headroom    = 64 << 20
	bytesAStray = 16 << 10
	receiving   = 512
	message     = 256 << 10
)

// TestAbuse lets peers on the gRPC port misbehave in every way that is cheap for
// them, while a regular Envoy sends its checks: these are all answered, the process
// stays up, and its memory stays within the stated bound.
func TestAbuse(t *testing.T) {
	t.Parallel()
	const strays = 10_000
	// As in a container of 256 MiB: nine tenths of it, and the headroom. Without a
	// limit the garbage may grow as large as the memory in use.
	limit := append(rig.Credentials(rig.CheckUser), "GOMEMLIMIT=294MiB")
	s := start(t, rig.Options{Patient: true, Environment: limit, Arguments: []string{"--log-decisions", "faults"}})
	c := newClients(t, s, 2)
	time.Sleep(time.Second)
	idle, _, err := s.Coatcheck.Memory()
	must(t, err)
	bound := 2*idle + headroom + strays*bytesAStray + receiving*message
	t.Logf("idle: %d MiB, bound: %d MiB", idle>>20, bound>>20)
	for _, attack := range []struct {
		name string
		run  func(*testing.T, *rig.Stack)
	}{
		{"10,000 calls that are begun, not finished", func(t *testing.T, s *rig.Stack) { openStreams(t, s, strays) }},
		{"2,000 messages that lack their end", unfinishedMessages},
		{"messages of 100 MB", hugeMessages},
		{"2,000 silent connections", silentConnections},
		{"a flood of pings", pings},
		{"header bombs", headerBombs},
		{"calls that are reset at once", rapidReset},
		{"the costliest messages", costlyMessages},
	} {
		before := c.sent.Load()
		begin := time.Now()
		attack.run(t, s)
		_, peak, err := s.Coatcheck.Memory()
		must(t, err)
		t.Logf("%-42s %6s, memory at most %3d MiB, Envoy's checks meanwhile: %d, failed: %d",
			attack.name, time.Since(begin).Round(time.Millisecond), peak>>20, c.sent.Load()-before, c.failed.Load())
		if peak > bound {
			t.Errorf("%s: %d MiB of memory, more than %d MiB", attack.name, peak>>20, bound>>20)
		}
		select {
		case <-s.Coatcheck.Exited():
			t.Fatalf("%s: the process ended:\n%s", attack.name, s.Coatcheck.Output())
		default:
		}
	}
	if sent := c.stop(); sent < 100 {
		t.Errorf("only %d checks of the good Envoy", sent)
	}
	// A later client is served, too.
	conn, err := grpc.NewClient(s.Checks, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	defer conn.Close()
	if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), new(healthv1.HealthCheckRequest)); err != nil {
		t.Errorf("a new connection afterwards: %v", err)
	}
}

// A peer speaks HTTP/2 frame by frame. It reads and drops the server's frames until
// the server ends the connection.
type peer struct {
	net.Conn
	*http2.Framer
	headers bytes.Buffer
	encoder *hpack.Encoder
	next    uint32
	ended   chan struct{}
}

func newPeer(t *testing.T, s *rig.Stack) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", s.Checks)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	p := &peer{Conn: conn, Framer: http2.NewFramer(conn, conn), next: 1, ended: make(chan struct{})}
	p.encoder = hpack.NewEncoder(&p.headers)
	_, err = io.WriteString(conn, http2.ClientPreface)
	must(t, errors.Join(err, p.WriteSettings()))
	go func() {
		defer close(p.ended)
		_, _ = io.Copy(io.Discard, conn)
	}()
	return p
}

// call begins a check without a message and returns its stream.
func (p *peer) call(more ...hpack.HeaderField) (uint32, error) {
	p.headers.Reset()
	for _, field := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":authority", Value: "coatcheck"},
		{Name: ":path", Value: "/envoy.service.auth.v3.Authorization/Check"},
		{Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, more...) {
		_ = p.encoder.WriteField(field)
	}
	stream := p.next
	p.next += 2
	return stream, p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: p.headers.Bytes(), EndHeaders: true})
}

// openStreams leaves n calls open for a second.
func openStreams(t *testing.T, s *rig.Stack, n int) {
	for opened := 0; opened < n; {
		p := newPeer(t, s)
		for range min(1000, n-opened) { // grpc.max_streams is 1024
			_, err := p.call()
			must(t, err)
			opened++
		}
		defer p.Close()
	}
	time.Sleep(time.Second)
}

// unfinishedMessages lack the last byte of the longest allowed message. The server
// receives some of them, and answers the others without reading them.
func unfinishedMessages(t *testing.T, s *rig.Stack) {
	body := make([]byte, 5+message-1)
	copy(body[1:5], []byte{0, message >> 16, 0, 0})
	var running sync.WaitGroup
	for range 4 {
		p := newPeer(t, s)
		defer p.Close()
		running.Go(func() {
			for range 500 {
				stream, err := p.call()
				for rest := body; err == nil && len(rest) > 0; {
					chunk := rest[:min(len(rest), 16<<10)]
					rest = rest[len(chunk):]
					err = p.WriteData(stream, false, chunk)
				}
				if err != nil {
					return // the server has ended the connection
				}
			}
		})
	}
	running.Wait()
	time.Sleep(time.Second)
}

// hugeMessages announce 100 MB, and send as much as the server reads.
func hugeMessages(t *testing.T, s *rig.Stack) {
	var running sync.WaitGroup
	for range 8 {
		p := newPeer(t, s)
		stream, err := p.call()
		must(t, err)
		running.Go(func() {
			chunk := make([]byte, 16<<10)
			copy(chunk[1:5], []byte{0x06, 0x40, 0, 0}) // 100 << 20
			for range 100 << 20 / len(chunk) {
				if p.WriteData(stream, false, chunk) != nil {
					return // refused
				}
				clear(chunk[:5])
			}
		})
	}
	running.Wait()
}

// silentConnections connect and send no byte; the server ends each of them.
func silentConnections(t *testing.T, s *rig.Stack) {
	var conns []net.Conn
	for range 2000 {
		conn, err := net.Dial("tcp", s.Checks)
		must(t, err)
		defer conn.Close()
		conns = append(conns, conn)
	}
	deadline := time.Now().Add(30 * time.Second) // grpc.handshake_timeout is 5s
	for i, conn := range conns {
		_ = conn.SetReadDeadline(deadline)
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d is still open", i)
		}
	}
}

// pings must end the connection.
func pings(t *testing.T, s *rig.Stack) {
	p := newPeer(t, s)
	for range 200_000 {
		if p.WritePing(false, [8]byte{}) != nil {
			break
		}
	}
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		t.Error("the server accepts a flood of pings")
	}
}

// headerBombs are header lists that are large, or that HPACK makes large: one field
// in the table, referred to thousands of times by a byte each. The call fails or the
// connection ends; in both cases the server does not hold the unpacked list.
func headerBombs(t *testing.T, s *rig.Stack) {
	sent := 0
	for range 20 {
		p := newPeer(t, s)
		defer p.Close()
		for p.send(hpack.HeaderField{Name: "x", Value: strings.Repeat("x", 3900)}, 16<<10) == nil && sent < 2000 {
			sent++
		}
	}
	p := newPeer(t, s)
	for range 200 {
		if _, err := p.call(hpack.HeaderField{Name: "x", Value: strings.Repeat("x", 12<<10), Sensitive: true}); err != nil {
			break
		}
	}
	if sent == 0 {
		t.Error("the server accepted no header bomb")
	}
}

// send begins a call with a field that goes into the table, and refers to it that
// often.
func (p *peer) send(field hpack.HeaderField, times int) error {
	p.headers.Reset()
	_ = p.encoder.WriteField(hpack.HeaderField{Name: ":method", Value: "POST"})
	_ = p.encoder.WriteField(hpack.HeaderField{Name: ":scheme", Value: "http"})
	_ = p.encoder.WriteField(hpack.HeaderField{Name: ":path", Value: "/envoy.service.auth.v3.Authorization/Check"})
	_ = p.encoder.WriteField(field)
	stream := p.next
	p.next += 2
	if err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: p.headers.Bytes()}); err != nil {
		return err
	}
	return p.WriteContinuation(stream, true, bytes.Repeat([]byte{0x80 | 62}, times)) // 62: the newest entry of the table
}

// rapidReset begins calls and resets them at once.
func rapidReset(t *testing.T, s *rig.Stack) {
	taken := 0
	for range 10 {
		p := newPeer(t, s)
		for range 5_000 {
			stream, err := p.call()
			if err == nil {
				err = p.WriteRSTStream(stream, http2.ErrCodeCancel)
			}
			if err != nil {
				break // the server has ended the connection
			}
			taken++
		}
		_ = p.Close()
	}
	if taken < 10 {
		t.Errorf("%d calls were taken", taken)
	}
}

// costlyMessages have the largest allowed size, and so many headers that comparing
// each with all others would take a second. Each gets a verdict.
func costlyMessages(t *testing.T, s *rig.Stack) {
	conn, err := grpc.NewClient(s.Checks, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(verbatim{})))
	must(t, err)
	defer conn.Close()
	kinds := map[string]func(i int) []byte{
		"managed names": func(i int) []byte { return field(1, field(1, []byte(fmt.Sprintf("x-user-%d", i)))) },
		"Origin lines":  func(int) []byte { return field(1, field(1, []byte("origin")), field(3, []byte("a"))) },
		"cookie lines":  func(int) []byte { return field(1, field(1, []byte("cookie")), field(3, []byte("a=b"))) },
		"headers":       func(i int) []byte { return field(1, field(1, []byte(fmt.Sprint("x-", i)))) },
	}
	const each = 200
	for name, line := range kinds {
		var headers [][]byte
		for size := 0; size < message-1024; size += len(headers[len(headers)-1]) {
			headers = append(headers, line(len(headers)))
		}
		text := field(1, field(4, field(2, field(2, []byte("GET")), field(4, []byte("/")), field(13, headers...))))
		begin := time.Now()
		for range each {
			var answer []byte
			if err := conn.Invoke(t.Context(), "/envoy.service.auth.v3.Authorization/Check", &text, &answer); err != nil {
				t.Fatalf("%s: a gRPC error and not a verdict: %v", name, err)
			}
		}
		if took := time.Since(begin) / each; took > 50*time.Millisecond {
			t.Errorf("%s: %v for each message", name, took)
		}
	}
}
