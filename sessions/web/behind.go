package web

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/sessions"
)

// DefaultPrefix begins the names of the headers that Coatcheck sets unless configured
// otherwise (headers.prefix).
const DefaultPrefix = "x-user-"

// HeaderConfig configures a Guard of [Behind]. The zero HeaderConfig is ready.
type HeaderConfig struct {
	// Prefix begins the names of the headers, as headers.prefix says. Empty:
	// [DefaultPrefix].
	Prefix string
	// Fields are application fields with the headers in which they come, as
	// headers.fields says: {"plan": "x-user-plan"}.
	Fields map[string]string
	// LoginURL is where a browser is sent that Coatcheck has let through without a
	// session, as in [Config]. Empty: it gets 401.
	LoginURL string
	// Logger gets a line for each request whose headers Coatcheck cannot have set. No
	// line holds a value. Nil: nothing is logged.
	Logger *slog.Logger
}

// Behind returns a Guard that takes identity from the headers that Coatcheck sets, or
// what is wrong with the configuration. The service must be reachable through Envoy
// only: the headers are not verified.
//
// Its sessions have the key, the user ID, the name, the roles and the fields, as far as
// the route's policy sends them. Without a user ID the client is not signed in.
func Behind(c HeaderConfig) (*Guard, error) {
	names, err := c.names()
	login, loginErr := sessions.ParseLoginURL(c.LoginURL)
	if err := errors.Join(err, loginErr); err != nil {
		return nil, err
	}
	return newGuard(names.session, login, c.Logger), nil
}

// prefixPattern is what headers.prefix looks like.
var prefixPattern = regexp.MustCompile(`^x-[a-z0-9]+(-[a-z0-9]+)*-$`)

// headerNames are the headers that a Guard reads, in lower case.
type headerNames struct {
	id, name, roles, key string
	fields               map[string]string // by header
	all                  []string
}

func (c HeaderConfig) names() (headerNames, error) {
	prefix := cmp.Or(c.Prefix, DefaultPrefix)
	h := headerNames{id: prefix + "id", name: prefix + "name", roles: prefix + "roles", key: prefix + "session", fields: make(map[string]string)}
	if !prefixPattern.MatchString(prefix) || prefix == "x-envoy-" || prefix == "x-forwarded-" { // which are Envoy's
		return h, fmt.Errorf("header prefix %q: it looks like x-user-, in lower case", prefix)
	}
	h.all = []string{h.id, h.name, h.roles, h.key}
	for _, field := range slices.Sorted(maps.Keys(c.Fields)) {
		if err := sessions.ValidateFieldName(field); err != nil {
			return h, fmt.Errorf("field %q: %w", field, err)
		}
		header := c.Fields[field]
		rest, ours := strings.CutPrefix(header, prefix)
		switch {
		case !ours || rest == "" || normal(rest) != rest:
			return h, fmt.Errorf("field %q: header %q must be %s and characters of a-z, 0-9 and -", field, header, prefix)
		case slices.Contains(h.all, header), header == "x-user-agent": // which grpc-web's clients send
			return h, fmt.Errorf("field %q: header %s is taken", field, header)
		}
		h.fields[header] = field
		h.all = append(h.all, header)
	}
	return h, nil
}

// normal is a header's name as CGI and its heirs read it: lower case, with "-" for every
// byte outside a-z and 0-9.
func normal(name string) string {
	b := []byte(name)
	for i, c := range b {
		switch {
		case 'A' <= c && c <= 'Z':
			b[i] = c | 0x20
		case ('a' > c || c > 'z') && ('0' > c || c > '9'):
			b[i] = '-'
		}
	}
	return string(b)
}

// errAltered says that Coatcheck has not sent a request so.
var errAltered = errors.New("identity headers that Coatcheck does not set")

func altered(header, what string) error { return fmt.Errorf("%w: %s %s", errAltered, header, what) }

// session is the identity in a request's headers.
func (h headerNames) session(r *http.Request) (*sessions.Session, error) {
	values, err := h.values(r.Header)
	if err != nil {
		return nil, err
	}
	s := new(sessions.Session)
	for header, value := range values {
		if err := h.put(s, header, value); err != nil {
			return nil, err
		}
	}
	if s.UserID == "" {
		return nil, sessions.ErrNotFound
	}
	return s, nil
}

// values are the headers that are read, each of which came once and in its own
// spelling.
func (h headerNames) values(header http.Header) (map[string]string, error) {
	values := make(map[string]string, len(h.all))
	for name, lines := range header {
		ours := normal(name)
		switch {
		case !slices.Contains(h.all, ours):
		case http.CanonicalHeaderKey(ours) != name:
			return nil, altered(ours, "came in another spelling")
		case len(lines) != 1:
			return nil, altered(ours, "came more than once")
		default:
			values[ours] = lines[0]
		}
	}
	return values, nil
}

// put sets the part of s that a header holds.
func (h headerNames) put(s *sessions.Session, header, value string) error {
	if header == h.roles {
		for encoded := range strings.SplitSeq(value, ",") {
			role, ok := decode(encoded)
			if !ok {
				return altered(header, "is not encoded as a list")
			}
			s.Roles = append(s.Roles, role)
		}
		return nil
	}
	text, ok := decode(value)
	if !ok {
		return altered(header, "is not encoded as one value")
	}
	switch header {
	case h.id:
		s.UserID = text
	case h.name:
		s.Username = text
	case h.key:
		key, err := sessions.ParseKey(text)
		if err != nil {
			return altered(header, "is no key")
		}
		s.Key = key
	default:
		if s.Fields == nil {
			s.Fields = make(map[string]string)
		}
		s.Fields[h.fields[header]] = text
	}
	return nil
}

// decode undoes Coatcheck's percent-encoding. It takes the one form that Coatcheck
// writes: visible ASCII as it is, and in %XX, in capitals, what is not, "%" and ",". It
// takes no empty text and none that is not UTF-8.
func decode(s string) (string, bool) {
	text := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			high, low := strings.IndexByte(hex, s[i+1]), strings.IndexByte(hex, s[i+2])
			if high < 0 || low < 0 || asIs(byte(high<<4|low)) {
				return "", false
			}
			c, i = byte(high<<4|low), i+2
		} else if !asIs(c) {
			return "", false
		}
		text = append(text, c)
	}
	return string(text), len(text) > 0 && utf8.Valid(text)
}

const hex = "0123456789ABCDEF"

func asIs(c byte) bool { return ' ' < c && c < 0x7f && c != '%' && c != ',' }
