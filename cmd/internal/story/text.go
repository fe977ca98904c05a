package story

import (
	"strconv"
	"strings"
)

// parseText reads the form of slog.TextHandler: name=value, with blanks between, where
// a name or a value with a blank or another special character is quoted as in Go.
func parseText(text []byte) (Line, error) {
	var line Line
	for rest := string(text); rest != ""; {
		name, after, ok := word(rest, "=")
		if !ok || !strings.HasPrefix(after, "=") {
			return line, ErrUnreadable
		}
		value, end, ok := word(after[1:], " ")
		if !ok || end != "" && end[0] != ' ' {
			return line, ErrUnreadable
		}
		if err := line.add(name, value); err != nil {
			return line, err
		}
		rest = strings.TrimPrefix(end, " ")
	}
	return line, nil
}

// word cuts off what comes before the end, or a quoted text.
func word(text, end string) (value, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		i := strings.Index(text, end)
		if i < 0 {
			i = len(text)
		}
		return text[:i], text[i:], true
	}
	prefix, err := strconv.QuotedPrefix(text)
	if err != nil {
		return "", "", false
	}
	value, err = strconv.Unquote(prefix)
	return value, text[len(prefix):], err == nil
}
