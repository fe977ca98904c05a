package rules

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
)

// A folding maps the spellings that programs which ignore letter case take for one
// text to one of them. It leaves slashes where they are.
//
// Programs agree on the letters of ASCII only. Beyond it Express (/i on the path
// as it is encoded) folds nothing, a Windows file system the letters of its own
// table, Java and Python more, and some take K (Kelvin) for k, ſ for s, ı for i
// and ß for ss. A rule that ignores case therefore has two foldings, and a path
// that it matches by one of them alone can be read in two ways.
type folding func(string) string

// exact is for lists in which no rule ignores letter case.
func exact(s string) string { return s }

// foldNarrow folds what every program folds: the letters of ASCII. It allocates only
// where it changes the text.
func foldNarrow(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return foldASCII(s)
		}
	}
	return s
}

func foldASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// foldWide folds what any program may fold: through upper case, which ends the dotless
// i and the long s, then lower case, then Unicode's full folding, which ends ß and
// ligatures. It drops every combining dot above, because lower case leaves one of İ.
// Text that is not UTF-8 stays as it is.
func foldWide(s string) string {
	if ascii(s) {
		return foldNarrow(s)
	}
	if !utf8.ValidString(s) {
		return s
	}
	s = strings.Map(func(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }, s)
	return strings.ReplaceAll(cases.Fold().String(s), "\u0307", "")
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
