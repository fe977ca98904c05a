package redisstore

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// What answers at the address of Redis may be another server, or one that is out of step
// or faulty. go-redis believes it too much: it makes room for every length that it reads,
// at once, so that ten bytes take all memory; and it panics where a reply is of another
// kind than the command's, such as the number -1 in place of a list. sound is a hook that
// makes both an error of the call. It is inside of those that go by the end of a call, and
// outside of those that must see a connection as it was dialled.
type sound struct{}

// DialHook follows what each connection brings.
func (sound) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return conn, err
		}
		return newSoundConn(conn), nil
	}
}

// ProcessHook returns a panic as an error. go-redis has closed the connection.
func (sound) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) (err error) {
		defer func() { caught(recover(), &err, cmd) }()
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook is as ProcessHook.
func (sound) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) (err error) {
		defer func() { caught(recover(), &err, cmds...) }()
		return next(ctx, cmds)
	}
}

// caught makes a panic the error of the commands. Its value may hold what was sent, but for
// an error of the runtime.
func caught(value any, err *error, cmds ...redis.Cmder) {
	if value == nil {
		return
	}
	*err = fmt.Errorf("%w: panic of type %T", errNoReply, value)
	if value, ok := value.(runtime.Error); ok {
		*err = fmt.Errorf("%w: %w", errNoReply, value)
	}
	for _, cmd := range cmds {
		cmd.SetErr(*err)
	}
}

// A soundConn reads what is RESP3, up to what is not.
type soundConn struct {
	net.Conn
	syntax syntax
}

// A soundSocket is one that go-redis can look after.
type soundSocket struct {
	*soundConn
	syscall.Conn
}

func newSoundConn(conn net.Conn) net.Conn {
	c := &soundConn{Conn: conn}
	if raw, ok := conn.(syscall.Conn); ok {
		return soundSocket{c, raw}
	}
	return c
}

func (c *soundConn) Read(b []byte) (int, error) {
	if c.syntax.broken { // go-redis may not have heeded the error
		return 0, errNoReply
	}
	n, err := c.Conn.Read(b)
	if !c.syntax.follow(b[:n]) {
		return 0, errNoReply
	}
	return n, err
}

// A syntax follows replies as they come, in any pieces, and holds none of them. Its bounds
// are those of frames.
type syntax struct {
	head   [24]byte // of the line: its kind, and a length
	length int      // of the line, so far
	last   byte     // before what comes
	text   int      // what is to come of a text, with the end of its line
	open   []int    // how many values are to come of each list that is open
	broken bool
}

// follow reports whether all that came may be replies. After it was false, it stays so.
func (s *syntax) follow(b []byte) bool {
	for len(b) > 0 && !s.broken {
		var part []byte
		if s.text > 0 {
			part, b = b[:min(s.text, len(b))], b[min(s.text, len(b)):]
			s.follows(part)
		} else {
			end := bytes.IndexByte(b, '\n') + 1
			if end == 0 {
				end = len(b)
			}
			part, b = b[:end], b[end:]
			s.line(part)
		}
		s.last = part[len(part)-1]
	}
	return !s.broken
}

// follows takes a part of a text.
func (s *syntax) follows(part []byte) {
	end := s.text - len("\r\n")
	for i := max(0, end); i < len(part); i++ {
		if part[i] != "\r\n"[i-end] {
			s.broken = true // out of step
		}
	}
	if s.text -= len(part); s.text == 0 {
		s.ended()
	}
}

// line takes a part of a line, with its end or to the end of what has come.
func (s *syntax) line(part []byte) {
	if s.length < len(s.head) {
		copy(s.head[s.length:], part)
	}
	before := s.last
	if len(part) > 1 {
		before = part[len(part)-2]
	}
	s.length += len(part)
	switch {
	case s.length > maxReplyLine:
		s.broken = true
	case part[len(part)-1] != '\n':
	case s.length < len("_\r\n") || before != '\r':
		s.broken = true
	default:
		length := min(s.length-len("\r\n"), len(s.head))
		s.length = 0
		s.begins(s.head[:length])
	}
}

// begins takes the line that a value begins with, or the beginning of a long one, which
// has no length that is a number.
func (s *syntax) begins(line []byte) {
	kind, times, most := line[0], 1, maxReplyList
	switch kind {
	case '+', '-', ':', ',', '#', '(', '_':
		s.ended()
		return
	case '$', '=', '!':
		most = maxReplyText
	case '*', '~', '>':
	case '%', '|':
		times = 2
	default:
		s.broken = true
		return
	}
	n, err := strconv.Atoi(string(line[1:]))
	if len(line) == len(s.head) {
		err = strconv.ErrRange
	}
	switch list := most == maxReplyList; {
	case err != nil || n < -1 || n > most || n >= 0 && list && len(s.open) == maxReplyDepth:
		s.broken = true
	case n < 0 || n == 0 && list:
		s.ended()
	case list:
		s.open = append(s.open, n*times)
	default:
		s.text = n + len("\r\n")
	}
}

// ended counts a value, and the lists that end with it.
func (s *syntax) ended() {
	for len(s.open) > 0 {
		last := len(s.open) - 1
		if s.open[last]--; s.open[last] > 0 {
			return
		}
		s.open = s.open[:last]
	}
}
