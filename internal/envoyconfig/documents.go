package envoyconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Documents reads a text of at most 64 MiB with any number of YAML documents, such as
// the manifests of Kubernetes, or one of JSON. Empty documents are left out. Its error
// repeats nothing of the text.
func Documents(text []byte) ([]Value, error) {
	if len(text) > maxSize {
		return nil, fmt.Errorf("it is larger than %d MiB", maxSize>>20)
	}
	if trimmed := asJSON(text); trimmed != nil {
		root, err := parseJSON(trimmed)
		return []Value{root}, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	left := maxNodes
	var found []Value
	for {
		var root yaml.Node
		switch err := decoder.Decode(&root); {
		case errors.Is(err, io.EOF):
			return found, nil
		case err != nil:
			return nil, fmt.Errorf("line %d: it is not YAML", lineOf(err))
		}
		if err := count(&root, maxDepth, &left); err != nil {
			return nil, err
		}
		if len(root.Content) == 1 && valueOf(root.Content[0]).Exists() {
			found = append(found, valueOf(root.Content[0]))
		}
	}
}

// lineOf is the line that a parser's error names.
func lineOf(err error) int {
	_, after, _ := bytes.Cut([]byte(err.Error()), []byte("line "))
	digits := after[:len(after)-len(bytes.TrimLeft(after, "0123456789"))]
	line, err := strconv.Atoi(string(digits))
	if err != nil {
		return 1
	}
	return line
}

// Embedded reads the YAML that a text holds, as in a ConfigMap. Lines are those of the
// file that the text stands in.
func (v Value) Embedded() (Value, error) {
	documents, err := Documents([]byte(v.Text()))
	if err != nil || len(documents) == 0 {
		return Value{}, err
	}
	shift(documents[0].node, v.node, maxDepth)
	return documents[0], nil
}

// shift moves the lines of a tree to where its text stands. Only the text of a block
// that begins with | has a line for each of its own; all else gets the block's line.
func shift(node, block *yaml.Node, depth int) {
	if node == nil || depth < 0 {
		return
	}
	switch {
	case block.Line == 0:
		node.Line, node.Column = 0, 0
	case block.Style&yaml.LiteralStyle != 0:
		node.Line += block.Line
	default:
		node.Line, node.Column = block.Line, block.Column
	}
	for _, child := range node.Content {
		shift(child, block, depth-1)
	}
}

// Paths are the places of values below root, as JSON paths such as
// static_resources.listeners[0].name. One that is not found is "".
func Paths(root Value, values []Value) []string {
	paths := make([]string, len(values))
	wanted := make(map[*yaml.Node][]int)
	for i, v := range values {
		if v.node != nil {
			wanted[v.node] = append(wanted[v.node], i)
		}
	}
	w := &walker{paths: paths, wanted: wanted, left: maxNodes}
	w.walk(root.node, "", maxDepth)
	return paths
}

type walker struct {
	paths  []string
	wanted map[*yaml.Node][]int
	left   int
}

// walk visits a tree until each value is found, the first of several places.
func (w *walker) walk(node *yaml.Node, at string, depth int) {
	if w.left--; node == nil || len(w.wanted) == 0 || w.left < 0 || depth < 0 {
		return
	}
	if found, ok := w.wanted[node]; ok {
		for _, i := range found {
			w.paths[i] = at
		}
		delete(w.wanted, node)
	}
	switch node.Kind {
	case yaml.AliasNode:
		w.walk(node.Alias, at, depth-1)
	case yaml.SequenceNode:
		for i, child := range node.Content {
			w.walk(child, at+"["+strconv.Itoa(i)+"]", depth-1)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			w.walk(node.Content[i+1], step(at, node.Content[i].Value), depth-1)
		}
	}
}

// step adds a key to a path; one that is no plain word stands in brackets.
func step(at, key string) string {
	plain := key != ""
	for _, c := range []byte(key) {
		plain = plain && (c == '_' || c == '-' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z')
	}
	switch {
	case !plain:
		return at + "[" + strictQuote(key) + "]"
	case at == "":
		return key
	}
	return at + "." + key
}
