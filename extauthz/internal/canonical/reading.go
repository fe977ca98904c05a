package canonical

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// OneReading reports whether all programs read the same segments in the path of a
// request target. With parameters, a segment may have some of the form ;name=value,
// which some programs cut off.
//
// A path begins with "/" and ends at the first "?"; what comes behind is the query,
// which is free. A segment is visible ASCII without "#" and "\", and a percent
// sign begins two hex digits of a blank, of "<>[]^`{|}, of !$&'()*+,=:@ or of
// UTF-8. The rest has a second reading somewhere: encoded letters, digits and
// -._~ are another route to an Envoy that does not normalise; %2F, %5C, %3B, %3F,
// %23 and %25 are undone by a program that decodes before it splits, or decodes twice
// (CVE-2024-38474, CVE-2026-33494); %00 ends a string in C; bytes that are not
// UTF-8 may be an overlong "/" or "." (RFC 3629, section 10).
//
// It allocates only to decode.
func OneReading(target string, parameters bool) bool {
	path, _, _ := strings.Cut(target, "?")
	rest, rooted := strings.CutPrefix(path, "/")
	for more := rooted; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if !admitSegment(segment, !more, parameters) {
			return false
		}
	}
	return rooted
}

// admitSegment takes a name and, where they are permitted, its parameters. A path
// may end in "/", and so in an empty segment, but not in parameters of no name.
func admitSegment(segment string, last, parameters bool) bool {
	if segment == "" {
		return last
	}
	name, list, cut := strings.Cut(segment, ";")
	if cut && (!parameters || !parametersValid(list)) {
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

// vanishes reports whether some program reads another segment: a segment of dots
// and blanks alone is empty, "." or ".." (Windows takes both off the end, HFS+ skips
// format characters, and normalising Unicode makes dots of characters that look like
// them), and a blank at either end is trimmed. A dot at the end of a name
// stays: names are abbreviated.
func vanishes(text string) bool {
	if text == "" {
		return true
	}
	if first, last := text[0], text[len(text)-1]; letter(first) && last != ' ' && last < utf8.RuneSelf {
		return false // nearly always
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
