// Package redact takes session IDs out of text that goes to a log or to a client:
// people put session IDs into URLs and request IDs, and an error may repeat its input.
package redact

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/coatcheck/coatcheck/sessions"
)

const (
	maxText = 256  // bounds what ClientText returns, in bytes
	maxRead = 2048 // bounds how much it looks at
)

// idLength is the length of a session ID.
const idLength = 43

// ClientText takes session IDs out of a client's text and cuts it at 256 bytes.
// Control characters are left to the log handler, which escapes them, but for those
// that JSON may hold as they stand and that a terminal obeys: they are replaced.
//
// A word that is cut could be most of a session ID, and too short to be seen as one.
// So the first cut, which bounds the work, drops the word that it goes through, and
// the second comes when no word is long enough.
func ClientText(s string) string {
	if len(s) > maxRead {
		s = s[:maxRead]
		s = s[:strings.LastIndexFunc(s, outsideWord)+1]
	}
	s = IDs(strings.Map(harmless, strings.ToValidUTF8(s, "\uFFFD")))
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "") // without the half of a character
}

// harmless replaces the control characters C1, which terminals obey.
func harmless(r rune) rune {
	if r >= 0x7f && r < 0xa0 {
		return '\uFFFD'
	}
	return r
}

// IDs replaces every word that is long enough to hold a session ID.
func IDs(s string) string {
	var b strings.Builder
	copied, start := 0, 0 // of s: the bytes that b stands for, and the beginning of the word
	for i := range len(s) + 1 {
		if i < len(s) && !outsideWord(rune(s[i])) {
			continue
		}
		if i-start >= idLength {
			b.WriteString(s[copied:start])
			b.WriteString(sessions.ID{}.String())
			copied = i
		}
		start = i + 1
	}
	if copied == 0 {
		return s
	}
	b.WriteString(s[copied:])
	return b.String()
}

// outsideWord reports whether r is not a character of a session ID.
func outsideWord(r rune) bool {
	switch {
	case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-', r == '_':
		return false
	}
	return true
}

// Panic describes a panic by its type and the stack, without its value, which can
// hold a session ID. A runtime error is described by its text, too.
func Panic(value any) error {
	what := fmt.Sprintf("panic of type %T", value)
	if err, ok := value.(runtime.Error); ok {
		what = err.Error()
	}
	return fmt.Errorf("%s\n%s", what, debug.Stack())
}
