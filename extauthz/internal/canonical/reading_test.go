package canonical

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical/canonicaltest"
)

// settings are the ways in which a server can take paths.
var settings = map[string]func(string) bool{
	"safe":       func(target string) bool { return OneReading(target, false) },
	"parameters": func(target string) bool { return OneReading(target, true) },
	"strict": func(target string) bool {
		_, ok := Path(target)
		return ok && OneReading(target, false)
	},
}

// TestNormalisedPaths: no character becomes a slash, and no segment of it one of dots, by
// the compatible forms of Unicode (NFKC).
func TestNormalisedPaths(t *testing.T) {
	for r := rune(utf8.RuneSelf); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		encoded, normalised := url.PathEscape(string(r)), norm.NFKC.String(string(r))
		for setting, admits := range settings {
			if strings.ContainsAny(normalised, `/\`) && admits("/a"+encoded+"b") {
				t.Errorf("%s: %U has one reading, and may become %q", setting, r, normalised)
			}
			if strings.Trim(normalised, ". ") == "" && (admits("/"+encoded) || admits("/."+encoded+"/a")) {
				t.Errorf("%s: a segment of %U has one reading, and may become %q", setting, r, normalised)
			}
		}
	}
}

// FuzzPaths: of what a setting takes, every reader makes the same segments, but
// that some cut the parameters off where they are permitted; no reader finds dots
// to resolve or slashes to merge; and what is taken strictly is taken by all.
func FuzzPaths(f *testing.F) {
	for _, target := range slices.Concat(canonicaltest.Safe, canonicaltest.Parameters, canonicaltest.Refused) {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		safe, parameters, strict := settings["safe"](target), settings["parameters"](target), settings["strict"](target)
		if strict && !safe || safe && !parameters {
			t.Fatalf("%q: safe %v, parameters %v, strict %v", target, safe, parameters, strict)
		}
		if !parameters {
			return
		}
		raw, _, _ := strings.Cut(target, "?")
		if err := canonicaltest.ReadAlike(raw); err != nil {
			t.Fatal(err)
		}
		if safe && strings.ContainsAny(canonicaltest.Decode(raw), ";\\#?%\x00") || !utf8.ValidString(canonicaltest.Decode(raw)) {
			t.Fatalf("%q: decoded to %q", target, canonicaltest.Decode(raw))
		}
	})
}
