package envoyconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/internal/strictyaml"
)

// What a text can hold. Aliases of YAML make a small text stand for a large one, so
// nodes are counted as often as they are meant.
const (
	maxNodes = 8 << 20
	maxDepth = 128
)

// Parse reads a bootstrap or a config dump, in YAML or JSON. Its error repeats nothing
// of the text.
func Parse(text []byte) (*Config, error) {
	if len(text) > maxSize {
		return nil, fmt.Errorf("it is larger than %d MiB", maxSize>>20)
	}
	root, err := parse(text)
	if err != nil {
		return nil, err
	}
	return FromValue(root)
}

// FromValue is [Parse] for a text that is read already.
func FromValue(root Value) (*Config, error) {
	if !root.IsConfig() {
		return nil, errors.New("it is neither a bootstrap of Envoy, with static_resources or dynamic_resources, nor a config dump, with configs")
	}
	return newConfig(root), nil
}

// IsConfig reports whether the value is a bootstrap or a config dump.
func (v Value) IsConfig() bool {
	return v.Get("static_resources").Exists() || v.Get("dynamic_resources").Exists() || v.Get("configs").Exists()
}

// parse reads JSON, and YAML, of which JSON is a part that is read much faster.
func parse(text []byte) (Value, error) {
	if trimmed := asJSON(text); trimmed != nil {
		return parseJSON(trimmed)
	}
	d := &strictyaml.Decoder{Secret: true}
	node := d.Document(text)
	if err := d.Err(); err != nil {
		return Value{}, err
	}
	left := maxNodes
	if err := count(node, maxDepth, &left); err != nil {
		return Value{}, err
	}
	return valueOf(node), nil
}

// asJSON is the text without the blanks before it, if it is a JSON object, else nil.
func asJSON(text []byte) []byte {
	if trimmed := bytes.TrimLeft(text, " \t\r\n"); bytes.HasPrefix(trimmed, []byte("{")) && json.Valid(trimmed) {
		return trimmed
	}
	return nil
}

// count refuses a tree that is too large or too deep with its aliases followed, as is
// one whose alias leads back to itself.
func count(node *yaml.Node, depth int, left *int) error {
	if node == nil {
		return nil
	}
	if *left--; *left < 0 || depth < 0 {
		return errors.New("it is nested too deeply, or holds too many values once its aliases are followed")
	}
	if node.Kind == yaml.AliasNode {
		return count(node.Alias, depth-1, left)
	}
	for _, child := range node.Content {
		if err := count(child, depth-1, left); err != nil {
			return err
		}
	}
	return nil
}

// unread are the parts of a config dump that hold the most and say nothing of routes and
// clusters.
var unread = map[string]bool{
	"envoy.admin.v3.EndpointsConfigDump": true,
	"envoy.admin.v3.SecretsConfigDump":   true,
}

// parseJSON makes the nodes that YAML would have. Of a config dump, parts that are
// not read are left out first.
func parseJSON(text []byte) (Value, error) {
	var dump struct {
		Configs []json.RawMessage `json:"configs"`
	}
	if err := json.Unmarshal(text, &dump); err != nil || dump.Configs == nil {
		return decodeJSON(text)
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, part := range dump.Configs {
		var of struct {
			Type string `json:"@type"`
		}
		err := json.Unmarshal(part, &of)
		var value Value
		switch name := typeName(of.Type); {
		case err == nil && unread[name]:
		case err == nil && name == clustersType:
			value, err = outline(part)
		default:
			value, err = decodeJSON(part)
		}
		if err != nil {
			return Value{}, err
		}
		list.Content = append(list.Content, orNull(value))
	}
	return Value{&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalar("configs", "!!str"), list}}}, nil
}

func orNull(v Value) *yaml.Node {
	if v.node == nil {
		return scalar("null", "!!null")
	}
	return v.node
}

func decodeJSON(text []byte) (Value, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	left := maxNodes
	node, err := nextJSON(d, maxDepth, &left)
	if err != nil {
		return Value{}, err
	}
	return valueOf(node), nil
}

// nextJSON reads one value.
func nextJSON(d *json.Decoder, depth int, left *int) (*yaml.Node, error) {
	if *left--; *left < 0 || depth < 0 {
		return nil, errors.New("it is nested too deeply, or holds too many values")
	}
	token, err := d.Token()
	if err != nil {
		return nil, notJSON(err)
	}
	switch token := token.(type) {
	case json.Delim:
		kind := yaml.MappingNode
		if token == '[' {
			kind = yaml.SequenceNode
		}
		return restOfJSON(d, kind, depth, left)
	case string:
		return scalar(token, "!!str"), nil
	case json.Number:
		return scalar(token.String(), "!!int"), nil
	case bool:
		return scalar(fmt.Sprint(token), "!!bool"), nil
	}
	return scalar("null", "!!null"), nil
}

// restOfJSON reads what stands in an object or a list, and its end.
func restOfJSON(d *json.Decoder, kind yaml.Kind, depth int, left *int) (*yaml.Node, error) {
	node := &yaml.Node{Kind: kind}
	for d.More() {
		child, err := nextJSON(d, depth-1, left)
		if err != nil {
			return nil, err
		}
		node.Content = append(node.Content, child)
	}
	if _, err := d.Token(); err != nil {
		return nil, notJSON(err)
	}
	return node, nil
}

func scalar(text, tag string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: text, Tag: tag}
}

// notJSON leaves out what the decoder quotes.
func notJSON(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("it is not JSON, at byte %d", syntax.Offset)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it is JSON that ends too early")
	}
	return errors.New("it is not JSON")
}
