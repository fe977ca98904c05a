package express

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/sessions"
)

const (
	// maxDepth bounds objects and arrays within one another.
	maxDepth = 64
	// maxValues bounds the values of a record, at any depth. Each costs time and memory beyond
	// its bytes, and users often choose how many there are: a record of many small ones would
	// cost a check as much as hundreds of others.
	maxValues = 10_000
	// maxLifetime bounds what a use gives, so that Redis can add it to the time of day.
	maxLifetime = 10 * 365 * 24 * time.Hour
	// maxSafe is the largest whole number that JavaScript tells from its neighbours.
	maxSafe = 1<<53 - 1
	// maxNumber bounds the text of a number in a field, in bytes: JavaScript writes no longer
	// one.
	maxNumber = 32
	// maxFields bounds what Fields returns.
	maxFields = 256
)

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{sessions.ErrBroken}, args...)...)
}

// parse reads a record as far as its first level. It names no value in errors.
func parse(r sessions.ForeignRecord) (*tree, error) {
	if !utf8.Valid(r.Value) {
		return nil, broken("it is not UTF-8")
	}
	switch depth, values := extent(r.Value); {
	case depth > maxDepth:
		return nil, broken("it has more than %d levels", maxDepth)
	case values > maxValues:
		return nil, broken("it has more than %d values", maxValues)
	}
	var o object
	if json.Unmarshal(r.Value, &o) != nil || o == nil {
		return nil, broken("it is not a JSON object")
	}
	return &tree{object: o}, nil
}

// extent is how many brackets text has within one another, and how many values, if it is
// JSON. It looks no further than either may be.
func extent(text []byte) (deepest, values int) {
	depth, quoted := 0, false
	for i := 0; i < len(text) && deepest <= maxDepth && values <= maxValues; i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ',':
			values++
		case c == '{' || c == '[':
			values++ // the first one in it, or it is empty
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest, values
}

// Decode implements [sessions.Format].
func (f *Format) Decode(r sessions.ForeignRecord, fields []string) (found sessions.ForeignSession, err error) {
	record, err := parse(r)
	if err != nil {
		return found, err
	}
	if found.Lifetime, err = f.lifetime(record); err != nil {
		return found, err
	}
	s := new(sessions.Session)
	if s.UserID, err = name(record, f.userID); err != nil {
		return found, err
	}
	if s.UserID == "" {
		return found, fmt.Errorf("%w: no user is signed in, as nothing stands at %s", sessions.ErrNotFound, dotted(f.userID))
	}
	if s.Username, err = name(record, f.username); err != nil {
		return found, err
	}
	if s.Roles, err = rolesAt(record, f.roles); err != nil {
		return found, err
	}
	s.Fields = fieldsAt(record, fields)
	found.Session = s
	return found, nil
}

// lifetime is for how long a use has the record last, as express-session and connect-redis
// reckon it: cookie.originalMaxAge in seconds, rounded up, or the ttl where that is null. A
// record without a cookie has them throw an error, and so has a maxAge that is no number.
func (f *Format) lifetime(record *tree) (time.Duration, error) {
	cookie := record.within("cookie")
	if cookie == nil {
		return 0, broken("it has no object cookie")
	}
	lifetime := f.ttl
	if raw := cookie["originalMaxAge"]; kindOf(raw) != kindNull {
		ms, err := strconv.ParseFloat(string(raw), 64)
		if kindOf(raw) != kindNumber || err != nil {
			return 0, broken("cookie.originalMaxAge is not a number")
		}
		seconds := min(math.Ceil(ms/1000), maxLifetime.Seconds())
		lifetime = time.Duration(max(seconds, 0)) * time.Second // 0 or less: the application ends it
	}
	if f.disableTouch {
		return 0, nil
	}
	return lifetime, nil
}

// A kind is what a JSON value is. What is not there is like null.
type kind int

const (
	kindNull kind = iota
	kindString
	kindNumber
	kindBoolean
	kindObject
	kindArray
)

func kindOf(value json.RawMessage) kind {
	if len(value) == 0 {
		return kindNull
	}
	switch value[0] {
	case 'n':
		return kindNull
	case '"':
		return kindString
	case 't', 'f':
		return kindBoolean
	case '{':
		return kindObject
	case '[':
		return kindArray
	}
	return kindNumber
}

// name is the user ID or the username at a path: a string as it is, a whole number in
// digits, and empty where there is none.
func name(record *tree, p path) (string, error) {
	if p == nil {
		return "", nil
	}
	value := record.at(p)
	switch kindOf(value) {
	case kindNull:
		return "", nil
	case kindString:
		if text, ok := textOf(value); ok {
			return text, nil
		}
		return "", broken("%s has half of a surrogate pair", dotted(p))
	case kindNumber:
		if whole(value) {
			return string(value), nil
		}
		return "", broken("%s is not a whole number that JavaScript can tell from others", dotted(p))
	}
	return "", broken("%s is neither a string nor a number", dotted(p))
}

// whole reports whether a number is a whole one, spelt as JavaScript spells it: no sign of
// zero, no fraction, no exponent.
func whole(number json.RawMessage) bool {
	n, err := strconv.ParseInt(string(number), 10, 64)
	return err == nil && n >= -maxSafe && n <= maxSafe && strconv.FormatInt(n, 10) == string(number)
}

// textOf is the text of a JSON string. It reports false for half of a surrogate pair, of
// which encoding/json makes U+FFFD: two users could become one.
func textOf(value json.RawMessage) (string, bool) {
	var text string
	if json.Unmarshal(value, &text) != nil || halved(value) {
		return "", false
	}
	return text, true
}

// halved reports whether a JSON string, which is valid, has a surrogate without its other
// half.
func halved(value json.RawMessage) bool {
	for i := 0; i < len(value); i++ {
		if value[i] != '\\' {
			continue
		}
		i++
		if value[i] != 'u' {
			continue
		}
		r := unit(value[i+1:])
		i += 4
		if !utf16.IsSurrogate(r) {
			continue
		}
		rest := value[i+1:]
		if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' || utf16.DecodeRune(r, unit(rest[2:])) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

// unit is the UTF-16 unit of four digits.
func unit(digits []byte) rune {
	r := rune(0)
	for _, c := range digits[:4] {
		r = r<<4 | rune(hexadecimal(c))
	}
	return r
}

// rolesAt are the roles at a path: an array of strings, or none.
func rolesAt(record *tree, p path) ([]string, error) {
	if p == nil {
		return nil, nil
	}
	value := record.at(p)
	if kindOf(value) == kindNull {
		return nil, nil
	}
	var values []json.RawMessage
	if kindOf(value) != kindArray || json.Unmarshal(value, &values) != nil {
		return nil, broken("%s is not an array of strings", dotted(p))
	}
	roles := make([]string, len(values))
	for i, value := range values {
		text, ok := "", kindOf(value) == kindString
		if ok {
			text, ok = textOf(value)
		}
		if !ok {
			return nil, broken("%s is not an array of strings", dotted(p))
		}
		roles[i] = text
	}
	return roles, nil
}

// fieldsAt are the application fields of those names, which are paths. A field is a string
// without half of a surrogate pair, a number as it is written, true or false; other values
// are no fields, and nor is a name that is no path.
func fieldsAt(record *tree, names []string) map[string]string {
	var fields map[string]string
	for _, name := range names {
		p, err := parsePath(name)
		if err != nil {
			continue
		}
		if text, ok := fieldOf(record.at(p)); ok {
			if fields == nil {
				fields = make(map[string]string, len(names))
			}
			fields[name] = text
		}
	}
	return fields
}

// ValidateField implements [sessions.Format]: a name is a path.
func (f *Format) ValidateField(name string) error {
	if _, err := parsePath(name); err != nil {
		return fmt.Errorf("field %q is no path into a session: %w", name, err)
	}
	return nil
}

func fieldOf(value json.RawMessage) (string, bool) {
	switch kindOf(value) {
	case kindString:
		return textOf(value)
	case kindNumber:
		return string(value), len(value) <= maxNumber
	case kindBoolean:
		return string(value), true
	}
	return "", false
}

// Fields implements [sessions.Format]: every field at any depth, but for those of the
// cookie and the user's, at most 256.
func (f *Format) Fields(r sessions.ForeignRecord) map[string]string {
	record, err := parse(r)
	if err != nil {
		return nil
	}
	delete(record.object, "cookie")
	fields := make(map[string]string)
	f.collect(record.object, nil, fields)
	for _, p := range []path{f.userID, f.username, f.roles} {
		delete(fields, dotted(p))
	}
	return fields
}

func (f *Format) collect(o object, above []string, fields map[string]string) {
	for name, value := range o {
		at := append(above[:len(above):len(above)], name)
		if inner := objectOf(value); inner != nil {
			f.collect(inner, at, fields)
		} else if text, ok := fieldOf(value); ok && len(fields) < maxFields && f.ValidateField(dotted(at)) == nil {
			fields[dotted(at)] = text
		}
	}
}
