package envoyconfig

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// stringMatch is a StringMatcher.
func stringMatch(m Value, text string) truth {
	sensitive := !m.Get("ignore_case").Bool()
	fold := func(s string) string {
		if sensitive {
			return s
		}
		return lower(s)
	}
	for _, name := range m.Names() {
		v := m.Get(name)
		switch name {
		case "ignore_case":
		case "exact":
			return decided(equal(text, v.Text(), sensitive))
		case "prefix":
			return decided(hasPrefix(text, v.Text(), sensitive))
		case "suffix":
			return decided(strings.HasSuffix(fold(text), fold(v.Text())))
		case "contains":
			return decided(strings.Contains(fold(text), fold(v.Text())))
		case "safe_regex":
			return fullMatch(v, text)
		default:
			return undecided("a text is matched by " + clean(name))
		}
	}
	return undecided("a text is matched by nothing that is known")
}

// fullMatch is a RegexMatcher. Go's expressions are RE2's, but for a few that Go
// refuses; of bytes that are not UTF-8 the two differ.
func fullMatch(m Value, text string) truth {
	expression := m.Get("regex").Text()
	return regexMatch(expression, text)
}

func regexMatch(expression, text string) truth {
	compiled, err := regexp.Compile(`\A(?:` + expression + `)\z`)
	switch {
	case err != nil:
		return undecided("the regular expression " + clean(expression) + " cannot be read here")
	case !utf8.ValidString(text):
		return undecided("a regular expression is matched to bytes that are not UTF-8")
	}
	return decided(compiled.MatchString(text))
}

// inRange is an Int64Range, without its end.
func inRange(v Value, text string) truth {
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return decided(err == nil && v.Get("start").Int() <= n && n < v.Get("end").Int())
}
