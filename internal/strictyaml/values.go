package strictyaml

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/internal/suggest"
)

// A Reader reads the value of a key, or an element of a list. What names the value
// in mistakes.
type Reader func(*yaml.Node)

// Object reads a mapping with the given keys, each at most once, and reports whether
// n is a mapping. What names it in mistakes, as in "a policy".
func (d *Decoder) Object(n *yaml.Node, what string, keys map[string]Reader) bool {
	if n.Kind != yaml.MappingNode {
		d.Wrong(n.Line, "%s is keys with values, and not %s", what, d.kindOf(n))
		return false
	}
	d.pairs(n, what, keys, func(name, value *yaml.Node) {
		read, known := keys[name.Value]
		switch {
		case !known:
			d.unknown(name, what, slices.Sorted(maps.Keys(keys)))
		case value.Tag == "!!null":
			d.Wrong(value.Line, "%s has no value", name.Value)
		default:
			read(value)
		}
	})
	return true
}

func (d *Decoder) unknown(name *yaml.Node, what string, known []string) {
	end := suggest.DidYouMean(name.Value, known)
	if !d.Secret {
		d.Wrong(name.Line, "%s has no key %s%s", what, Excerpt(name.Value), end)
		return
	}
	if end == "" {
		end = "; it has " + strings.Join(known, ", ")
	}
	d.Wrong(name.Line, "%s has no such key%s", what, end)
}

// Pairs calls do with each key of a mapping, except a second one of the same name,
// and reports whether n is a mapping.
func (d *Decoder) Pairs(n *yaml.Node, what string, do func(name, value *yaml.Node)) bool {
	if n.Kind != yaml.MappingNode {
		d.Wrong(n.Line, "%s are names with values, and not %s", what, d.kindOf(n))
		return false
	}
	d.pairs(n, what, nil, do)
	return true
}

func (d *Decoder) pairs(n *yaml.Node, what string, known map[string]Reader, do func(name, value *yaml.Node)) {
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		shown := Excerpt(name.Value)
		if d.Secret && known[name.Value] == nil {
			shown = "a key"
		}
		switch {
		case name.Kind != yaml.ScalarNode || name.Tag == "!!merge":
			d.Wrong(name.Line, "a key of %s is text, and not %s", what, d.kindOf(name))
		case seen[name.Value]:
			d.Wrong(name.Line, "%s has %s twice", what, shown)
		case value.Kind == yaml.AliasNode:
			d.Wrong(value.Line, "%s: aliases are not followed; write it out", shown)
		default:
			do(name, value)
		}
		seen[name.Value] = true
	}
}

// List calls each with every element of a list.
func (d *Decoder) List(what string, each Reader) Reader {
	return func(n *yaml.Node) {
		if n.Kind != yaml.SequenceNode {
			d.Wrong(n.Line, "%s is a list, and not %s", what, d.kindOf(n))
			return
		}
		for _, element := range n.Content {
			if element.Kind == yaml.AliasNode {
				d.Wrong(element.Line, "%s: aliases are not followed; write it out", what)
				continue
			}
			each(element)
		}
	}
}

// Texts reads a list of texts; an empty list is not nil.
func (d *Decoder) Texts(what string, into *[]string) Reader {
	return func(n *yaml.Node) {
		if n.Kind == yaml.SequenceNode {
			*into = []string{}
		}
		d.List(what, func(n *yaml.Node) {
			var text string
			d.Text(what, &text)(n)
			*into = append(*into, text)
		})(n)
	}
}

// TextsByName reads a mapping whose keys are the author's own.
func (d *Decoder) TextsByName(what string, into *map[string]string) Reader {
	return func(n *yaml.Node) {
		texts := make(map[string]string)
		if d.Pairs(n, what, func(name, value *yaml.Node) {
			one := name.Value
			if d.Secret {
				one = "a value of " + what
			}
			var text string
			d.Text(one, &text)(value)
			texts[name.Value] = text
		}) {
			*into = texts
		}
	}
}

// Text reads a text. A number is not one, because YAML may write it differently than
// the author did.
func (d *Decoder) Text(what string, into *string) Reader {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
			d.Wrong(n.Line, "%s is text, and not %s; put it in quotes", what, d.kindOf(n))
			return
		}
		*into = n.Value
	}
}

// Choice reads a text that must be one of the choices.
func (d *Decoder) Choice(what string, into *string, choices ...string) Reader {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || !slices.Contains(choices, n.Value) {
			d.Wrong(n.Line, "%s: %s is not one of %s", what, d.kindOf(n), strings.Join(choices, ", "))
			return
		}
		*into = n.Value
	}
}

// Bool reads true or false.
func (d *Decoder) Bool(what string, into *bool) Reader {
	return func(n *yaml.Node) {
		if n.Tag != "!!bool" || n.Decode(into) != nil {
			d.Wrong(n.Line, "%s is true or false, and not %s", what, d.kindOf(n))
		}
	}
}

// Int reads a whole number.
func (d *Decoder) Int(what string, into *int) Reader {
	return func(n *yaml.Node) {
		if n.Tag != "!!int" || n.Decode(into) != nil {
			d.Wrong(n.Line, "%s is a whole number, and not %s", what, d.kindOf(n))
		}
	}
}

// Duration reads Go's notation, as the configuration does.
func (d *Decoder) Duration(what string, into *time.Duration) Reader {
	return func(n *yaml.Node) {
		parsed, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			d.Wrong(n.Line, "%s: %s is not a duration like 150ms, 30m or 12h", what, d.kindOf(n))
			return
		}
		*into = parsed
	}
}

// kindOf says what stands in a place, in a word or two.
func (d *Decoder) kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case n.Tag == "!!null":
		return "nothing"
	case d.Secret:
		return "another value"
	}
	return Excerpt(n.Value)
}
