package story

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// parseJSON reads an object. encoding/json has found it valid before it is cut into its
// members, which so is a matter of quotes and brackets.
func parseJSON(text []byte) (Line, error) {
	line := Line{Attributes: make(Attributes, 0, 16)}
	if !json.Valid(text) {
		return line, ErrUnreadable
	}
	rest := bytes.TrimSpace(text[1:])
	for len(rest) > 0 && rest[0] != '}' {
		name, after := member(rest)
		after = bytes.TrimSpace(bytes.TrimSpace(after)[1:]) // the colon
		value, end := member(after)
		if err := line.add(decoded(name), decoded(value)); err != nil {
			return line, err
		}
		rest = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(end), []byte(",")))
	}
	return line, nil
}

// member cuts the first value off valid JSON.
func member(text []byte) (value, rest []byte) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i += quoted(text[i:]) - 1
		case '{', '[':
			depth++
			continue
		case '}', ']':
			if depth--; depth < 0 {
				return text[:i], text[i:] // the end of what a number stood in
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return text[:i], text[i:]
			}
			continue
		default:
			continue
		}
		if depth == 0 {
			return text[:i+1], text[i+1:]
		}
	}
	return text, nil
}

// quoted is the length of the string that valid JSON begins with.
func quoted(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// decoded is a value as text.
func decoded(value []byte) string {
	switch {
	case len(value) == 0 || bytes.Equal(value, []byte("null")):
		return ""
	case value[0] == '"' && bytes.IndexByte(value, '\\') < 0 && utf8.Valid(value):
		return string(value[1 : len(value)-1])
	case value[0] == '"':
		var s string
		_ = json.Unmarshal(value, &s) // it is valid
		return s
	case value[0] == '[':
		var list []string
		if json.Unmarshal(value, &list) == nil {
			return strings.Join(list, ", ")
		}
	}
	return string(value)
}
