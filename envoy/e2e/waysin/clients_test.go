package waysin_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience is how long an answer may take.
const patience = 20 * time.Second

// A request is sent byte for byte as it stands here.
type request struct {
	class          string
	method, target string
	host           string
	lines          []string // further header lines, "Name: value"
	body           string
	trailers       []string // over HTTP/2 alone
}

func get(class, target string, lines ...string) request {
	return request{class: class, method: "GET", target: target, host: "shop.example", lines: lines}
}

// A reply is what came back. Its status is 0 where the connection was closed or
// the stream reset.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// page is what the upstream served, if it was that which answered.
func (r reply) page() string { return r.header.Get("X-Page") }

// shown is what an upstream says of a request.
type shown struct {
	Method, Path, Target       string
	Headers, Trailers, Cookies map[string]any
}

// seen is what the upstream says that it was sent.
func (r reply) seen() (s shown) {
	_ = json.Unmarshal(r.body, &s)
	return s
}

// A client sends requests, each when the one before was answered.
type client interface {
	send(request) reply
	close()
}

// one is an HTTP/1.1 connection, made anew when the other side has closed it.
type one struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

func (c *one) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *one) send(r request) reply {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", r.method, r.target)
	if r.host != "" {
		fmt.Fprintf(&b, "Host: %s\r\n", r.host)
	}
	for _, line := range r.lines {
		b.WriteString(line + "\r\n")
	}
	if r.body != "" || !slices.Contains([]string{"GET", "HEAD", "CONNECT"}, r.method) {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(r.body))
	}
	b.WriteString("\r\n" + r.body)
	// A connection that was idle may just be closing.
	for range 2 {
		fresh := c.conn == nil
		answer, err := c.try(r, b.Bytes())
		if err == nil {
			return answer
		}
		c.close()
		if fresh || r.class == "framing" {
			break
		}
	}
	return reply{}
}

func (c *one) try(r request, text []byte) (reply, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return reply{}, err
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	wait := patience
	if r.class == "framing" {
		wait = 300 * time.Millisecond // for the rest of a request that may never end
	}
	_ = c.conn.SetDeadline(time.Now().Add(wait))
	if _, err := c.conn.Write(text); err != nil {
		return reply{}, err
	}
	response, err := http.ReadResponse(c.reader, &http.Request{Method: r.method})
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.Close {
		c.close()
	}
	return reply{response.StatusCode, response.Header, body}, nil
}

// two is an HTTP/2 connection in clear text, made anew when it is no more.
type two struct {
	address string
	conn    net.Conn
	framer  *http2.Framer
	text    bytes.Buffer
	encoder *hpack.Encoder
	next    uint32
}

func (c *two) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *two) dial() (err error) {
	if c.conn, err = net.Dial("tcp", c.address); err != nil {
		return err
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	c.next = 1
	c.text.Reset()
	c.encoder = hpack.NewEncoder(&c.text)
	c.framer = http2.NewFramer(c.conn, bufio.NewReader(c.conn))
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err = c.conn.Write([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	if err = c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}); err != nil {
		return err
	}
	return c.framer.WriteWindowUpdate(0, 1<<30)
}

func (c *two) send(r request) reply {
	for range 2 {
		fresh := c.conn == nil
		if fresh {
			if err := c.dial(); err != nil {
				c.close()
				return reply{}
			}
		}
		answer, err := c.try(r)
		if err == nil {
			return answer
		}
		c.close()
		if fresh {
			break
		}
	}
	return reply{}
}

func (c *two) try(r request) (reply, error) {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	id := c.next
	c.next += 2
	fields := [][2]string{{":method", r.method}, {":scheme", "http"}, {":authority", r.host}, {":path", r.target}}
	if r.body != "" || len(r.trailers) == 0 {
		fields = append(fields, [2]string{"content-length", fmt.Sprint(len(r.body))})
	}
	if r.method == "GET" && r.body == "" {
		fields = fields[:4]
	}
	for _, line := range r.lines {
		fields = append(fields, field(line))
	}
	last := r.body == "" && len(r.trailers) == 0
	if err := c.headers(id, fields, last); err != nil {
		return reply{}, err
	}
	if !last {
		if err := c.framer.WriteData(id, len(r.trailers) == 0, []byte(r.body)); err != nil {
			return reply{}, err
		}
	}
	if len(r.trailers) > 0 {
		fields = nil
		for _, line := range r.trailers {
			fields = append(fields, field(line))
		}
		if err := c.headers(id, fields, true); err != nil {
			return reply{}, err
		}
	}
	return c.read(id)
}

// field is a header line as HTTP/2 has it.
func field(line string) [2]string {
	at := strings.Index(line[1:], ":") + 1 // behind the colon of a pseudo-header
	return [2]string{strings.ToLower(line[:at]), strings.TrimPrefix(line[at+1:], " ")}
}

func (c *two) headers(id uint32, fields [][2]string, last bool) error {
	c.text.Reset()
	for _, f := range fields {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
	}
	return c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.text.Bytes(), EndStream: last, EndHeaders: true})
}

// read reads until the stream has ended.
func (c *two) read(id uint32) (answer reply, err error) {
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return reply{}, err
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = c.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = c.framer.WritePing(true, f.Data)
			}
		case *http2.GoAwayFrame:
			// A connection that ends in an error lingers for a second.
			if f.LastStreamID < id || f.ErrCode != http2.ErrCodeNo {
				c.close()
				return reply{}, nil
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return reply{status: answer.status, header: answer.header}, nil
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == id && answer.header == nil {
				answer = head(f)
			}
		case *http2.DataFrame:
			if f.StreamID == id {
				answer.body = append(answer.body, f.Data()...)
			}
		}
		if err != nil {
			return reply{}, err
		}
		if h := frame.Header(); h.StreamID == id && (h.Type == http2.FrameHeaders || h.Type == http2.FrameData) && h.Flags.Has(http2.FlagDataEndStream) {
			return answer, nil
		}
	}
}

func head(f *http2.MetaHeadersFrame) reply {
	answer := reply{header: make(http.Header)}
	_, _ = fmt.Sscan(f.PseudoValue("status"), &answer.status)
	for _, field := range f.RegularFields() {
		answer.header.Add(field.Name, field.Value)
	}
	return answer
}
