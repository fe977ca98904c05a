package extauthz

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Paths says which paths a server takes. The path of every request is looked at,
// of any route: Envoy chooses the route by the path, and an
// upstream that reads the path in another way serves what another route guards.
// Every setting refuses what could be read in two ways, with [NoncanonicalPath].
type Paths string

// The choices of [Paths], and of the key coatcheck.paths of a route.
const (
	// PathsSafe takes a path of which all programs read the same segments.
	PathsSafe Paths = "safe"
	// PathsParameters takes parameters of segments, too, in the one form
	// ;name=value (RFC 3986, section 3.3). Some upstreams cut them off and others
	// do not, so that /admin;x=1 can be /admin, which is another route's: all routes
	// to such an upstream should ask for the same roles.
	PathsParameters Paths = "parameters"
	// PathsStrict takes a path only in the spelling that rules read: hex digits in
	// upper case, and what RFC 3986 does not allow in a path encoded.
	PathsStrict Paths = "strict"
)

var pathsNames = []Paths{PathsSafe, PathsParameters, PathsStrict}

func (p Paths) validate() error {
	if p == "" || slices.Contains(pathsNames, p) {
		return nil
	}
	return fmt.Errorf("paths %.40q: one of safe, parameters and strict", string(p))
}

// admit reports whether the path of a request target has one reading.
//
// It begins with "/" and ends at the first "?"; what comes behind is the query,
// which is free. A segment is visible ASCII without "#" and "\", and a percent
// sign begins two hex digits of a blank, of "<>[]^`{|}, of !$&'()*+,=:@ or of
// UTF-8. The rest has a second reading somewhere: encoded letters, digits and
// -._~ are another route to an Envoy that does not normalise; %2F, %5C, %3B, %3F,
// %23 and %25 are undone by what decodes before it splits, or decodes twice
// (CVE-2024-38474, CVE-2026-33494); %00 ends a string in C; bytes that are no
// UTF-8 may be an overlong "/" or "." (RFC 3629, section 10).
//
// It allocates only to decode.
func (p Paths) admit(target string) bool {
	if p == PathsStrict {
		if _, ok := canonicalPath(target); !ok {
			return false
		}
	}
	path, _, _ := strings.Cut(target, "?")
	rest, rooted := strings.CutPrefix(path, "/")
	for more := rooted; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if !p.admitSegment(segment, !more) {
			return false
		}
	}
	return rooted
}

// admitSegment takes a name and, where they are permitted, its parameters. A path
// may end in "/", and so in an empty segment, but not in parameters of no name.
func (p Paths) admitSegment(segment string, last bool) bool {
	if segment == "" {
		return last
	}
	name, parameters, cut := strings.Cut(segment, ";")
	if cut && (p != PathsParameters || !parametersValid(parameters)) {
		return false
	}
	text, ok := segmentText(name)
	return ok && !vanishes(text)
}

// parametersValid reports whether all of a list are name=value. A name is of
// unreserved characters, and neither holds a second "=".
func parametersValid(list string) bool {
	for parameter := range strings.SplitSeq(list, ";") {
		name, value, found := strings.Cut(parameter, "=")
		if name == "" || !found || strings.Contains(value, "=") {
			return false
		}
		for i := range len(name) {
			if !unreserved(name[i]) {
				return false
			}
		}
		if _, ok := segmentText(value); !ok {
			return false
		}
	}
	return true
}

// segmentText decodes a name or a value, if it can be read in one way.
func segmentText(s string) (text string, ok bool) {
	encoded := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '%':
			b, ok := unhexAnyCase(s[i+1:])
			if !ok || !mayEncode(b) {
				return "", false
			}
			encoded++
			i += 2
		case c <= ' ' || c >= 0x7f || c == '#' || c == '\\':
			return "", false
		}
	}
	if encoded == 0 {
		return s, true
	}
	text = decode(s, encoded)
	return text, utf8.ValidString(text) && !strings.ContainsFunc(text, splits)
}

// vanishes reports whether a segment is another one to some program: one of dots
// and blanks alone is empty, "." or ".." (Windows takes both off the end, HFS+ skips
// format characters, and what normalises Unicode makes dots of what look like
// them), and one with a blank at either end is trimmed. A dot at the end of a name
// stays: names are abbreviated.
func vanishes(text string) bool {
	if text == "" {
		return true
	}
	if first, last := text[0], text[len(text)-1]; letter(first) && last != ' ' && last < utf8.RuneSelf {
		return false // as nearly always
	}
	return strings.Trim(text, ".") == "" || strings.TrimFunc(text, blank) != text || strings.TrimFunc(text, dotOrBlank) == ""
}

// letter reports whether c is neither dot nor blank, nor the beginning of one.
func letter(c byte) bool { return c != '.' && c != ' ' && c < utf8.RuneSelf }

func blank(r rune) bool {
	return r == ' ' || r >= utf8.RuneSelf && (unicode.IsSpace(r) || unicode.Is(unicode.Cf, r))
}

func dotOrBlank(r rune) bool {
	switch r {
	case '.', '\u2024', '\u2025', '\u2026', '\ufe19', '\ufe30', '\ufe52', '\uff0e', '\u3002', '\uff61': // dot leaders and ellipsis, also for vertical text, full stops
		return true
	}
	return blank(r)
}

// splits reports whether a program that normalises Unicode (NFKC), or maps it to
// another character set, as Windows does to a code page, makes a slash or a
// backslash of r, or whether it is a control character.
func splits(r rune) bool {
	switch r {
	case '\uff0f', '\u2044', '\u2215', '\uff3c', '\ufe68', '\u2216', // solidus and reverse solidus, in other widths and as signs
		'\u00a5', '\u20a9', // yen and won, which stand where ASCII has the backslash (Shift_JIS, code pages 932 and 949)
		'\u2100', '\u2101', '\u2105', '\u2106': // a/c, a/s, c/o, c/u
		return true
	}
	return unicode.IsControl(r)
}
