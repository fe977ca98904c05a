package canonical

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Path returns the path of a request target, percent-decoded, if there
// is only one way to read it. Rules and conditions must not see another path
// than the upstream does, and upstreams differ: some decode before they resolve dots,
// some read "\" as "/", cut parameters at ";", merge slashes or decode twice
// (CVE-2021-31920, CVE-2026-33494, CVE-2026-42274). So Path resolves nothing: it
// refuses a path that a program could resolve.
//
// The path ends at the first "?". It begins with "/"; no segment is "." or "..",
// and none is empty but the last. Letters, digits and -._~ stand as they are, and
// so may !$&'()*+,=:@ (RFC 3986, section 3.3); these, a blank and "<>[]^`{|} may
// be percent-encoded, and every byte above 0x7f must be, to UTF-8 in all. Hex
// digits are upper-case, as section 6.2.2.1 has it. There is no "#" in the whole
// target (CVE-2026-41059), and in the path, as it stands or encoded, no / . of
// another spelling, \ % ? # ; and no control character.
//
// It allocates only to decode.
func Path(target string) (path string, ok bool) {
	path, _, _ = strings.Cut(target, "?")
	if !strings.HasPrefix(path, "/") || strings.Contains(target, "#") {
		return "", false
	}
	encoded := 0
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '%':
			b, ok := unhex(path[i+1:])
			if !ok || !mayEncode(b) {
				return "", false
			}
			encoded++
			i += 2
		case c != '/' && !unreserved(c) && !inSegment(c):
			return "", false
		}
	}
	if !segmentsStay(path) {
		return "", false
	}
	if encoded == 0 {
		return path, true
	}
	path = decode(path, encoded)
	return path, utf8.ValidString(path)
}

// segmentsStay reports whether no segment of path is "." or "..", and none
// empty but the last.
func segmentsStay(path string) bool {
	for rest, more := path[1:], true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if segment == "" && more || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// unreserved characters mean the same in every place (RFC 3986, section 2.3).
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// inSegment characters have no meaning inside a segment, but for ";", which
// some upstreams cut at.
func inSegment(c byte) bool { return strings.IndexByte("!$&'()*+,=:@", c) >= 0 }

// mayEncode reports whether b means the same, percent-encoded, to all programs.
func mayEncode(b byte) bool {
	return b >= utf8.RuneSelf || inSegment(b) || strings.IndexByte(" \"<>[]^`{|}", b) >= 0
}

// unhex reads the two upper-case digits that s begins with.
func unhex(s string) (b byte, ok bool) {
	b, ok = unhexAnyCase(s)
	return b, ok && s[0] < 'a' && s[1] < 'a'
}

// unhexAnyCase reads the two digits that s begins with.
func unhexAnyCase(s string) (b byte, ok bool) {
	if len(s) < 2 {
		return 0, false
	}
	high, low := hexDigit(s[0]), hexDigit(s[1])
	return byte(high<<4 | low), high >= 0 && low >= 0
}

const hexDigits = "0123456789ABCDEF"

// hexDigit is the value of a digit, -1 if c is not a digit.
func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c - 'A' + 10)
	case 'a' <= c && c <= 'f':
		return int(c - 'a' + 10)
	}
	return -1
}

// decode replaces the n percent-encoded bytes of a path that has been checked.
func decode(path string, n int) string {
	b := make([]byte, 0, len(path)-2*n)
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c == '%' {
			c, _ = unhexAnyCase(path[i+1:])
			i += 2
		}
		b = append(b, c)
	}
	return string(b)
}

// Literal decodes the path of a rule, which need not be encoded, if a
// request can have it.
func Literal(text string) (string, error) {
	encoded := make([]byte, 0, len(text))
	for i := range len(text) {
		if c := text[i]; c != '%' && !unreserved(c) && !inSegment(c) && mayEncode(c) {
			encoded = append(encoded, '%', hexDigits[c>>4], hexDigits[c&15])
		} else {
			encoded = append(encoded, c)
		}
	}
	path, ok := Path(string(encoded))
	if !ok || strings.Contains(text, "?") {
		return "", errors.New("no request can have it: a path begins with /, has no query, no fragment, no empty segment, no . or .. and no other encoding than it needs")
	}
	return path, nil
}
