package sessions

import (
	"errors"
	"strings"
)

// ReadBearer looks for session IDs in Authorization header lines (RFC 6750,
// section 2.1: "Bearer" in any case, blanks, the ID), several of which may have
// been joined by commas. It returns the last one and how many there are: with
// more than one, of the same value or not, nobody is authenticated. Credentials
// of another form are somebody else's and do not count. It allocates nothing.
func ReadBearer(lines []string) (id ID, n int) {
	for _, line := range lines {
		for credentials := range strings.SplitSeq(line, ",") {
			scheme, value, _ := strings.Cut(trimBlanks(credentials), " ")
			if !strings.EqualFold(scheme, "bearer") {
				continue
			}
			if found, err := ParseID(trimBlanks(value)); err == nil {
				id = found
				n++
			}
		}
	}
	return id, n
}

// HoldsBearer reports whether Authorization header lines hold what somebody could
// take for a session ID, however it is dressed: it is not to be sent on. Credentials
// with dots are tokens of another kind, whose parts may look like IDs.
func HoldsBearer(lines []string) bool {
	outside := func(r rune) bool { return r > 0x7f || sextet(byte(r)) < 0 }
	for _, line := range lines {
		for credentials := range strings.SplitSeq(line, ",") {
			if strings.Contains(credentials, ".") {
				continue
			}
			for word := range strings.FieldsFuncSeq(credentials, outside) {
				if _, err := ParseID(word); err == nil {
					return true
				}
			}
		}
	}
	return false
}

// ReadWithBearer is [Cookie.Read] where an ID may also come as a bearer
// credential, in authorization, the Authorization header lines: in one of the two
// and once, or it is [ErrAmbiguousCookie].
func (c Cookie) ReadWithBearer(h CookieHeader, authorization []string) (ID, error) {
	id, err := c.Read(h)
	bearer, n := ReadBearer(authorization)
	switch {
	case n == 0:
		return id, err
	case n == 1 && errors.Is(err, ErrNoCookie):
		return bearer, nil
	}
	return ID{}, ErrAmbiguousCookie
}
