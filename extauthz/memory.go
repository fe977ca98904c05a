package extauthz

import (
	"bytes"
	"cmp"
	"strings"
	"sync"

	"github.com/coatcheck/coatcheck/extauthz/internal/answer"
	"github.com/coatcheck/coatcheck/sessions"
)

// A memory is what one check works in, which another one uses afterwards. Texts are the
// exception: they may live on in a log, a condition or a cache, so no byte of one is
// ever written again.
type memory struct {
	texts  texts
	answer answer.Answer
	roles  [8]string // of the route
	bounds bounds
}

// readers are readers with a memory, between two checks.
var readers = sync.Pool{New: func() any {
	m := &memory{texts: texts{again: true}, bounds: bounds{again: true}}
	return &reader{request: request{memory: m}}
}}

// newReader is a reader that may be released after the check.
func newReader(w *wanted) *reader {
	r := readers.Get().(*reader)
	r.wanted = w
	return r
}

// maxLists bounds the lists that are used again, in entries.
const maxLists = 64

// release gives r to a further check. No part of r may be in use, but its texts.
func (r *reader) release() {
	clear(r.extensions)
	clear(r.memory.roles[:])
	*r = reader{request: request{
		memory: r.memory, extensions: r.extensions,
		authorization: emptied(r.authorization), managed: emptied(r.managed),
		cookies: sessions.CookieHeader{Lines: emptied(r.cookies.Lines)},
	}}
	readers.Put(r)
}

func emptied(list []string) []string {
	if cap(list) > maxLists {
		return nil
	}
	clear(list)
	return list[:0]
}

// own is the memory of r. A request that was made by itself has one of its own.
func (r *request) own() *memory {
	if r.memory == nil {
		r.memory = new(memory)
	}
	return r.memory
}

// newAnswer is an empty answer, in the place of the one before.
func (m *memory) newAnswer() *answer.Answer {
	a := &m.answer
	*a = answer.Answer{Set: a.Set[:0], Remove: a.Remove[:0], Metadata: a.Metadata[:0]}
	return a
}

// textBlock is how many bytes of texts are allocated at once, and maxInBlock how long a
// text in it can be: what keeps one text keeps its block.
const (
	textBlock  = 8 << 10
	maxInBlock = 2 << 10
)

// A texts holds texts in blocks, so that a check has no pieces of memory of its own. A
// block is only appended to.
type texts struct {
	again   bool // there will be more of them
	block   strings.Builder
	scratch []byte
}

// keep returns b as a text.
func (t *texts) keep(b []byte) string {
	if !t.again || len(b) > maxInBlock {
		return string(b)
	}
	if t.block.Cap()-t.block.Len() < len(b) {
		t.block.Reset()
		t.block.Grow(textBlock)
	}
	start := t.block.Len()
	t.block.Write(b)
	return t.block.String()[start:]
}

// value makes a header value of any text, as [appendValue] does.
func (t *texts) value(s string) string {
	if plain(s) {
		return s
	}
	t.scratch = appendValue(t.scratch[:0], s)
	return t.keep(t.scratch)
}

// list encodes each name and joins them with commas. It leaves out empty names,
// which a reader of the list could not get back.
func (t *texts) list(names []string) string {
	if len(names) == 1 {
		return t.value(names[0])
	}
	t.scratch = t.scratch[:0]
	for _, name := range names {
		if name == "" {
			continue
		}
		if len(t.scratch) > 0 {
			t.scratch = append(t.scratch, ',')
		}
		t.scratch = appendValue(t.scratch, name)
	}
	return t.keep(t.scratch)
}

// cut is [sessions.Cookie.Cut] in memory of t, for the headers that browsers send: ASCII
// without control bytes, and without commas where lines may have been joined by them.
func (t *texts) cut(cookie sessions.Cookie, h sessions.CookieHeader) (rest string, found bool) {
	for _, line := range h.Lines {
		if !simple(line, h.Joined) {
			return cookie.Cut(h)
		}
	}
	name := cmp.Or(cookie.Name, sessions.DefaultCookieName)
	t.scratch = t.scratch[:0]
	for _, line := range h.Lines {
		for more := true; more; {
			var pair string
			pair, line, more = strings.Cut(line, ";")
			pair = strings.TrimLeft(pair, " \t")
			if after, ours := strings.CutPrefix(pair, name); ours && strings.HasPrefix(after, "=") {
				found = true
			} else if pair != "" {
				if len(t.scratch) > 0 {
					t.scratch = append(t.scratch, "; "...)
				}
				t.scratch = append(t.scratch, pair...)
			}
		}
	}
	if !found {
		return "", false
	}
	return t.part(h.Lines, bytes.TrimRight(t.scratch, " \t")), true
}

// part is [texts.keep], without a copy where a line begins or ends with b: mostly the
// session cookie stood there, and cookies are long.
func (t *texts) part(lines []string, b []byte) string {
	for _, line := range lines {
		if n := len(line) - len(b); n >= 0 && line[n:] == string(b) {
			return line[n:]
		} else if n >= 0 && line[:len(b)] == string(b) {
			return line[:len(b)]
		}
	}
	return t.keep(b)
}

// simple reports whether a line is of ASCII without control bytes but tabs, and without
// commas if it is joined.
func simple(line string, joined bool) bool {
	if joined && strings.IndexByte(line, ',') >= 0 {
		return false
	}
	for ; len(line) >= 8; line = line[8:] {
		if !visible(line[:8]) && !simpleBytes(line[:8]) {
			return false
		}
	}
	return simpleBytes(line)
}

func simpleBytes(line string) bool {
	for i := range len(line) {
		if c := line[i]; c >= 0x7f || c < ' ' && c != '\t' {
			return false
		}
	}
	return true
}

// visible reports whether 8 bytes are from ' ' to '~', by the top bits: it is set in a byte
// from 0x80, in one below ' ' less ' ', and in 0x7f and one.
func visible(b string) bool {
	const each = 0x0101010101010101
	x := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
	return (x|(x-' '*each)|(x+each))&(0x80*each) == 0
}
