package story

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// An Attribute is a name and a value of a [Line].
type Attribute struct {
	Name string
	// Value is the value as text: a list is its values with commas between them, a
	// duration is in the form of [time.Duration], an object is JSON.
	Value string
}

// Attributes are an object in JSON, in their order.
type Attributes []Attribute

// MarshalJSON makes the object.
func (a Attributes) MarshalJSON() ([]byte, error) {
	text := []byte("{")
	for i, each := range a {
		if i > 0 {
			text = append(text, ',')
		}
		name, _ := json.Marshal(each.Name) // no string is an error
		value, _ := json.Marshal(each.Value)
		text = append(append(append(text, name...), ':'), value...)
	}
	return append(text, '}'), nil
}

// A Line is a line of a log that slog wrote, in either form.
type Line struct {
	Time       time.Time
	Message    string
	Attributes Attributes // the others, the level among them, in their order
}

// Get returns the value of an attribute, and empty if the line has no such attribute.
func (l Line) Get(name string) string {
	if i := slices.IndexFunc(l.Attributes, func(a Attribute) bool { return a.Name == name }); i >= 0 {
		return l.Attributes[i].Value
	}
	return ""
}

// The errors of [Parse].
var (
	// ErrForeign says that another program wrote the line.
	ErrForeign = errors.New("the line is another program's")
	// ErrUnreadable says that the line looks like slog's and is cut or changed.
	ErrUnreadable = errors.New("the line is cut or changed")
)

// Parse reads a line, without its line end, in the JSON form or the text form of slog.
// It also takes off what kubectl logs --prefix and --timestamps, docker compose logs,
// CRI, Docker's json-file and journalctl put in front or around.
//
// What is in front must be one of these: else a client could have its User-Agent, which
// an access log in the same stream repeats, read as a line of ours.
func Parse(text []byte) (Line, error) {
	line, err := parse(bytes.TrimSpace(text))
	if inner := line.Get("log"); err == nil && line.Message == "" && inner != "" && line.Get("stream") != "" { // Docker's
		line, err = parse([]byte(strings.TrimSpace(inner)))
	}
	if err == nil && (line.Message == "" || line.Time.IsZero()) {
		err = ErrForeign
	}
	return line, err
}

// before are the known texts in front of a line.
var before = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`\[pod/[a-z0-9./-]+\] (?:\d{4}-[0-9T:.+-]+Z? )?`,                                      // kubectl logs --prefix
	`\d{4}-[0-9T:.+-]+Z? (?:std(?:out|err) F )?`,                                          // kubectl logs --timestamps, docker logs -t; CRI
	`[a-zA-Z0-9_.-]+ +\| +(?:\d{4}-[0-9T:.+-]+Z? )?`,                                      // docker compose logs
	`[A-Z][a-z]{2} [ 0-9]\d [0-9:]{8}(?:\.\d+)? [a-zA-Z0-9_.-]+ [a-zA-Z0-9_.-]+\[\d+\]: `, // journalctl
}, "|") + `)(?:\{|time=)`)

func parse(text []byte) (Line, error) {
	switch {
	case bytes.HasPrefix(text, []byte("{")):
		return parseJSON(text)
	case bytes.HasPrefix(text, []byte("time=")):
		return parseText(text)
	}
	found := before.FindIndex(text)
	if found == nil {
		return Line{}, ErrForeign
	}
	at := found[1] - len("{")
	if text[at] != '{' {
		at = found[1] - len("time=")
	}
	return parse(text[at:])
}

// take reports whether an attribute has a field of its own, and sets that.
func (l *Line) take(name, value string) (bool, error) {
	switch name {
	case "time":
		t, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return true, ErrForeign // of a program with other times
		}
		l.Time = t
	case "msg":
		l.Message = value
	default:
		return false, nil
	}
	return true, nil
}

// maxAttributes is far above what a line of Coatcheck has.
const maxAttributes = 256

// add takes an attribute. Where a name comes twice the last one counts, as elsewhere
// in JSON.
func (l *Line) add(name, value string) error {
	if taken, err := l.take(name, value); taken {
		return err
	}
	a := Attribute{Name: name, Value: readable(name, value)}
	if i := slices.IndexFunc(l.Attributes, func(other Attribute) bool { return other.Name == name }); i >= 0 {
		l.Attributes[i] = a
		return nil
	}
	if len(l.Attributes) == maxAttributes {
		return ErrForeign
	}
	l.Attributes = append(l.Attributes, a)
	return nil
}

// readable writes the nanoseconds of the JSON form as the text form has them.
func readable(name, value string) string {
	if !strings.HasSuffix(name, "duration") {
		return value
	}
	if d, err := time.ParseDuration(value + "ns"); err == nil {
		return d.String()
	}
	return value
}

// idCharacters are those of a session ID, which has 43 of them.
const idCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// longWord is text that can hold a session ID.
var longWord = regexp.MustCompile(`[A-Za-z0-9_-]{43,}`)

// hidden takes session IDs out of a text: Coatcheck has done so before it logged, and
// other programs may not have.
func hidden(text string) string {
	if len(text) < 43 {
		return text
	}
	return longWord.ReplaceAllLiteralString(text, sessions.ID{}.String())
}
