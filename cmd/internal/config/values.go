package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
)

// A value parses what one source says and stores it in the Config. What cannot be
// parsed changes nothing.
type value struct {
	kind     kind
	fallback any
	choices  []string // all values that it can have; nil: any of its kind
	set      func(any) error
	get      func() any
}

// asYAML is the value as a file has it: numbers and words without quotes, except the
// words that YAML would take for something else.
func (v value) asYAML() any {
	text, _ := v.get().(string)
	switch v.kind {
	case isNumber:
		if n, err := strconv.Atoi(text); err == nil {
			return n
		}
	case isBoolean:
		return text == "true"
	}
	return v.get()
}

// A kind is the form of a value in help and reference.
type kind string

const (
	isText     kind = "text"
	isFile     kind = "file"
	isList     kind = "a,b"
	isNumber   kind = "number"
	isDuration kind = "duration"
	isBoolean  kind = "true|false"
	isChoice   kind = "word"
)

func text(p *string, fallback string) value {
	return value{isText, fallback, nil, func(raw any) error {
		s, ok := raw.(string)
		if !ok {
			return notText(raw)
		}
		*p = s
		return nil
	}, func() any { return *p }}
}

// file is the path of a file, or empty.
func file(p *string) value {
	v := text(p, "")
	v.kind = isFile
	return v
}

// ofSource is the value of a key of a source of users.
func ofSource(values usersource.Values, k usersource.Key) value {
	var s string
	v := text(&s, "")
	if k.File {
		v = file(&s)
	}
	set := v.set
	v.set = func(raw any) error {
		err := set(raw)
		delete(values, k.Name)
		if s != "" {
			values[k.Name] = s
		}
		return err
	}
	v.get = func() any { return values[k.Name] }
	return v
}

// choice is one of a few words.
func choice(p *string, fallback string, choices ...string) value {
	v := text(p, fallback)
	set := v.set
	v.kind, v.choices = isChoice, choices
	v.set = func(raw any) error {
		if s, ok := raw.(string); ok && !slices.Contains(choices, s) {
			return fmt.Errorf("%q is not one of %s", s, strings.Join(choices, ", "))
		}
		return set(raw)
	}
	return v
}

func boolean(p *bool, fallback bool) value {
	v := parsed(isBoolean, p, fallback, strconv.ParseBool, "neither true nor false")
	v.choices = []string{"true", "false"}
	return v
}

func integer(p *int, fallback int) value {
	return parsed(isNumber, p, fallback, strconv.Atoi, "not a whole number")
}

// duration takes Go's notation. A bare number is refused, because its unit would be a
// guess.
func duration(p *time.Duration, fallback time.Duration) value {
	return parsed(isDuration, p, fallback, time.ParseDuration, "not a duration like 150ms, 30m or 12h")
}

// parsed is a value with a text form.
func parsed[T any](kind kind, p *T, fallback T, parse func(string) (T, error), wrong string) value {
	return value{kind, fmt.Sprint(fallback), nil, func(raw any) error {
		parsed, err := parse(fmt.Sprint(raw))
		if err != nil {
			return fmt.Errorf("%s is %s", excerpt(raw), wrong)
		}
		*p = parsed
		return nil
	}, func() any { return fmt.Sprint(*p) }}
}

// list takes a list from the file, and text with commas from other sources.
func list(p *[]string) value {
	return value{isList, []string{}, nil, func(raw any) error {
		items, err := itemsOf(raw)
		if err != nil {
			return err
		}
		*p = nil
		for _, item := range items {
			if item = strings.TrimSpace(item); item != "" {
				*p = append(*p, item)
			}
		}
		return nil
	}, func() any { return append([]string{}, *p...) }}
}

func itemsOf(raw any) ([]string, error) {
	switch raw := raw.(type) {
	case []string:
		return raw, nil
	case string:
		return strings.Split(raw, ","), nil
	case []any:
		var items []string
		for _, item := range raw {
			s, ok := item.(string)
			if !ok {
				return nil, notText(item)
			}
			items = append(items, s)
		}
		return items, nil
	}
	return nil, fmt.Errorf("%s is not a list", excerpt(raw))
}

func notText(raw any) error {
	return fmt.Errorf("%s is not text; put it in quotes", excerpt(raw))
}

// excerpt is a raw value in a message: on one line and not too long.
func excerpt(raw any) string { return strictyaml.Excerpt(fmt.Sprint(raw)) }
