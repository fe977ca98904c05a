package sessions

import "strings"

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
