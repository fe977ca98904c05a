package sessions

import "strings"

// Value returns the value of the one cookie of our name in h, for a [Format]: as a
// framework's parser reads it, with blanks around the name and the value, which are left
// out. It returns [ErrNoCookie], or [ErrAmbiguousCookie] where such a cookie stands more
// than once, and in joined lines where one stands behind a comma, as [Cookie.Read] has it.
//
// Parsers differ in what is a blank: package cookie of Node.js left out, before its version
// 0.7, all that JavaScript calls white space. What only some of them take for our cookie is
// ambiguous, because which one the application has is unknown. In joined lines Envoy has
// written "!" for each byte that was no UTF-8, and with it for such a blank: there a name
// with it at an end is ambiguous, too.
func (c Cookie) Value(h CookieHeader) (string, error) {
	name, at := c.name(), loosely(h)
	last, count := "", 0
	for pair := range h.pairs() {
		if h.Joined && placeBehindComma(pair, name, at) {
			return "", ErrAmbiguousCookie
		}
		value, ours := at(pair, name)
		if !ours {
			continue
		}
		if before, _, _ := strings.Cut(pair, "="); strings.Trim(before, blanks) != name {
			return "", ErrAmbiguousCookie
		}
		last = value
		count++
	}
	switch count {
	case 0:
		return "", ErrNoCookie
	case 1:
		return strings.Trim(last, blanks), nil
	}
	return "", ErrAmbiguousCookie
}

// CutValue is [Cookie.Cut] of all that [Cookie.Value] takes for our cookie.
func (c Cookie) CutValue(h CookieHeader) (rest string, found bool) {
	return c.cut(h, loosely(h))
}

// loosely finds our cookie in h by what any parser takes for it.
func loosely(h CookieHeader) cookieAt {
	if h.Joined {
		return sanitizedValueAt
	}
	return looseValueAt
}

// sanitizedValueAt is looseValueAt where "!" may stand for a byte that was no UTF-8.
func sanitizedValueAt(s, name string) (value string, ours bool) {
	if value, ours = looseValueAt(s, name); ours {
		return value, true
	}
	before, value, ok := strings.Cut(s, "=")
	for inner := ""; inner != before; {
		inner, before = before, strings.Trim(trimBlanks(before), "!")
	}
	return value, ok && before == name
}

// looseValueAt is valueAt with what any parser takes for blanks around the name.
func looseValueAt(s, name string) (value string, ours bool) {
	before, value, ok := strings.Cut(s, "=")
	return value, ok && trimBlanks(before) == name
}

// trimBlanks takes away white space at both ends: of headers as Latin-1, so that it is
// bytes. A package that reads UTF-8 would take any other byte for 0xA0.
func trimBlanks(s string) string {
	for s != "" && isBlank(s[0]) {
		s = s[1:]
	}
	for s != "" && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isBlank(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' || c == 0xa0 }

// placeBehindComma reports whether our cookie stands behind a comma of the pair.
func placeBehindComma(pair, name string, at cookieAt) bool {
	for _, place, more := strings.Cut(pair, ","); more; _, place, more = strings.Cut(place, ",") {
		if _, ours := at(place, name); ours {
			return true
		}
	}
	return false
}
