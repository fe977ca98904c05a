package extauthz

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/extauthz/internal/answer"
	"github.com/coatcheck/coatcheck/sessions"
)

// DefaultHeaderPrefix begins the name of every header that Coatcheck manages.
const DefaultHeaderPrefix = "x-user-"

// maxFieldHeader bounds a mapped field's value, in bytes before encoding.
const maxFieldHeader = 4 << 10

// prefixPattern keeps the prefix in normal form and away from the headers of other
// programs: at least one part behind the "x-".
var prefixPattern = regexp.MustCompile(`^x-[a-z0-9]+(-[a-z0-9]+)*-$`)

// A FieldHeader hands an application field of the session to upstreams.
type FieldHeader struct {
	// Field is the name of the field in the session's record.
	Field string
	// Header is the name of the header: the prefix, and at least one character
	// more of a-z, 0-9 and "-".
	Header string
}

// headerNames are the managed headers that an answer always sets or removes.
type headerNames struct {
	prefix                   string
	id, name, roles, session string
	fields                   []FieldHeader
	exempt                   string          // grpc-web's own, where it falls under the prefix
	withheld                 []string        // removed and never set: by a policy, or because the key is a secret
	format                   sessions.Format // of other sessions, whose key is a secret; nil: ours
}

// newHeaderNames checks the prefix and the fields. With a format, the header of the session's
// key is removed.
func newHeaderNames(prefix string, fields []FieldHeader, format sessions.Format) (headerNames, error) {
	if prefix == "" {
		prefix = DefaultHeaderPrefix
	}
	h := headerNames{
		prefix: prefix,
		id:     prefix + "id", name: prefix + "name", roles: prefix + "roles", session: prefix + "session",
		fields: fields,
		exempt: "x-user-agent",
		format: format,
	}
	if format != nil {
		h.withheld = []string{h.session}
	}
	if !prefixPattern.MatchString(prefix) || prefix == "x-envoy-" || prefix == "x-forwarded-" {
		return h, fmt.Errorf("header prefix %q: it looks like x-user-, in lower case, and is not Envoy's", prefix)
	}
	taken := map[string]bool{h.id: true, h.name: true, h.roles: true, h.session: true, h.exempt: true}
	for _, f := range fields {
		if err := h.validateField(f.Field); err != nil {
			return h, err
		}
		rest, ok := strings.CutPrefix(f.Header, prefix)
		switch {
		case !ok || rest == "" || strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			return h, fmt.Errorf("field %q: header %q must be %s and characters of a-z, 0-9 and -", f.Field, f.Header, prefix)
		case taken[f.Header]:
			return h, fmt.Errorf("field %q: header %s is taken", f.Field, f.Header)
		}
		taken[f.Header] = true
	}
	return h, nil
}

// validateField says why no session has an application field of that name.
func (h headerNames) validateField(name string) error {
	if err := sessions.ValidateFieldName(name); err != nil || h.format == nil {
		return err
	}
	return h.format.ValidateField(name)
}

// only returns h with every header withheld but the given ones, without the
// prefix. Nil withholds no header.
func (h headerNames) only(names []string) (headerNames, error) {
	if names == nil {
		return h, nil
	}
	managed := []string{h.id, h.name, h.roles}
	if h.format == nil {
		managed = append(managed, h.session)
	}
	for _, f := range h.fields {
		managed = append(managed, f.Header)
	}
	for _, name := range names {
		if !slices.Contains(managed, h.prefix+name) {
			return h, fmt.Errorf("header %q: it is one of %s", name, strings.ReplaceAll(strings.Join(managed, ", "), h.prefix, ""))
		}
	}
	h.withheld = slices.DeleteFunc(managed, func(header string) bool {
		return slices.Contains(names, strings.TrimPrefix(header, h.prefix))
	})
	if h.format != nil {
		h.withheld = append(h.withheld, h.session)
	}
	return h, nil
}

// fieldNames are the application fields that a check must read.
func (h headerNames) fieldNames() []string {
	var names []string
	for _, f := range h.fields {
		if !slices.Contains(h.withheld, f.Header) {
			names = append(names, f.Field)
		}
	}
	return names
}

// appendValue makes a header value of any text: every byte outside visible ASCII,
// "%" and "," become %XX (RFC 3986, section 2.1), so that the value holds no blank,
// CR, LF or NUL, a list can be joined by commas, and percent-decoding gives the text
// back.
func appendValue(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; asIs(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}

// plain reports whether appendValue leaves s as it is.
func plain(s string) bool {
	for i := range len(s) {
		if !asIs(s[i]) {
			return false
		}
	}
	return true
}

func asIs(c byte) bool { return ' ' < c && c < 0x7f && c != '%' && c != ',' }

// A header is one that an answer sets.
type header = answer.Header

// identity adds the headers to set for s, which may be nil, and the managed
// ones to remove. Each managed header is in exactly one of the two, and none is
// set empty.
func (h *headerNames) identity(s *sessions.Session, t *texts, set []header, remove []string) ([]header, []string) {
	put := func(name, encoded string) {
		if encoded == "" || slices.Contains(h.withheld, name) {
			remove = append(remove, name)
		} else {
			set = append(set, header{Name: name, Value: encoded})
		}
	}
	if s == nil {
		s = new(sessions.Session)
	}
	put(h.id, t.value(s.UserID))
	put(h.name, t.value(s.Username))
	put(h.roles, t.list(s.Roles))
	put(h.session, t.value(string(s.Key)))
	for _, f := range h.fields {
		if value := s.Fields[f.Field]; carries(value) {
			put(f.Header, t.value(value))
		} else {
			put(f.Header, "")
		}
	}
	return set, remove
}

// carries reports whether a header can carry an application field's value.
func carries(value string) bool { return len(value) <= maxFieldHeader && utf8.ValidString(value) }

// omitted lists the mapped fields of s, which may be nil, that a header cannot
// carry.
func (h *headerNames) omitted(s *sessions.Session) []string {
	var names []string
	for _, f := range h.fields {
		if s != nil && !carries(s.Fields[f.Field]) && !slices.Contains(h.withheld, f.Header) {
			names = append(names, f.Field)
		}
	}
	return names
}

// strip adds to remove the incoming headers under the prefix that are not
// overwritten, so that no such header of a client reaches an upstream. Names are
// compared as Envoy does, in any case: a name in both lists would be removed.
func (h *headerNames) strip(incoming []string, set []header, remove []string) []string {
	if len(incoming) == 0 {
		return remove
	}
	done := map[string]bool{h.exempt: true}
	for _, s := range set {
		done[s.Name] = true
	}
	for _, name := range remove {
		done[name] = true
	}
	for _, name := range incoming {
		if lower := lowered(name); !done[lower] {
			done[lower] = true
			remove = append(remove, name)
		}
	}
	return remove
}

// lowered is name with its ASCII letters in lower case, the only letters that Envoy
// folds.
func lowered(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}
