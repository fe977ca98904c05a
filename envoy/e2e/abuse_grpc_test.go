package e2e_test

import (
	"bytes"
	"crypto/tls"
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
	grpccreds "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

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

func newPeer(t *testing.T, d door, settings ...http2.Setting) *peer {
	t.Helper()
	p := newDeafPeer(t, d, settings...)
	go func() {
		defer close(p.ended)
		_, _ = io.Copy(io.Discard, p.Conn)
	}()
	return p
}

// newDeafPeer is a peer that reads nothing.
func newDeafPeer(t *testing.T, d door, settings ...http2.Setting) *peer {
	t.Helper()
	conn, err := d.dial()
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	p := &peer{Conn: conn, Framer: http2.NewFramer(conn, conn), next: 1, ended: make(chan struct{})}
	p.encoder = hpack.NewEncoder(&p.headers)
	_, err = io.WriteString(conn, http2.ClientPreface)
	must(t, errors.Join(err, p.WriteSettings(settings...)))
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

// openStreams leaves calls open for a second.
func openStreams(t *testing.T, d door) {
	for opened := 0; opened < strays; {
		p := newPeer(t, d)
		for range min(1000, strays-opened) { // grpc.max_streams is 1024
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
func unfinishedMessages(t *testing.T, d door) {
	body := make([]byte, 5+message-1)
	copy(body[1:5], []byte{0, message >> 16, 0, 0})
	var running sync.WaitGroup
	for range 4 {
		p := newPeer(t, d)
		defer p.Close()
		_ = p.SetWriteDeadline(time.Now().Add(patience))
		running.Go(func() {
			for range 500 {
				stream, err := p.call()
				for rest := body; err == nil && len(rest) > 0; {
					chunk := rest[:min(len(rest), 16<<10)]
					rest = rest[len(chunk):]
					err = p.WriteData(stream, false, chunk)
				}
				if err != nil {
					return // the server has ended the connection, or reads slowly
				}
			}
		})
	}
	running.Wait()
	time.Sleep(time.Second)
}

// patience is how long an attack goes on that the server slows down.
const patience = 5 * time.Second

// hugeMessages announce 100 MB, and send as much as the server reads in some seconds.
func hugeMessages(t *testing.T, d door) {
	var running sync.WaitGroup
	for range 8 {
		p := newPeer(t, d)
		stream, err := p.call()
		must(t, err)
		_ = p.SetWriteDeadline(time.Now().Add(patience))
		running.Go(func() {
			defer p.Close()
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
func silentConnections(t *testing.T, d door) {
	var conns []net.Conn
	for range 2000 {
		conn, err := net.Dial("tcp", d.addr)
		must(t, err)
		defer conn.Close()
		conns = append(conns, conn)
	}
	endedWithin(t, conns, 30*time.Second, "a silent connection") // grpc.handshake_timeout is 5s
}

// endedWithin wants the server to end every connection.
func endedWithin(t *testing.T, conns []net.Conn, limit time.Duration, what string) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for i, conn := range conns {
		_ = conn.SetReadDeadline(deadline)
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s, the %dth, is still open", what, i)
			return
		}
	}
}

// slowHandshakes send the beginning of a handshake, HTTP/2's or TLS's, and then a byte
// now and then.
func slowHandshakes(t *testing.T, d door) {
	var conns []net.Conn
	hello := http2.ClientPreface
	for range 1000 {
		conn, err := net.Dial("tcp", d.addr)
		must(t, err)
		defer conn.Close()
		conns = append(conns, conn)
		_, _ = io.WriteString(conn, "\x16\x03\x01"[:3*(len(conns)%2)])
	}
	for i := range 12 {
		for _, conn := range conns {
			_, _ = io.WriteString(conn, hello[i:i+1])
		}
		time.Sleep(500 * time.Millisecond)
	}
	endedWithin(t, conns, 20*time.Second, "a slow handshake")
}

// halfOpen are connections whose other end is gone without a word: it acknowledges
// nothing, the server's pings neither. In the long form the server must find them, which
// takes it the minute until its ping and 10 s.
func halfOpen(t *testing.T, d door) {
	var conns []net.Conn
	for range 200 {
		conn, err := net.Dial("tcp", d.addr)
		must(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, http2.ClientPreface)
		must(t, err)
		must(t, http2.NewFramer(conn, conn).WriteSettings())
		conns = append(conns, conn)
	}
	if full {
		endedWithin(t, conns, 100*time.Second, "a half-open connection")
	}
}

// pings must end the connection.
func pings(t *testing.T, d door) {
	p := newPeer(t, d)
	for range 200_000 {
		if p.WritePing(false, [8]byte{}) != nil {
			break
		}
	}
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		t.Error("the server accepts a flood of pings")
	}
}

// settingsAndWindows ask for an answer, or for work, with each frame of a few bytes,
// and read nothing. The server stops reading.
func settingsAndWindows(t *testing.T, d door) {
	var running sync.WaitGroup
	for range 8 {
		p := newDeafPeer(t, d)
		defer p.Close()
		_ = p.SetWriteDeadline(time.Now().Add(3 * time.Second))
		running.Go(func() {
			for range 100_000 {
				if errors.Join(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}), p.WriteWindowUpdate(0, 1)) != nil {
					return
				}
			}
		})
	}
	running.Wait()
}

// endlessHeaders never send the end of the headers of a call: 63 KiB of it, where 64
// are allowed.
func endlessHeaders(t *testing.T, d door) {
	for range 200 {
		p := newPeer(t, d)
		defer p.Close()
		p.headers.Reset()
		_ = p.encoder.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("x", 15<<10), Sensitive: true})
		must(t, p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.headers.Bytes()}))
		for range 3 {
			if p.WriteContinuation(1, false, p.headers.Bytes()) != nil {
				break
			}
		}
	}
	time.Sleep(time.Second)
}

const unread = 10_000

// closedWindows let the server answer into a window of no size, so that it keeps every
// answer.
func closedWindows(t *testing.T, d door) {
	for sent := 0; sent < unread; {
		p := newPeer(t, d, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		defer p.Close()
		for range min(1000, unread-sent) {
			must(t, p.check())
			sent++
		}
	}
	time.Sleep(time.Second)
}

// unreadAnswers have the server answer until nothing fits into the connection.
func unreadAnswers(t *testing.T, d door) {
	for range 10 {
		p := newDeafPeer(t, d, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		defer p.Close()
		_ = p.SetWriteDeadline(time.Now().Add(2 * time.Second))
		for range 20_000 {
			if p.check() != nil {
				break // the server has stopped reading
			}
		}
	}
	time.Sleep(time.Second)
}

// check sends a whole call: a check without a cookie.
func (p *peer) check() error {
	stream, err := p.call()
	if err != nil {
		return err
	}
	text := field(1, field(4, field(2, field(2, []byte("GET")), field(4, []byte("/")))))
	return p.WriteData(stream, true, append([]byte{0, 0, 0, 0, byte(len(text))}, text...))
}

// strangeCalls are of methods that are not there, of other content, without an
// authority, and of reflection, which would tell what is there.
func strangeCalls(t *testing.T, d door) {
	p := newPeer(t, d)
	defer p.Close()
	for i := range 5_000 {
		fields := [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", fmt.Sprintf("/grpc.reflection.v1.ServerReflection/%d", i)}}
		if i%2 == 0 {
			fields = append(fields, [2]string{":authority", "coatcheck"}, [2]string{"content-type", "application/grpc"})
		}
		p.headers.Reset()
		for _, f := range fields {
			_ = p.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		stream := p.next
		p.next += 2
		if p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: p.headers.Bytes(), EndHeaders: true, EndStream: true}) != nil {
			return
		}
	}
}

// headerBombs are header lists that are large, or that HPACK makes large: one field
// in the table, referred to thousands of times by a byte each. The call fails or the
// connection ends; in both cases the server does not hold the unpacked list.
func headerBombs(t *testing.T, d door) {
	sent := 0
	for end := time.Now().Add(patience); time.Now().Before(end) && sent < 2000; {
		p := newPeer(t, d)
		defer p.Close()
		_ = p.SetWriteDeadline(end)
		for p.send(hpack.HeaderField{Name: "x", Value: strings.Repeat("x", 3900)}, 16<<10) == nil && sent < 2000 {
			sent++
		}
	}
	p := newPeer(t, d)
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
func rapidReset(t *testing.T, d door) { reset(t, d) }

// longReset does so with calls that are as long as checks, which a server that counts
// calls of impossible shortness does not notice.
func longReset(t *testing.T, d door) {
	reset(t, d, hpack.HeaderField{Name: "x-padding", Value: strings.Repeat("x", 200), Sensitive: true})
}

func reset(t *testing.T, d door, more ...hpack.HeaderField) {
	taken := 0
	for range 10 {
		p := newPeer(t, d)
		for range 5_000 {
			stream, err := p.call(more...)
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
func costlyMessages(t *testing.T, d door) {
	conn, err := grpc.NewClient(d.addr, grpc.WithTransportCredentials(encrypted(d)),
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
		var took time.Duration
		for range 4 { // the machine may be busy
			begin := time.Now()
			for range each {
				var answer []byte
				if err := conn.Invoke(t.Context(), "/envoy.service.auth.v3.Authorization/Check", &text, &answer); err != nil {
					t.Fatalf("%s: a gRPC error and not a verdict: %v", name, err)
				}
			}
			if took = time.Since(begin) / each; took <= 50*time.Millisecond {
				break
			}
		}
		if took > 50*time.Millisecond {
			t.Errorf("%s: %v for each message", name, took)
		}
	}
}

var plaintext = insecure.NewCredentials()

// encrypted are the credentials of a client at a door.
func encrypted(d door) grpccreds.TransportCredentials {
	if !d.encrypted {
		return plaintext
	}
	return grpccreds.NewTLS(d.tls())
}

// tlsAttacks come before a certificate.
var tlsAttacks = []attack{
	{"1,000 handshakes that stop half-way", 1000 * bytesAConnection, halfHandshakes},
	{"junk in place of a handshake", 0, junkHandshakes},
	{"plain text in place of TLS", 0, plainText},
	{"whole handshakes, one after the other", 0, manyHandshakes},
}

// halfHandshakes say hello, read the server's part of the handshake, and stop.
func halfHandshakes(t *testing.T, d door) {
	var conns []net.Conn
	hello := clientHello(t)
	for range 1000 {
		conn, err := net.Dial("tcp", d.addr)
		must(t, err)
		defer conn.Close()
		_, _ = conn.Write(hello)
		conns = append(conns, conn)
	}
	endedWithin(t, conns, 30*time.Second, "a handshake that stopped")
}

// clientHello is the first flight of a TLS client.
func clientHello(t *testing.T) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		_ = tls.Client(theirs, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}).Handshake()
	}()
	defer theirs.Close()
	_ = ours.SetReadDeadline(time.Now().Add(10 * time.Second))
	head := make([]byte, 5)
	_, err := io.ReadFull(ours, head)
	must(t, err)
	rest := make([]byte, int(head[3])<<8|int(head[4]))
	_, err = io.ReadFull(ours, rest)
	must(t, err)
	return append(head, rest...)
}

func junkHandshakes(t *testing.T, d door) {
	junk := bytes.Repeat([]byte{0x16, 0x03, 0x01, 0x40, 0x00, 0x01}, 1<<12)
	for range 500 {
		conn, err := net.Dial("tcp", d.addr)
		must(t, err)
		_, _ = conn.Write(junk)
		endedWithin(t, []net.Conn{conn}, 30*time.Second, "junk")
		_ = conn.Close()
	}
}

// plainText must get neither a verdict nor a page where TLS is configured.
func plainText(t *testing.T, d door) {
	for _, text := range []string{http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "GET /.auth/login HTTP/1.1\r\nHost: a\r\n\r\n"} {
		conn, err := net.Dial("tcp", d.addr)
		must(t, err)
		_, _ = io.WriteString(conn, text)
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		answer, _ := io.ReadAll(conn)
		if bytes.Contains(answer, []byte("200 OK")) || bytes.Contains(answer, []byte("\x00\x04\x00\x00")) {
			t.Errorf("an answer in plain text: %q", answer)
		}
		_ = conn.Close()
	}
}

// manyHandshakes cost the server a signature each.
func manyHandshakes(t *testing.T, d door) {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}}
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 100 {
				conn, err := dialer.DialContext(t.Context(), "tcp", d.addr)
				if err == nil {
					_ = conn.Close()
				}
			}
		})
	}
	running.Wait()
}
