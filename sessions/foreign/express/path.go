package express

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A path leads into a record: the names of keys, each in the object before.
type path []string

const (
	maxPath  = 256 // bytes
	maxNames = 16  // of a path
)

// parsePath reads names with dots between them. A backslash takes away the meaning of the
// character behind it.
func parsePath(text string) (path, error) {
	if text == "" || len(text) > maxPath || strings.ContainsRune(text, utf8.RuneError) { // which stands for what is not text
		return nil, fmt.Errorf("it has 1 to %d bytes of UTF-8", maxPath)
	}
	p := path{""}
	escaped := false
	for _, r := range text {
		last := &p[len(p)-1]
		switch {
		case escaped:
			if r != '.' && r != '\\' {
				return nil, errors.New(`a backslash stands before a dot or a backslash`)
			}
			*last, escaped = *last+string(r), false
		case r == '\\':
			escaped = true
		case r == '.':
			p = append(p, "")
		default:
			*last += string(r)
		}
	}
	if escaped {
		return nil, errors.New("it ends with a backslash")
	}
	return p, p.validate()
}

func (p path) validate() error {
	if len(p) > maxNames {
		return fmt.Errorf("it has more than %d names", maxNames)
	}
	for _, name := range p {
		if name == "" {
			return errors.New("it has an empty name: names have one dot between them, as in user.userId")
		}
	}
	return nil
}

// dotted joins a path to text that parsePath reads.
func dotted(names []string) string {
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, strings.NewReplacer(`\`, `\\`, `.`, `\.`).Replace(name))
	}
	return strings.Join(quoted, ".")
}

// An object is one of JSON, whose values are not decoded yet. Of a key that stands twice it
// has the last value, as a whole, as in JavaScript.
type object map[string]json.RawMessage

// at is the value that p leads to, or nil. Only objects have names: an index of an array,
// or of a text, is none, and nothing is inherited.
func (o object) at(p path) json.RawMessage {
	for i, name := range p {
		value := o[name]
		if i == len(p)-1 {
			return value
		}
		if o = objectOf(value); o == nil {
			return nil
		}
	}
	return nil
}

// objectOf is the object that a value is, or nil.
func objectOf(value json.RawMessage) (o object) {
	if len(value) == 0 || value[0] != '{' {
		return nil
	}
	if json.Unmarshal(value, &o) != nil {
		return nil
	}
	return o
}
