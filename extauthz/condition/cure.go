package condition

import (
	"regexp"
	"strings"
)

// cures are what people write who know another language, and how CEL has it. The
// parser's own message names the character at which it gave up.
var cures = []struct {
	written *regexp.Regexp
	cure    string // $1 is what was written
}{
	{regexp.MustCompile(`(?:^|[^\w.])(\d+(?:\.\d+)?(?:ns|us|ms|s|m|h))\b`), `a duration is written duration("$1")`},
	{regexp.MustCompile(`(?:^|[^=!<>])=(?:==)?(?:[^=]|$)`), "equality is written =="},
	{regexp.MustCompile(`<>`), "inequality is written !="},
	{regexp.MustCompile(`(?i)(?:^|[^\w.])(?:and|or|not)\b[^(.]`), "and, or, not are written &&, ||, !"},
	{regexp.MustCompile(`[‘’“”]`), `text stands in straight quotes, " or '`},
	{regexp.MustCompile(`\broles\.contains\(`), `an element of a list is found with in, as in "admin" in session.roles`},
}

// cure returns how CEL has what is probably meant by an expression that it does not
// take, as the end of a sentence.
func cure(text string) string {
	bare := withoutStrings(text)
	var found []string
	for _, c := range cures {
		if m := c.written.FindStringSubmatchIndex(bare); m != nil {
			found = append(found, string(c.written.ExpandString(nil, c.cure, bare, m)))
		}
	}
	if found == nil {
		return ""
	}
	return "; " + strings.Join(found, "; ")
}

// quoted is a string of CEL.
var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'`)

// withoutStrings empties the strings of an expression.
func withoutStrings(text string) string { return quoted.ReplaceAllString(text, `""`) }
