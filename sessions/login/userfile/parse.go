package userfile

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// The keys of a user in a users file.
var userKeys = []string{"id", "username", "password_hash", "roles", "attributes"}

var lineNumber = regexp.MustCompile(`line \d+`)

// A parser gathers users and mistakes. It reads the tree of nodes and not into a
// struct, because the errors of the YAML decoder quote values.
type parser struct {
	accounts  map[string]passwords.Account // by the username in lower case
	ids       map[string]int               // the line of each
	usernames map[string]int               // in lower case, the line of each
	mistakes  []error
	bytes     int64 // of memory that a hash may take; 0: any number
}

// parse reads a list of users, by their usernames in lower case. No hash may take
// more bytes of memory, unless bytes is 0.
func parse(text string, bytes int64) (map[string]passwords.Account, error) {
	list, err := listOf(text)
	if err != nil {
		return nil, err
	}
	p := parser{bytes: bytes, accounts: make(map[string]passwords.Account), ids: make(map[string]int), usernames: make(map[string]int)}
	for _, item := range list.Content {
		p.user(item)
	}
	if len(p.mistakes) == 1 {
		return nil, p.mistakes[0]
	}
	if len(p.mistakes) > 1 {
		return nil, fmt.Errorf("it has %d mistakes:\n  %s", len(p.mistakes), strings.ReplaceAll(errors.Join(p.mistakes...).Error(), "\n", "\n  "))
	}
	return p.accounts, nil
}

// listOf is the list that the one document of the file is. An empty file
// is a mistake: it is more likely a file that is being written.
func listOf(text string) (*yaml.Node, error) {
	var document yaml.Node
	decoder := yaml.NewDecoder(strings.NewReader(text))
	if err := decoder.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		// The parser may quote what it stumbled over.
		return nil, errors.New(strings.TrimSpace("it is not YAML " + lineNumber.FindString(err.Error())))
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one YAML document")
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.SequenceNode || len(document.Content[0].Content) == 0 {
		return nil, errors.New("it is not a list of users, each with id, username and password_hash")
	}
	return document.Content[0], nil
}

func (p *parser) mistake(at *yaml.Node, format string, args ...any) {
	p.mistakes = append(p.mistakes, fmt.Errorf("line %d: %w", at.Line, fmt.Errorf(format, args...)))
}

// user reads one entry, and keeps it if it is right.
func (p *parser) user(entry *yaml.Node) {
	before := len(p.mistakes)
	values := p.keys(entry, "a user", userKeys)
	var a passwords.Account
	a.ID = p.text(entry, values, "id", sessions.MaxUserID)
	a.Username = p.text(entry, values, "username", sessions.MaxUserID)
	a.Hash = p.text(entry, values, "password_hash", passwords.MaxHash)
	if a.Hash != "" {
		p.hash(values["password_hash"], a.Hash)
	}
	p.once(p.ids, values["id"], "id", a.ID)
	p.once(p.usernames, values["username"], "username", strings.ToLower(a.Username))
	a.Roles = p.roles(values["roles"])
	a.Attributes = p.attributes(values["attributes"])
	if len(p.mistakes) == before {
		p.accounts[strings.ToLower(a.Username)] = a
	}
}

func (p *parser) hash(n *yaml.Node, text string) {
	kind, err := passwords.KindOf(text)
	switch {
	case err != nil:
		p.mistake(n, "password_hash: %w", err)
	case p.bytes > 0 && kind.Bytes() > p.bytes:
		p.mistake(n, "password_hash: it takes %d KiB of memory, and hashes may take %d KiB; raise login.hash_memory, or set the password anew",
			kind.Bytes()>>10, p.bytes>>10)
	}
}

// repeated is a key to repeat in a mistake, unless it may be a hash in the
// wrong place.
func repeated(key string) string {
	if len(key) > 64 || strings.Contains(key, "$") {
		return ""
	}
	return fmt.Sprintf(" %q", key)
}

// keys takes a mapping apart. Where known is not nil, other keys are mistakes.
func (p *parser) keys(n *yaml.Node, what string, known []string) map[string]*yaml.Node {
	values := make(map[string]*yaml.Node)
	if n.Kind != yaml.MappingNode {
		p.mistake(n, "%s is not keys with values", what)
		return values
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case known != nil && !slices.Contains(known, key.Value):
			p.mistake(key, "unknown key%s; a user has %s", repeated(key.Value), strings.Join(known, ", "))
		case key.Kind != yaml.ScalarNode:
			p.mistake(key, "a key of %s is not a text", what)
		case values[key.Value] != nil:
			p.mistake(key, "key%s is there twice", repeated(key.Value))
		default:
			values[key.Value] = value
		}
	}
	return values
}

// text is the value of a key that a user must have.
func (p *parser) text(entry *yaml.Node, values map[string]*yaml.Node, key string, limit int) string {
	n := values[key]
	if n == nil {
		if entry.Kind == yaml.MappingNode {
			p.mistake(entry, "%s is missing", key)
		}
		return ""
	}
	return p.scalar(n, key, limit)
}

// scalar is a text, or a number as it is written. What it holds is not repeated.
func (p *parser) scalar(n *yaml.Node, what string, limit int) string {
	switch {
	case n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Tag == "!!binary":
		p.mistake(n, "%s is not a text", what)
	case n.Value == "":
		p.mistake(n, "%s is empty", what)
	case len(n.Value) > limit:
		p.mistake(n, "%s is longer than %d bytes", what, limit)
	case strings.ContainsFunc(n.Value, unicode.IsControl):
		p.mistake(n, "%s has control characters", what)
	case strings.TrimSpace(n.Value) != n.Value:
		p.mistake(n, "%s has blanks around it", what)
	default:
		return n.Value
	}
	return ""
}

func (p *parser) once(lines map[string]int, n *yaml.Node, key, value string) {
	if value == "" {
		return
	}
	if line, ok := lines[value]; ok {
		p.mistake(n, "%s is the same as in line %d", key, line)
		return
	}
	lines[value] = n.Line
}

func (p *parser) roles(n *yaml.Node) []string {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		p.mistake(n, "roles is not a list")
		return nil
	}
	if len(n.Content) > sessions.MaxRoles {
		p.mistake(n, "roles has more than %d names", sessions.MaxRoles)
	}
	var roles []string
	for _, item := range n.Content {
		roles = append(roles, p.scalar(item, "a role", sessions.MaxRole))
	}
	return roles
}

func (p *parser) attributes(n *yaml.Node) map[string]string {
	if n == nil {
		return nil
	}
	attributes := make(map[string]string)
	values := p.keys(n, "attributes", nil)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		switch err := sessions.ValidateFieldName(name); {
		case errors.Is(err, sessions.ErrReserved):
			p.mistake(value, "attribute%s has a reserved name", repeated(name))
		case err != nil:
			p.mistake(value, "an attribute's name has not 1 to %d bytes without control characters", sessions.MaxFieldName)
		case value.Kind != yaml.ScalarNode || value.Tag == "!!null" || value.Tag == "!!binary":
			p.mistake(value, "attribute%s is not a text", repeated(name))
		case len(value.Value) > sessions.MaxFieldValue:
			p.mistake(value, "attribute%s is longer than %d bytes", repeated(name), sessions.MaxFieldValue)
		default:
			attributes[name] = value.Value
		}
	}
	return attributes
}
