package strictyaml

import (
	"bytes"
	"fmt"
	"strings"
)

// A layout looks at the indentation of a text that the parser refuses. That is the most
// common reason, and the parser then names the beginning of the section, or a line
// behind the wrong one. It knows as much of YAML as it needs to follow ordinary files,
// and says nothing where it is not sure.
type layout struct {
	open    []int // the indentations of the sections that are open, outermost first
	value   bool  // the last line has a value
	last    int   // its number
	literal int   // a block of text goes on while lines are indented further; -1: there is none
}

// misindented returns the first line whose indentation is wrong, and how.
func misindented(text []byte) (line int, what string, found bool) {
	l := &layout{open: []int{0}, literal: -1}
	for i, raw := range bytes.Split(text, []byte("\n")) {
		content := strings.TrimRight(string(raw), " \t\r")
		bare := strings.TrimLeft(content, " \t")
		indent := len(content) - len(bare)
		switch {
		case bare == "" || bare[0] == '#' && l.literal < 0:
			continue
		case l.literal >= 0 && indent > l.literal:
			continue
		}
		l.literal = -1
		if tab := strings.IndexByte(content[:indent], '\t'); tab >= 0 {
			return i + 1, "it is indented with a tab; YAML takes spaces", true
		}
		if bare == "---" || strings.ContainsAny(bare[:1], `%&*!|>"'{}[]`) || unclosed(bare) {
			return 0, "", false // beyond what is followed here
		}
		if what := l.enter(indent, bare); what != "" {
			return i + 1, what, true
		}
		l.read(i+1, indent, bare)
	}
	return 0, "", false
}

// enter opens or closes sections for a line. It returns what is wrong with it.
func (l *layout) enter(indent int, bare string) string {
	top := l.open[len(l.open)-1]
	switch {
	case indent > top && !l.value:
		l.open = append(l.open, indent)
		return ""
	case indent > top && (isKey(bare) || isItem(bare)):
		return fmt.Sprintf("it is indented by %s, further than line %d, which has a value already", spaces(indent), l.last)
	case indent > top:
		return "" // the value goes on
	}
	above := top
	for above > indent {
		l.open = l.open[:len(l.open)-1]
		top, above = above, l.open[len(l.open)-1]
	}
	if above != indent {
		return fmt.Sprintf("it is indented by %s, and the lines above it by %d or %d", spaces(indent), above, top)
	}
	return ""
}

// read takes in what stands on a line, behind the dashes of list elements.
func (l *layout) read(number, indent int, bare string) {
	outer := indent
	for isItem(bare) {
		rest := strings.TrimLeft(bare[1:], " ")
		outer, indent, bare = indent, indent+len(bare)-len(rest), rest
		if isKey(bare) {
			l.open = append(l.open, indent)
			outer = indent
		}
	}
	l.last = number
	bare, _, _ = strings.Cut(bare, " #")
	bare = strings.TrimRight(bare, " ")
	l.value = bare != "" && !strings.HasSuffix(bare, ":")
	if _, value, ok := strings.Cut(bare, ": "); ok || bare == value {
		if value = strings.TrimLeft(value, " "); value != "" && (value[0] == '|' || value[0] == '>') {
			l.literal = outer
		}
	}
}

func isItem(bare string) bool { return bare == "-" || strings.HasPrefix(bare, "- ") }

func isKey(bare string) bool { return strings.Contains(bare, ": ") || strings.HasSuffix(bare, ":") }

// unclosed reports whether a quote or a bracket may go on in the next line.
func unclosed(bare string) bool {
	return strings.Count(bare, `"`)%2 != 0 || strings.Count(bare, "'")%2 != 0 ||
		strings.Count(bare, "[")+strings.Count(bare, "{") != strings.Count(bare, "]")+strings.Count(bare, "}")
}

func spaces(n int) string {
	if n == 1 {
		return "1 space"
	}
	return fmt.Sprintf("%d spaces", n)
}
