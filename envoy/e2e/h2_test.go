package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// An h2 is a client of cleartext HTTP/2 that can send any frame: methods, targets and
// trailers that net/http would not send.
type h2 struct {
	conn    net.Conn
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	next    uint32
}

func newH2(t *testing.T, url string) *h2 {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &h2{conn: conn, framer: http2.NewFramer(conn, conn), next: 1}
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encoder = hpack.NewEncoder(&c.block)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := c.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c
}

// send makes one request of the connection and returns its answer. A stream or a
// connection that is reset is answered with status 0.
func (c *h2) send(t *testing.T, method, host, target string, lines, trailers []string) answer {
	t.Helper()
	_ = c.conn.SetDeadline(time.Now().Add(time.Minute))
	stream := c.next
	c.next += 2
	head := c.fields(append([]string{":method: " + method, ":scheme: http", ":authority: " + host, ":path: " + target}, lines...))
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: head, EndHeaders: true, EndStream: trailers == nil})
	if err == nil && trailers != nil {
		err = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.fields(trailers), EndHeaders: true, EndStream: true})
	}
	if err != nil {
		return answer{}
	}
	return c.answer(t, stream)
}

// fields encodes "name: value" lines; names go as they are.
func (c *h2) fields(lines []string) []byte {
	c.block.Reset()
	for _, line := range lines {
		i := strings.Index(line[1:], ": ") + 1
		_ = c.encoder.WriteField(hpack.HeaderField{Name: line[:i], Value: line[i+2:]})
	}
	return bytes.Clone(c.block.Bytes())
}

func (c *h2) answer(t *testing.T, stream uint32) answer {
	a := answer{header: make(http.Header)}
	var body bytes.Buffer
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return answer{}
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = c.framer.WriteSettingsAck()
			}
		case *http2.MetaHeadersFrame:
			for _, field := range frame.Fields {
				if frame.StreamID != stream {
				} else if field.Name == ":status" {
					a.status, _ = strconv.Atoi(field.Value)
				} else {
					a.header.Add(field.Name, field.Value)
				}
			}
			ended = frame.StreamID == stream && frame.StreamEnded()
		case *http2.DataFrame:
			body.Write(frame.Data())
			_ = c.framer.WriteWindowUpdate(0, max(uint32(len(frame.Data())), 1))
			ended = frame.StreamID == stream && frame.StreamEnded()
		case *http2.RSTStreamFrame:
			if frame.StreamID == stream && a.status == 0 {
				return answer{}
			}
			ended = frame.StreamID == stream
		case *http2.GoAwayFrame:
			return answer{}
		}
		if ended {
			break
		}
	}
	a.body = body.String()
	if a.header.Get("Content-Type") == "application/json" {
		a.sent = new(rig.Echoed)
		if err := json.Unmarshal(body.Bytes(), a.sent); err != nil {
			t.Fatal(err)
		}
	}
	return a
}
