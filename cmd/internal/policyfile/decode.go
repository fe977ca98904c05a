package policyfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
)

// A mistake is one thing that is wrong with a file, and where.
type mistake struct {
	line int
	text string
}

// A decoder reads YAML into Go, strictly, and goes on after a mistake, so that all
// of them are named at once.
type decoder struct {
	mistakes []mistake
}

func (d *decoder) wrong(line int, format string, args ...any) {
	d.mistakes = append(d.mistakes, mistake{line, fmt.Sprintf(format, args...)})
}

// about notes down an error of somebody else, if it is one, line by line.
func (d *decoder) about(line int, err error) {
	if err == nil {
		return
	}
	for text := range strings.SplitSeq(err.Error(), "\n") {
		d.wrong(line, "%s", text)
	}
}

// err names the mistakes in the order of their lines.
func (d *decoder) err() error {
	slices.SortStableFunc(d.mistakes, func(a, b mistake) int { return cmp.Compare(a.line, b.line) })
	var errs []error
	for _, m := range slices.Compact(d.mistakes) {
		errs = append(errs, fmt.Errorf("line %d: %s", m.line, m.text))
	}
	return errors.Join(errs...)
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// document is the one document of a YAML text; nil where there is none.
func (d *decoder) document(text []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		line := 1
		if found := yamlLine.FindStringSubmatch(err.Error()); found != nil {
			line, _ = strconv.Atoi(found[1])
		}
		if strings.Contains(err.Error(), ": did not find expected") {
			line++ // of these the parser counts lines from 0
		}
		d.wrong(line, "it is not YAML%s", grumble(err))
		return nil
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		d.wrong(1, "it holds more than one YAML document")
	}
	return root.Content[0]
}

// grumble is what the parser stumbled over, unless it quotes the file: that may be
// another one than was meant, and hold a key or a password.
func grumble(err error) string {
	_, said, ok := strings.Cut(strings.TrimPrefix(err.Error(), "yaml: "), ": ")
	if !ok || strings.Contains(said, "anchor") || strings.Contains(said, "tag") {
		return ""
	}
	return ": " + said
}

// A reading takes in the value of a key.
type reading func(*yaml.Node)

// object reads a mapping with the given keys, each at most once. It reports
// whether it is one.
func (d *decoder) object(n *yaml.Node, what string, keys map[string]reading) bool {
	if n.Kind != yaml.MappingNode {
		d.wrong(n.Line, "%s is keys with values, and not %s", what, kindOf(n))
		return false
	}
	d.pairs(n, what, func(name, value *yaml.Node) {
		read, known := keys[name.Value]
		switch {
		case !known:
			d.wrong(name.Line, "%s has no key %s%s", what, shown(name.Value), didYouMean(name.Value, slices.Sorted(maps.Keys(keys))))
		case value.Tag == "!!null":
			d.wrong(value.Line, "%s has no value", name.Value)
		default:
			read(value)
		}
	})
	return true
}

// pairs calls do with each key of a mapping, but for a second one of a name.
func (d *decoder) pairs(n *yaml.Node, what string, do func(name, value *yaml.Node)) {
	seen := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		switch {
		case name.Kind != yaml.ScalarNode || name.Tag == "!!merge":
			d.wrong(name.Line, "a key of %s is text, and not %s", what, kindOf(name))
		case seen[name.Value]:
			d.wrong(name.Line, "%s has %s twice", what, shown(name.Value))
		case value.Kind == yaml.AliasNode:
			d.wrong(value.Line, "%s: aliases are not followed; write it out", shown(name.Value))
		default:
			do(name, value)
		}
		seen[name.Value] = true
	}
}

// list calls each with every element of a list.
func (d *decoder) list(what string, each reading) reading {
	return func(n *yaml.Node) {
		if n.Kind != yaml.SequenceNode {
			d.wrong(n.Line, "%s is a list, and not %s", what, kindOf(n))
			return
		}
		for _, element := range n.Content {
			if element.Kind == yaml.AliasNode {
				d.wrong(element.Line, "%s: aliases are not followed; write it out", what)
				continue
			}
			each(element)
		}
	}
}

// texts reads a list of texts; an empty one is not nil.
func (d *decoder) texts(what string, into *[]string) reading {
	return func(n *yaml.Node) {
		if n.Kind == yaml.SequenceNode {
			*into = []string{}
		}
		d.list(what, func(n *yaml.Node) {
			var text string
			d.text(what, &text)(n)
			*into = append(*into, text)
		})(n)
	}
}

// byName reads a mapping whose keys are the users' own.
func (d *decoder) byName(what string, into *map[string]string) reading {
	return func(n *yaml.Node) {
		if n.Kind != yaml.MappingNode {
			d.wrong(n.Line, "%s are names with values, and not %s", what, kindOf(n))
			return
		}
		*into = make(map[string]string)
		d.pairs(n, what, func(name, value *yaml.Node) {
			var text string
			d.text(name.Value, &text)(value)
			(*into)[name.Value] = text
		})
	}
}

func (d *decoder) text(what string, into *string) reading {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
			d.wrong(n.Line, "%s is text, and not %s; put it in quotes", what, kindOf(n))
			return
		}
		*into = n.Value
	}
}

// choice reads text that is one of few.
func (d *decoder) choice(what string, into *string, choices ...string) reading {
	return func(n *yaml.Node) {
		if n.Kind != yaml.ScalarNode || !slices.Contains(choices, n.Value) {
			d.wrong(n.Line, "%s: %s is none of %s", what, shown(n.Value), strings.Join(choices, ", "))
			return
		}
		*into = n.Value
	}
}

func (d *decoder) boolean(what string, into *bool) reading {
	return func(n *yaml.Node) {
		if n.Tag != "!!bool" || n.Decode(into) != nil {
			d.wrong(n.Line, "%s is true or false, and not %s", what, kindOf(n))
		}
	}
}

func (d *decoder) number(what string, into *int) reading {
	return func(n *yaml.Node) {
		if n.Tag != "!!int" || n.Decode(into) != nil {
			d.wrong(n.Line, "%s is a whole number, and not %s", what, kindOf(n))
		}
	}
}

// duration takes Go's notation, as the configuration does.
func (d *decoder) duration(what string, into *time.Duration) reading {
	return func(n *yaml.Node) {
		parsed, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil {
			d.wrong(n.Line, "%s: %s is not a duration like 150ms, 30m or 12h", what, shown(n.Value))
			return
		}
		*into = parsed
	}
}

// kindOf says what stands there, in a word or two.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "keys with values"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if n.Tag == "!!null" {
		return "nothing"
	}
	return shown(n.Value)
}

// shown is what somebody wrote, on one line and not too long.
func shown(text string) string {
	if len(text) > 64 {
		text = text[:64] + "..."
	}
	if text == "" || !strconv.CanBackquote(text) {
		return strconv.Quote(text)
	}
	return text
}

// didYouMean is the end of a sentence about an unknown name.
func didYouMean(name string, known []string) string {
	if near := config.Nearest(name, known); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
