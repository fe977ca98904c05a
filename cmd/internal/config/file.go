package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/internal/filekind"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
	"github.com/coatcheck/coatcheck/internal/suggest"
)

// parse reads the one document of a YAML file. Its error repeats no value, because
// that may be a password.
func parse(text []byte) (map[string]any, error) {
	d := &strictyaml.Decoder{Secret: true}
	tree := make(map[string]any)
	switch root := d.Document(text); {
	case root == nil || root.Tag == "!!null" || d.Count() > 0:
	case filekind.Misplaced(root, filekind.Configuration) != "":
		d.Wrong(root.Line, "%s", filekind.Misplaced(root, filekind.Configuration))
	case root.Kind != yaml.MappingNode:
		d.Wrong(root.Line, "it is not keys with values")
	default:
		if err := root.Decode(&tree); err != nil {
			d.Wrong(unreadable(err))
		}
	}
	return tree, d.Err()
}

var lineNumber = regexp.MustCompile(`line (\d+)`)

// unreadable is the line of a decoder's error, and what it says without the values
// that it quotes.
func unreadable(err error) (line int, what string) {
	line, what = 1, "it is not YAML with keys and values"
	if found := lineNumber.FindStringSubmatch(err.Error()); found != nil {
		line, _ = strconv.Atoi(found[1])
	}
	if strings.Contains(err.Error(), "already defined at line") {
		what = "it has a key twice"
	}
	return line, what
}

// An entry is a key of the file, by its full name in lower case.
type entry struct {
	name  string
	value any // nil for a section without keys, too
}

// entries lists the keys of a section. Viper alone would pass over a section that is
// empty, or that comes twice, in upper and in lower case.
func entries(section map[string]any, prefix string) []entry {
	var all []entry
	for name, value := range section {
		name = prefix + strings.ToLower(name)
		inner, _ := value.(map[string]any)
		if other, ok := value.(map[any]any); ok { // with a key that is not text
			inner = make(map[string]any)
			for name, value := range other {
				inner[fmt.Sprint(name)] = value
			}
		}
		if len(inner) > 0 {
			all = append(all, entries(inner, name+".")...)
		} else {
			if inner != nil {
				value = nil
			}
			all = append(all, entry{name, value})
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return all
}

// misplaced returns what is wrong with the place of the file's i-th key. It does not
// name keys below a value, because they may be a password in braces.
func misplaced(keys []key, inFile []entry, i int) error {
	e := inFile[i]
	for _, k := range keys {
		switch {
		case e.value == nil && (k.name == e.name || strings.HasPrefix(k.name, e.name+".")):
			return About(errors.New("it has no value"), e.name)
		case k.name == e.name && i > 0 && inFile[i-1].name == e.name:
			return About(errors.New("it is there twice"), e.name)
		case k.name == e.name:
			return nil
		case strings.HasPrefix(e.name, k.name+"."):
			return About(errors.New("it takes a value, and no keys below it"), k.name)
		case strings.HasPrefix(k.name, e.name+"."):
			return About(errors.New("it takes keys below it, and no value"), e.name)
		}
	}
	return fmt.Errorf("%s: unknown key%s", strictyaml.Quote(e.name), meant(e.name, names(keys, key.inFile)))
}

// meant is the end of a sentence about an unknown key: a key that is spelt nearly so, or
// the one key that a wrong indentation has put into another section, or out of its own.
func meant(name string, known []string) string {
	if near := suggest.DidYouMean(name, known); near != "" {
		return near
	}
	for outer := name; outer != ""; {
		_, outer, _ = strings.Cut(outer, ".")
		if slices.Contains(known, outer) {
			return "; did you mean " + outer + "?"
		}
	}
	last := name[strings.LastIndex(name, ".")+1:]
	elsewhere := slices.DeleteFunc(slices.Clone(known), func(k string) bool { return !strings.HasSuffix(k, "."+last) })
	if len(elsewhere) == 1 {
		return "; did you mean " + elsewhere[0] + "?"
	}
	return ""
}
