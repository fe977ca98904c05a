package sessions

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// blanks may stand around credentials (OWS of RFC 9110).
const blanks = " \t"

// ReadBearer looks for session IDs in Authorization header lines (RFC 6750,
// section 2.1: "Bearer" in any case, blanks, the ID), several of which may have
// been joined by commas. It returns the last one and how many there are: more than
// one, of the same value or not, do not authenticate. Credentials of another form are
// for other programs and do not count. It allocates nothing.
func ReadBearer(lines []string) (id ID, n int) {
	for _, line := range lines {
		for credentials := range strings.SplitSeq(line, ",") {
			if found, ok := bearerID(credentials); ok {
				id = found
				n++
			}
		}
	}
	return id, n
}

// bearerID is the ID in one credential, if that is one of ours.
func bearerID(credentials string) (ID, bool) {
	scheme, value, _ := strings.Cut(strings.Trim(credentials, blanks), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ID{}, false
	}
	id, err := ParseID(strings.Trim(value, blanks))
	return id, err == nil
}

// HoldsBearer reports whether Authorization header lines hold text that a reader could
// take for a session ID, in any form: it must not be sent on. Credentials
// with dots are tokens of another kind, whose parts may look like IDs, and so may a
// user name and a password of 32 bytes together.
func HoldsBearer(lines []string) bool {
	outside := func(r rune) bool { return r > 0x7f || sextet(byte(r)) < 0 }
	for _, line := range lines {
		for credentials := range strings.SplitSeq(line, ",") {
			if strings.Contains(credentials, ".") || namesUser(credentials) {
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

// namesUser reports whether credentials are a user name and a password (RFC 7617,
// section 2). The random bytes of an ID are never such a text.
func namesUser(credentials string) bool {
	scheme, value, _ := strings.Cut(strings.Trim(credentials, blanks), " ")
	if !strings.EqualFold(scheme, "basic") {
		return false
	}
	text, err := base64.StdEncoding.DecodeString(strings.Trim(value, blanks))
	return err == nil && utf8.Valid(text) && bytes.IndexByte(text, ':') >= 0 && !bytes.ContainsFunc(text, unicode.IsControl)
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

// MaxPresented is how many sessions one request can present to [Cookie.AllPresented].
const MaxPresented = 8

// AllPresented returns every session ID that a request presents, each once: in a cookie
// of our name or as a bearer credential, whether [Cookie.ReadWithBearer] would
// take it or not. Signing out has to end all of them, because each admits a request
// that presents it alone. There are at most [MaxPresented]; more reports whether some are
// missing.
//
// An ID behind a comma is there, too, as far as there is room: a proxy may have
// joined two lines. Where it is a sibling domain's in truth, ending it harms
// the planter alone; more says nothing of these, so that planting them cannot
// keep people from signing out.
func (c Cookie) AllPresented(h CookieHeader, authorization []string) (ids []ID, more bool) {
	cookies, behindCommas := c.everyID(h)
	for _, id := range slices.Concat(cookies, bearerIDs(authorization)) {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) > MaxPresented {
		return ids[:MaxPresented], true
	}
	for _, id := range behindCommas {
		if len(ids) < MaxPresented && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, false
}

// everyID returns the well-formed IDs in cookies of our name, those that begin a
// pair apart from those behind a comma. A value ends at a comma, and blanks and
// quotes around it are left out: what ends sessions may read more than what
// admits them.
func (c Cookie) everyID(h CookieHeader) (cookies, behindCommas []ID) {
	for pair := range h.pairs() {
		first := true
		for place := range strings.SplitSeq(pair, ",") {
			value, ours := valueAt(skipBlanks(place), c.name())
			id, err := ParseID(strings.Trim(value, blanks+`"`))
			switch {
			case !ours || err != nil:
			case first:
				cookies = append(cookies, id)
			default:
				behindCommas = append(behindCommas, id)
			}
			first = false
		}
	}
	return cookies, behindCommas
}

func bearerIDs(lines []string) (ids []ID) {
	for _, line := range lines {
		for credentials := range strings.SplitSeq(line, ",") {
			if id, ok := bearerID(credentials); ok {
				ids = append(ids, id)
			}
		}
	}
	return ids
}
