package throttle

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Fold returns one text for all spellings that a user source might take for the
// same name: it drops letter case, width and ligatures, accents, blanks and
// invisible characters. Two names that fold to one text share their counters, which
// does no harm; an alias with counters of its own would give free attempts.
func Fold(username string) string {
	bare := strip(norm.NFKD.String(username))
	// Fold swaps the cases of Cherokee; up and down again makes one of them.
	folded := strings.ToLower(strings.ToUpper(cases.Fold().String(bare)))
	return strip(norm.NFKD.String(folded))
}

func strip(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Mn, unicode.Cf, unicode.Cc, unicode.White_Space) {
			return -1
		}
		return r
	}, s)
}
