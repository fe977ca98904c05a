package lane

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
)

// errStep says that the replies are not those to what was sent.
var errStep = errors.New("redis: replies out of step")

// append writes the commands of a call.
func (c *call) append(b []byte) []byte {
	if c.slides {
		b = append(b, "*4\r\n$9\r\nPEXPIREAT\r\n"...)
		b = bulk(b, string(c.key))
		var digits [20]byte
		b = bulk(b, string(strconv.AppendInt(digits[:0], c.until.UnixMilli(), 10)))
		b = append(b, "$2\r\nGT\r\n"...)
	}
	b = head(b, '*', len(c.names)+2)
	b = append(b, "$5\r\nHMGET\r\n"...)
	b = bulk(b, string(c.key))
	for _, name := range c.names {
		b = bulk(b, name)
	}
	b = append(b, "*2\r\n$4\r\nPTTL\r\n"...)
	return bulk(b, string(c.key))
}

func head(b []byte, kind byte, n int) []byte {
	return append(strconv.AppendInt(append(b, kind), int64(n), 10), '\r', '\n')
}

func bulk(b []byte, s string) []byte {
	return append(append(head(b, '$', len(s)), s...), '\r', '\n')
}

// read takes the replies to a call. An error means that nothing can be said of the
// connection any more.
func (l *Lane) read(c *call) error {
	c.verdict, c.moved, c.text, c.spans = fine, false, c.text[:0], c.spans[:0]
	if c.slides {
		n, err := l.number(c)
		if err != nil {
			return err
		}
		c.moved = n == 1
	}
	if err := l.fields(c); err != nil {
		return err
	}
	var err error
	c.ttl, err = l.number(c)
	return err
}

// number takes an integer, or an error.
func (l *Lane) number(c *call) (int64, error) {
	kind, n, line, err := header(l.in)
	switch {
	case err != nil:
		return 0, err
	case kind == '-':
		c.fail(line)
	case kind != ':':
		return 0, errStep
	}
	return n, nil
}

// fields takes the reply to HMGET.
func (l *Lane) fields(c *call) error {
	kind, n, line, err := header(l.in)
	switch {
	case err != nil:
		return err
	case kind == '-' && bytes.HasPrefix(line, []byte("WRONGTYPE ")):
		c.verdict = max(c.verdict, wrongType)
		return nil
	case kind == '-':
		c.fail(line)
		return nil
	case kind != '*' || n != int64(len(c.names)):
		return errStep
	}
	for range c.names {
		if err := l.field(c); err != nil {
			return err
		}
	}
	return nil
}

// field takes one value, or the absence of one.
func (l *Lane) field(c *call) error {
	kind, n, _, err := header(l.in)
	switch {
	case err != nil:
		return err
	case kind == '_', kind == '$' && n == -1:
		c.spans = append(c.spans, span{-1, -1})
		return nil
	case kind != '$' || n < 0 || n > maxBulk:
		return errStep
	}
	if l.kept += int(n); l.kept > maxReplies {
		c.verdict = max(c.verdict, again)
		if _, err := l.in.Discard(int(n)); err != nil {
			return err
		}
		return end(l.in)
	}
	from := len(c.text)
	c.text = append(c.text, make([]byte, n)...)
	if _, err := io.ReadFull(l.in, c.text[from:]); err != nil {
		return err
	}
	c.spans = append(c.spans, span{from, len(c.text)})
	return end(l.in)
}

// maxBulk is the longest value that Redis keeps.
const maxBulk = 512 << 20

// fail takes an error of Redis. A node that does not hold the key says so of this key
// only; any other error may hold for all.
func (c *call) fail(line []byte) {
	code, _, _ := bytes.Cut(line, []byte(" "))
	switch string(code) {
	case "MOVED", "ASK", "TRYAGAIN":
		c.verdict = max(c.verdict, again)
	default:
		c.verdict = refused
	}
}

// header takes the first line of a reply: its kind, and its number or its text. The
// text is valid until the next call.
func header(in *bufio.Reader) (kind byte, n int64, line []byte, err error) {
	line, err = in.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return 0, 0, nil, errStep
	case err != nil:
		return 0, 0, nil, err
	case len(line) < 3 || line[len(line)-2] != '\r':
		return 0, 0, nil, errStep
	}
	kind, line = line[0], line[1:len(line)-2]
	switch kind {
	case '-':
	case '_':
		if len(line) > 0 {
			err = errStep
		}
	case ':', '*', '$':
		n, err = integer(line)
	default:
		err = errStep
	}
	return kind, n, line, err
}

// integer reads decimal digits, with a sign before them if it is negative.
func integer(digits []byte) (n int64, err error) {
	negative := len(digits) > 0 && digits[0] == '-'
	if negative {
		digits = digits[1:]
	}
	if len(digits) == 0 || len(digits) > 19 {
		return 0, errStep
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, errStep
		}
		n = 10*n + int64(d-'0')
	}
	if n < 0 {
		return 0, errStep
	}
	if negative {
		n = -n
	}
	return n, nil
}

// end takes the end of a value.
func end(in *bufio.Reader) error {
	b, err := in.Peek(2)
	switch {
	case err != nil:
		return err
	case b[0] != '\r' || b[1] != '\n':
		return errStep
	}
	_, err = in.Discard(2)
	return err
}
