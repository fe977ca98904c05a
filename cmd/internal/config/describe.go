package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/coatcheck/coatcheck/internal/strictyaml"
)

// A Key describes one setting in help, completion and the reference.
type Key struct {
	Name     string // in the file, with dots for sections
	Variable string
	Flag     string // without the dashes in front; empty for a secret
	Default  string // empty: no default
	Example  string // of a required setting without a default
	Kind     string // text, number, ...
	Meaning  string
	Choices  []string // all values that it can have; nil: any of its kind
	File     bool     // names a file
	List     bool
	Secret   bool
	Common   bool // one of the few that most operators need
}

// Keys describes every setting, in the order of the reference.
func Keys() []Key {
	var all []Key
	for _, k := range new(Config).keys() {
		d := Key{
			Name: k.name, Variable: k.variable(), Flag: k.flag(), Default: k.fallback(),
			Example: k.example, Kind: string(k.value.kind), Meaning: k.meaning(), Choices: k.value.choices,
			File: k.value.kind == isFile, List: k.value.kind == isList, Secret: k.secret, Common: k.common,
		}
		if k.secret {
			d.Flag = ""
		}
		all = append(all, d)
	}
	return all
}

// fallback is the default as text.
func (k key) fallback() string {
	if list, ok := k.value.fallback.([]string); ok {
		return strings.Join(list, ",")
	}
	s := fmt.Sprint(k.value.fallback)
	if k.value.kind == isDuration { // 30m and 12h rather than 30m0s and 12h0m0s
		s = strings.Replace(s, "m0s", "m", 1)
		s = strings.Replace(s, "h0m", "h", 1)
	}
	return s
}

// meaning is the usage with the choices, if there are some.
func (k key) meaning() string {
	if k.value.kind != isChoice {
		return k.usage
	}
	last := len(k.value.choices) - 1
	return k.usage + ": " + strings.Join(k.value.choices[:last], ", ") + " or " + k.value.choices[last]
}

// About adds to an error the keys that it is about, each with its variable and its
// flag, because the operator may have set the value by any of them. It returns nil
// for nil.
func About(err error, names ...string) error {
	if err == nil {
		return nil
	}
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = inFull(name)
	}
	return fmt.Errorf("%s: %w", strings.Join(keys, ", "), err)
}

// inFull is a key's name with its variable and its flag. Of a section it is the name
// alone.
func inFull(name string) string {
	for _, k := range Keys() {
		switch {
		case k.Name != name:
		case k.Flag == "":
			return fmt.Sprintf("%s (%s)", k.Name, k.Variable)
		default:
			return fmt.Sprintf("%s (%s, --%s)", k.Name, k.Variable, k.Flag)
		}
	}
	return strictyaml.Quote(name)
}

// oneLine joins the lines of an error.
func oneLine(err error) error {
	if err == nil || !strings.Contains(err.Error(), "\n") {
		return err
	}
	return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
}
