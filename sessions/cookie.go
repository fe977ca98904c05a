package sessions

import (
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// DefaultCookieName is the cookie's name unless configured otherwise. With the
// __Host- prefix a browser accepts the cookie only with Secure, with Path=/ and
// without Domain, so that no sibling domain can plant one (RFC 6265bis,
// section 4.1.3.2).
const DefaultCookieName = "__Host-session"

// The ways in which a request presents no usable session cookie; [ErrMalformed]
// is the third.
var (
	ErrNoCookie        = errors.New("no session cookie")
	ErrAmbiguousCookie = errors.New("more than one session cookie")
)

// A Cookie is what the login and the authorization side agree on about the
// session cookie. The zero Cookie is ready. Its methods are safe for concurrent
// use.
type Cookie struct {
	// Name is the cookie's name; empty means [DefaultCookieName]. Names are
	// compared byte for byte, as browsers do.
	Name string
	// Domain lets the browser send the cookie to this host and to every host
	// below it, each of which can then plant one as well. Empty: only to the host
	// that has set it. With a Domain the name cannot begin with __Host-.
	Domain string
	// Insecure leaves out the attribute Secure, so that the cookie also travels
	// over plain HTTP, where an attacker on the way can read and replace it. With it
	// the name cannot begin with __Host- or __Secure-. Plain HTTP on localhost does
	// not need it in Chromium and Firefox.
	Insecure bool
}

// A CookieHeader is what a request carries in its Cookie header lines.
type CookieHeader struct {
	// Lines holds the value of each line.
	Lines []string
	// Joined says that several lines may have been put into one with commas,
	// which Envoy does where encode_raw_headers is off. A pair of our name that
	// stands directly behind a comma may then be a cookie, or a part of another
	// one's value.
	Joined bool
}

// pairs are the cookies of all lines, without the blanks before each. Some may
// be empty.
func (h CookieHeader) pairs() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, line := range h.Lines {
			for more := true; more; {
				var pair string
				pair, line, more = strings.Cut(line, ";")
				if !yield(skipBlanks(pair)) {
					return
				}
			}
		}
	}
}

// Validate names what browsers would refuse: a name that is no RFC 9110 token,
// a prefix of the name that promises what the attributes do not keep (RFC
// 6265bis, section 4.1.3; __Http- is Chromium's), a Domain that is no host name.
// That a Domain is a public suffix, such as co.uk, only browsers know.
func (c Cookie) Validate() error {
	return errors.Join(c.validateName(), c.validatePrefix(), c.validateDomain())
}

func (c Cookie) validateName() error {
	for _, r := range []byte(c.name()) {
		if r <= ' ' || r >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, r) >= 0 {
			return fmt.Errorf("cookie name %q: %q cannot be in it", c.Name, r)
		}
	}
	return nil
}

func (c Cookie) validatePrefix() error {
	name := strings.ToLower(c.name()) // browsers compare prefixes so
	if strings.HasPrefix(name, "__host-") && c.Domain != "" {
		return fmt.Errorf("cookie name %q: browsers refuse __Host- with a domain; choose another name", c.name())
	}
	for _, prefix := range []string{"__host-", "__secure-", "__http-"} {
		if strings.HasPrefix(name, prefix) && c.Insecure {
			return fmt.Errorf("cookie name %q: browsers refuse %s without Secure; choose another name", c.name(), c.name()[:len(prefix)])
		}
	}
	return nil
}

// validateDomain takes a host name of two labels or more: browsers refuse
// addresses and single labels here.
func (c Cookie) validateDomain() error {
	if c.Domain == "" {
		return nil
	}
	bad := fmt.Errorf("cookie domain %q: it is a host name such as example.com", c.Domain)
	if _, err := netip.ParseAddr(c.Domain); err == nil || len(c.Domain) > 253 || !strings.Contains(c.Domain, ".") {
		return bad
	}
	for label := range strings.SplitSeq(c.Domain, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, notInHost) {
			return bad
		}
	}
	return nil
}

func notInHost(r rune) bool {
	return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

// New is the cookie that hands id to a browser. It is out of reach of scripts,
// is not sent along with posts from other sites, and has no end of its own: the
// browser drops it when it closes, and the server decides how long the session
// lives (NIST SP 800-63B-4, section 5.1.1).
func (c Cookie) New(id ID) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure, unless the operator asked for plain HTTP
		Name: c.name(), Value: id.Reveal(), Path: "/", Domain: c.Domain,
		Secure: !c.Insecure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// Clear is the cookie that makes a browser drop the one of [Cookie.New].
func (c Cookie) Clear() *http.Cookie {
	gone := c.New(ID{}) //nolint:gosec // as above
	gone.MaxAge, gone.Expires = -1, time.Unix(1, 0)
	return gone
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
// would take is unknown.
//
// In joined lines a cookie directly behind a comma is ambiguous, also when it is
// the only one: a sibling domain can give another cookie the value
// "1,__Host-session=...", which no prefix of a name keeps out, and so sign people
// in as it likes. A blank behind the comma makes it that cookie's value for
// certain, since Envoy puts no blank there.
//
// The name is compared byte for byte and followed by "=" at once; a bare name, or
// one with a blank behind it, is another cookie. The value is taken as it stands
// up to the next semicolon: no quotes, no blanks, no padding, no
// percent-decoding. Foreign cookies may hold anything. Read allocates nothing.
func (c Cookie) Read(h CookieHeader) (ID, error) {
	name := c.name()
	last, count := "", 0
	for pair := range h.pairs() {
		if value, ours := valueAt(pair, name); ours {
			last = value
			count++
		}
		if h.Joined && standsBehindComma(pair, name) {
			return ID{}, ErrAmbiguousCookie
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

// FromRequest is [Cookie.Read] for a request to a Go server, which keeps apart the
// cookie lines that arrive apart. [Absent] is true for each of its errors. If a proxy
// in front joins lines by commas, use Read with [CookieHeader.Joined].
func (c Cookie) FromRequest(r *http.Request) (ID, error) {
	return c.Read(CookieHeader{Lines: r.Header.Values("Cookie")})
}

// What bounds [Cookie.Lookalikes]: names, and bytes of each.
const (
	maxLookalikes    = 8
	maxLookalikeName = 256
)

// Lookalikes returns the names of other cookies in h whose value has the form of a
// session ID, at most eight: of such a name the session cookie may be where login is
// configured for another one than c. Clients can send any names; those that no login
// could set are left out. Where it finds none, Lookalikes allocates nothing.
func (c Cookie) Lookalikes(h CookieHeader) (names []string) {
	return c.LookalikesOf(h, isHash)
}

// LookalikesOf is [Cookie.Lookalikes] for values of another form, of a [Format].
func (c Cookie) LookalikesOf(h CookieHeader, form func(value string) bool) (names []string) {
	for pair := range h.pairs() {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || !form(value) || name == "" || len(name) > maxLookalikeName || name == c.name() || (Cookie{Name: name}).validateName() != nil {
			continue
		}
		if names = append(names, name); len(names) == maxLookalikes {
			break
		}
	}
	return names
}

// Cut returns the cookies of h without ours, as one header value, and whether
// ours was there at all; where it was not, the header is best left as it is.
// Every other pair stays as it was, in its order, but for two kinds that could
// not be sent on: pairs that are not UTF-8 (an ext_authz answer is a protobuf
// string) and pairs with control bytes. In joined lines ours goes from behind a
// comma, too, up to the next one.
func (c Cookie) Cut(h CookieHeader) (rest string, found bool) { return c.cut(h, valueAt) }

// cut is Cut of the pairs that at says are ours.
func (c Cookie) cut(h CookieHeader, at cookieAt) (rest string, found bool) {
	name := c.name()
	var kept strings.Builder
	for pair := range h.pairs() {
		pair, ours := without(pair, name, h.Joined, at)
		found = found || ours
		if pair == "" || !forwardable(pair) {
			continue
		}
		if kept.Len() > 0 {
			kept.WriteString("; ")
		}
		kept.WriteString(pair)
	}
	return strings.TrimRight(kept.String(), " \t"), found // HTTP/2 forbids blanks at the end
}

// A cookieAt reports whether a cookie of a name stands at the beginning of s, and its
// value.
type cookieAt func(s, name string) (value string, ours bool)

// without cuts our cookie out of one pair, which joined lines may have made of
// several.
func without(pair, name string, joined bool, at cookieAt) (rest string, found bool) {
	if !joined {
		if _, ours := at(pair, name); ours {
			return "", true
		}
		return pair, false
	}
	var kept []string
	for place := range strings.SplitSeq(pair, ",") {
		if len(kept) == 0 {
			place = skipBlanks(place) // it begins the pair once those before it are gone
		}
		if _, ours := at(place, name); ours {
			found = true
		} else {
			kept = append(kept, place)
		}
	}
	if !found {
		return pair, false
	}
	return strings.Join(kept, ","), true
}

// valueAt reports whether our cookie stands at the beginning of s, and what
// follows the equals sign.
func valueAt(s, name string) (value string, ours bool) {
	after, ok := strings.CutPrefix(s, name)
	if !ok {
		return "", false
	}
	return strings.CutPrefix(after, "=")
}

// standsBehindComma reports whether our cookie stands directly behind a comma of
// the pair.
func standsBehindComma(pair, name string) bool {
	for _, place, more := strings.Cut(pair, ","); more; _, place, more = strings.Cut(place, ",") {
		if _, ours := valueAt(place, name); ours {
			return true
		}
	}
	return false
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

func skipBlanks(s string) string { return strings.TrimLeft(s, " \t") }
