package envoyconfig

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A Value is a part of a configuration. The zero Value is one that is not there, and
// every method can be called on it. Fields are found in both spellings of protobuf's
// JSON: context_extensions and contextExtensions.
type Value struct{ node *yaml.Node }

// Exists reports whether the value is there and not null.
func (v Value) Exists() bool { return v.node != nil }

// Line is where the value stands, from 1, and 0 in JSON, of which machines write long
// lines.
func (v Value) Line() int {
	if v.node == nil {
		return 0
	}
	return v.node.Line
}

// Column is where the value begins in its line, from 1, and 0 in JSON.
func (v Value) Column() int {
	if v.node == nil {
		return 0
	}
	return v.node.Column
}

// Get returns the field of a message, of its field, and so on.
func (v Value) Get(path ...string) Value {
	for _, name := range path {
		v = v.field(name)
	}
	return v
}

func (v Value) field(name string) Value {
	found := v.Entry(name)
	if camel := CamelCase(name); !found.Exists() && camel != name {
		found = v.Entry(camel)
	}
	return found
}

// Entry returns the value of a map's key, spelt exactly so. Of two it is the last, as
// in Envoy.
func (v Value) Entry(key string) Value {
	var found Value
	for k, value := range v.Entries() {
		if k == key {
			found = value
		}
	}
	return found
}

// Entries ranges over the keys of a map or a message, in the order of the text.
func (v Value) Entries() func(yield func(string, Value) bool) {
	return func(yield func(string, Value) bool) {
		if v.node == nil || v.node.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(v.node.Content); i += 2 {
			if !yield(valueOf(v.node.Content[i]).Text(), valueOf(v.node.Content[i+1])) {
				return
			}
		}
	}
}

// Names are the names of a message's fields that are there, in snake_case.
func (v Value) Names() []string {
	var names []string
	for name, value := range v.Entries() {
		if value.Exists() {
			names = append(names, snakeCase(name))
		}
	}
	return names
}

// Items are the elements of a list.
func (v Value) Items() []Value {
	if v.node == nil || v.node.Kind != yaml.SequenceNode {
		return nil
	}
	items := make([]Value, len(v.node.Content))
	for i, node := range v.node.Content {
		items[i] = valueOf(node)
	}
	return items
}

// Texts are the elements of a list of texts.
func (v Value) Texts() []string {
	var texts []string
	for _, item := range v.Items() {
		texts = append(texts, item.Text())
	}
	return texts
}

// Text is a text, a number or a word as it is written; "" for all else.
func (v Value) Text() string {
	if v.node == nil || v.node.Kind != yaml.ScalarNode {
		return ""
	}
	return v.node.Value
}

// Bool reports whether the value is true. In YAML, Envoy takes yes and on for true.
func (v Value) Bool() bool {
	switch strings.ToLower(v.Text()) {
	case "true", "yes", "on", "y":
		return true
	}
	return false
}

// Int is a number, which JSON may have in quotes; 0 for all else.
func (v Value) Int() int64 {
	n, err := strconv.ParseInt(v.Text(), 0, 64)
	if err != nil {
		return 0
	}
	return n
}

// Type is the name of the message that an Any holds, such as
// envoy.extensions.filters.http.ext_authz.v3.ExtAuthz.
func (v Value) Type() string { return typeName(v.Entry("@type").Text()) }

// Unwrapped is the message that an Any holds, and its type: of a TypedStruct, which
// Istio uses, the one inside.
func (v Value) Unwrapped() (message Value, name string) {
	if name = v.Type(); strings.HasSuffix(name, ".TypedStruct") {
		return v.Get("value"), typeName(v.Get("type_url").Text())
	}
	return v, name
}

func typeName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

// valueOf follows an alias. Null is a field that is not there.
func valueOf(node *yaml.Node) Value {
	if node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node == nil || node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return Value{}
	}
	return Value{node}
}

// CamelCase is a field's name in protobuf's JSON.
func CamelCase(name string) string {
	var b strings.Builder
	upper := false
	for i := range len(name) {
		switch c := name[i]; {
		case c == '_':
			upper = true
		case upper && 'a' <= c && c <= 'z':
			b.WriteByte(c - 'a' + 'A')
			upper = false
		default:
			b.WriteByte(c)
			upper = false
		}
	}
	return b.String()
}

func snakeCase(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			b.WriteByte('_')
			b.WriteByte(c - 'A' + 'a')
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
