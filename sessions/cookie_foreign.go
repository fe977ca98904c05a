package sessions

import "strings"

// blanksOfParsers are what some parser of cookies leaves out around a name: cookie of
// Node.js took away, before its version 0.7, all that JavaScript calls white space, of
// which headers, read as Latin-1, can hold these.
const blanksOfParsers = " \t\v\f\r\n\xa0"

// Value returns the value of the one cookie of our name in h, for a [Format]: as a
// framework's parser reads it, with blanks around the name and the value, which are left
// out. It returns [ErrNoCookie], or [ErrAmbiguousCookie] where such a cookie stands more
// than once, and in joined lines where one stands behind a comma, as [Cookie.Read] has it.
// Where parsers differ in what is a blank, what any of them takes for our cookie counts:
// which one the application has is unknown.
func (c Cookie) Value(h CookieHeader) (string, error) {
	name := c.name()
	last, count := "", 0
	for pair := range h.pairs() {
		value, ours := looseValueAt(pair, name)
		if ours {
			last = value
			count++
		}
		if h.Joined && loosePlace(pair, name) {
			return "", ErrAmbiguousCookie
		}
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
	return c.cut(h, looseValueAt)
}

// looseValueAt is valueAt with blanks around the name.
func looseValueAt(s, name string) (value string, ours bool) {
	before, value, ok := strings.Cut(s, "=")
	return value, ok && strings.Trim(before, blanksOfParsers) == name
}

// loosePlace reports whether our cookie stands behind a comma of the pair.
func loosePlace(pair, name string) bool {
	for _, place, more := strings.Cut(pair, ","); more; _, place, more = strings.Cut(place, ",") {
		if _, ours := looseValueAt(place, name); ours {
			return true
		}
	}
	return false
}
