package redisstore

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
)

// A reply is a value of RESP3, the protocol of Redis: https://redis.io/docs/latest/develop/reference/protocol-spec
type reply struct {
	kind byte // the first byte: + - : $ * % ~ > and so on
	text string
	null bool
	list []reply
}

// is reports whether the reply is an error with this code.
func (r reply) is(code string) bool {
	first, _, _ := strings.Cut(r.text, " ")
	return r.kind == '-' && first == code
}

// first is the kind of a message.
func (r reply) first() string {
	if len(r.list) == 0 {
		return ""
	}
	return r.list[0].text
}

// What no reply to a question of ours exceeds.
const (
	maxReplyText  = 32 << 20
	maxReplyList  = 1 << 20
	maxReplyDepth = 8
	maxReplyLine  = 64 << 10
)

var errNoReply = errors.New("redis: what the server sends is no RESP3; is this a Redis?")

// frames reads replies one after another.
type frames struct{ *bufio.Reader }

// next leaves out attributes, which say something about the reply behind them.
func (f frames) next() (reply, error) {
	for {
		if r, err := f.read(0); err != nil || r.kind != '|' {
			return r, err
		}
	}
}

func (f frames) read(depth int) (reply, error) {
	line, err := f.line()
	if err != nil {
		return reply{}, err
	}
	r := reply{kind: line[0], text: line[1:]}
	switch r.kind {
	case '+', '-', ':', ',', '#', '(':
		return r, nil
	case '_':
		r.null = true
		return r, nil
	case '$', '=', '!':
		return f.bulk(r)
	case '*', '~', '>':
		return f.aggregate(r, 1, depth)
	case '%', '|':
		return f.aggregate(r, 2, depth)
	}
	return reply{}, errNoReply
}

// line reads to the end of a line, which it leaves out. It has a byte at least.
func (f frames) line() (string, error) {
	var whole strings.Builder
	for {
		part, err := f.ReadSlice('\n')
		whole.Write(part)
		if whole.Len() > maxReplyLine {
			return "", errNoReply
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return "", err
		}
		line, ok := strings.CutSuffix(whole.String(), "\r\n")
		if !ok || line == "" {
			return "", errNoReply
		}
		return line, nil
	}
}

func (f frames) bulk(r reply) (reply, error) {
	n, err := strconv.Atoi(r.text)
	if n == -1 && err == nil {
		r.text, r.null = "", true
		return r, nil
	}
	if err != nil || n < 0 || n > maxReplyText {
		return reply{}, errNoReply
	}
	var b strings.Builder
	if _, err := io.CopyN(&b, f, int64(n)+2); err != nil {
		return reply{}, err
	}
	var ok bool
	if r.text, ok = strings.CutSuffix(b.String(), "\r\n"); !ok {
		return reply{}, errNoReply // out of step
	}
	switch r.kind {
	case '=': // txt:
		_, r.text, _ = strings.Cut(r.text, ":")
	case '!':
		r.kind = '-'
	}
	return r, nil
}

func (f frames) aggregate(r reply, times, depth int) (reply, error) {
	n, err := strconv.Atoi(r.text)
	if n == -1 && err == nil {
		r.text, r.null = "", true
		return r, nil
	}
	if err != nil || n < 0 || n > maxReplyList || depth >= maxReplyDepth {
		return reply{}, errNoReply
	}
	r.text = ""
	for range n * times {
		value, err := f.read(depth + 1)
		if err != nil {
			return reply{}, err
		}
		r.list = append(r.list, value)
	}
	return r, nil
}
