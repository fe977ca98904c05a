package sessions

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// DefaultCookieName is the cookie's name unless configured otherwise. With the
// __Host- prefix a browser accepts the cookie only with Secure, with Path=/ and
// without Domain, so that no sibling domain can plant one (RFC 6265bis,
// section 4.1.3.2).
const DefaultCookieName = "__Host-session"

// The ways in which a request shows no usable session cookie; [ErrMalformed]
// is the third.
var (
	ErrNoCookie        = errors.New("no session cookie")
	ErrAmbiguousCookie = errors.New("more than one session cookie")
)

// A Cookie is what the login and the authorization side agree on about the
// session cookie. Its methods read Cookie headers; they are safe for
// concurrent use.
type Cookie struct {
	// Name is the cookie's name; empty means [DefaultCookieName]. Names are
	// compared byte for byte, as browsers do.
	Name string
}

// A CookieHeader is what a request carries in its Cookie header lines.
type CookieHeader struct {
	// Lines holds the value of each line.
	Lines []string
	// Joined says that several lines may have been put into one with commas,
	// which Envoy does where encode_raw_headers is off. A pair of our name that
	// stands directly behind a comma is then a cookie, too.
	Joined bool
}

// Validate reports whether the name can be a cookie's (an RFC 9110 token).
func (c Cookie) Validate() error {
	for _, r := range []byte(c.name()) {
		if r <= ' ' || r >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, r) >= 0 {
			return fmt.Errorf("cookie name %q: %q cannot be in it", c.Name, r)
		}
	}
	return nil
}

func (c Cookie) name() string {
	if c.Name == "" {
		return DefaultCookieName
	}
	return c.Name
}

// Read returns the session ID of the one session cookie in h. It returns
// [ErrNoCookie], [ErrMalformed], or [ErrAmbiguousCookie] where the cookie
// stands more than once, with the same value or not: which of two an upstream
// would take is anybody's guess. Foreign cookies may hold anything. The value is
// taken as it stands: no quotes, no padding, no percent-decoding. Read
// allocates nothing.
func (c Cookie) Read(h CookieHeader) (ID, error) {
	name := c.name()
	last, count := "", 0
	for _, line := range h.Lines {
		for more := true; more; {
			var pair string
			pair, line, more = strings.Cut(line, ";")
			for place := trimBlanks(pair); place != ""; place = afterComma(place, h.Joined) {
				if value, ok := valueAt(place, name, h.Joined); ok {
					last = value
					count++
				}
			}
		}
	}
	switch count {
	case 0:
		return ID{}, ErrNoCookie
	case 1:
		return ParseID(last)
	}
	return ID{}, ErrAmbiguousCookie
}

// Cut returns the cookies of h without ours, as one header value, and whether
// ours was there at all; where it was not, the header is best left as it is.
// Every other pair stays as it was, in its order, but for two kinds that could
// not be sent on: pairs that are not UTF-8 (an ext_authz answer is a protobuf
// string) and pairs with control bytes.
func (c Cookie) Cut(h CookieHeader) (rest string, found bool) {
	name := c.name()
	var kept strings.Builder
	for _, line := range h.Lines {
		for more := true; more; {
			var pair string
			pair, line, more = strings.Cut(line, ";")
			pair, ours := without(trimBlanks(pair), name, h.Joined)
			found = found || ours
			if pair == "" || !forwardable(pair) {
				continue
			}
			if kept.Len() > 0 {
				kept.WriteString("; ")
			}
			kept.WriteString(pair)
		}
	}
	return kept.String(), found
}

// without cuts our cookie out of one pair, which joined lines may have made of
// several.
func without(pair, name string, joined bool) (rest string, found bool) {
	if !joined {
		if _, ours := valueAt(pair, name, joined); ours {
			return "", true
		}
		return pair, false
	}
	var kept []string
	for place := range strings.SplitSeq(pair, ",") {
		if len(kept) == 0 {
			// It begins the pair once those before it are gone.
			place = strings.TrimLeft(place, " \t")
		}
		if _, ours := valueAt(place, name, joined); ours {
			found = true
		} else {
			kept = append(kept, place)
		}
	}
	if !found {
		return pair, false
	}
	return trimBlanks(strings.Join(kept, ",")), true
}

// valueAt reports whether our cookie stands at the beginning of s, and its
// value. A bare name counts, and so do blanks before the equals sign: some
// parsers see our cookie in both.
func valueAt(s, name string, joined bool) (value string, ok bool) {
	after, ok := strings.CutPrefix(s, name)
	if !ok {
		return "", false
	}
	after = strings.TrimLeft(after, " \t")
	if after == "" || joined && after[0] == ',' {
		return "", true
	}
	return strings.CutPrefix(after, "=")
}

// afterComma is the next place in s at which a joined line can begin.
func afterComma(s string, joined bool) string {
	if !joined {
		return ""
	}
	_, rest, _ := strings.Cut(s, ",")
	return rest
}

// forwardable reports whether Envoy can be asked to send s upstream.
func forwardable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

func trimBlanks(s string) string { return strings.Trim(s, " \t") }
