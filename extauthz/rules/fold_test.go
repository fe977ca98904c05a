package rules

import (
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// TestFoldWide: no way to change the case of a letter, of any Unicode library, and
// no rule of Turkish, leads to a path of another folding.
func TestFoldWide(t *testing.T) {
	ways := map[string]func(string) string{
		"upper": strings.ToUpper, "lower": strings.ToLower, "title": strings.ToTitle,
		"full upper": cases.Upper(language.Und).String, "full lower": cases.Lower(language.Und).String, "full folding": cases.Fold().String,
		"Turkish upper": func(s string) string { return strings.ToUpperSpecial(unicode.TurkishCase, s) },
		"Turkish lower": func(s string) string { return strings.ToLowerSpecial(unicode.TurkishCase, s) },
		"simple folding": func(s string) string {
			r, _ := utf8.DecodeRuneInString(s)
			return string(unicode.SimpleFold(r))
		},
		"narrow": foldNarrow, "wide": foldWide,
	}
	const last = 0x1ffff // no letter beyond has two cases
	scripts := []*unicode.RangeTable{unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Armenian, unicode.Common, unicode.Inherited}
	for r := rune(0); r <= last; r++ {
		if !utf8.ValidRune(r) || os.Getenv("COATCHECK_FULL") == "" && (r > 0x2fff || !unicode.In(r, scripts...)) {
			continue
		}
		letter := string(r)
		want := foldWide(letter)
		for way, change := range ways {
			if got := foldWide(change(letter)); got != want {
				t.Errorf("%q: %q, and behind %s (%q) %q", letter, want, way, change(letter), got)
			}
		}
		if strings.Contains(want, "/") != (r == '/') {
			t.Errorf("%q becomes %q", letter, want)
		}
	}
	for a, b := range map[string]string{"Straße": "STRASSE", "\u212a": "k", "\u017fecret": "secret", "ad\u0130n": "adın", "ﬁle": "FILE", "İ": "i"} {
		if foldWide(a) != foldWide(b) {
			t.Errorf("%q and %q: %q and %q", a, b, foldWide(a), foldWide(b))
		}
	}
	for _, other := range [][2]string{{"a", "b"}, {"é", "e"}, {"\xff", "\xfe"}, {"ı", "l"}} {
		if foldWide(other[0]) == foldWide(other[1]) {
			t.Errorf("%q and %q are one", other[0], other[1])
		}
	}
}

// TestCaseInsensitive: the letters of ASCII are the same in any case; where others
// decide which rule it is, the request is refused.
func TestCaseInsensitive(t *testing.T) {
	list, err := Compile([]Rule{
		{Path: "/status", CaseInsensitive: true},
		{PathPrefix: "/Büro/akten", CaseInsensitive: true},
		{Path: "/Kiosk"},
		{PathTemplate: "/people/{name}/files/{rest...}", CaseInsensitive: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"/status": 1, "/STATUS": 1, "/sTaTus": 1, "/\u017ftatus": -1, "/statu\u017f": -1, "/statuß": 0,
		"/Büro/akten": 2, "/büro/Akten/1": 2, "/BÜRO/akten": -1, "/BÜRO/a\u212aten": -1, "/BURO/akten": 0,
		"/Kiosk": 3, "/kiosk": 0, "/\u212aiosk": 0,
		"/People/Weiß/FILES": 4, "/people/İ/files/ß": 4, "/peop\u0131e/x/files": 0, "/people/x/f\u0131les": -1,
	} {
		number, once := list.Find("GET", "h", path)
		if !once {
			number = -1
		}
		if number != want {
			t.Errorf("%s: %d, want %d", path, number, want)
		}
	}
}
