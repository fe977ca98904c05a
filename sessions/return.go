package sessions

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// What the authorization side and login agree on about the return address, which
// a redirect to the login page carries, so that a user comes back to the page that
// needed a session.
const (
	// ReturnParameter is the query parameter that holds it, as with oauth2-proxy
	// and Authelia.
	ReturnParameter = "rd"
	// MaxReturn bounds it, in bytes before it is encoded.
	MaxReturn = 2 << 10
)

// IsLocalPath reports whether s is a path, with a query or not, that every browser
// resolves on the origin that it is on. It begins with one slash, because what
// follows "//" is a host; and it has no backslash, which browsers read as a slash,
// and no control characters, of which they drop some (WHATWG URL standard,
// sections 4.1 and 4.4).
func IsLocalPath(s string) bool {
	return strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") && !strings.ContainsFunc(s, misread)
}

func misread(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }

// ParseLoginURL checks where a browser without a session is sent: a path on the same
// host, or an absolute http or https URL, in visible ASCII and without user and
// fragment. It returns nil for an empty text: no browser is sent anywhere.
func ParseLoginURL(s string) (*url.URL, error) {
	if s == "" {
		return nil, nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("login URL: it cannot be parsed")
	case !visible(s):
		return nil, errors.New("login URL: it must be visible ASCII")
	case u.User != nil || u.Fragment != "":
		return nil, errors.New("login URL: it must have no user and no fragment")
	case u.Scheme == "" && u.Host == "" && IsLocalPath(u.EscapedPath()):
		return u, nil
	case (u.Scheme == "https" || u.Scheme == "http") && u.Host != "":
		return u, nil
	}
	return nil, fmt.Errorf("login URL %q must be a path that begins with one /, or an http or https URL", s)
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// LoginLocation is a login URL with the return address in [ReturnParameter]: path is
// what the browser asked for, with its query. "/" replaces a path that a browser could
// take for another host's, or that is longer than [MaxReturn].
func LoginLocation(login *url.URL, path string) string {
	if !IsLocalPath(path) || len(path) > MaxReturn {
		path = "/"
	}
	u := *login
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += ReturnParameter + "=" + url.QueryEscape(path)
	return u.String()
}
