package userfile

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/internal/filekind"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// A parser gathers users and mistakes, which repeat no value of the file.
type parser struct {
	strictyaml.Decoder
	accounts  map[string]passwords.Account // by the username in lower case
	ids       map[string]int               // the line of each
	usernames map[string]int               // in lower case, the line of each
	bytes     int64                        // of memory that a hash may take; 0: any number
}

// parse reads a list of users, by their usernames in lower case. No hash may take
// more bytes of memory, unless bytes is 0. An empty list is a mistake: it is more
// likely a file that is being written.
func parse(text []byte, bytes int64) (map[string]passwords.Account, error) {
	p := &parser{Decoder: strictyaml.Decoder{Secret: true}, bytes: bytes,
		accounts: make(map[string]passwords.Account), ids: make(map[string]int), usernames: make(map[string]int)}
	switch list := p.Document(text); {
	case p.Count() > 0:
	case list != nil && filekind.Misplaced(list, filekind.Users) != "":
		p.Wrong(list.Line, "%s", filekind.Misplaced(list, filekind.Users))
	case list == nil || list.Kind != yaml.SequenceNode || len(list.Content) == 0:
		p.Wrong(1, "it is not a list of users, each with id, username and password_hash")
	default:
		p.List("the list of users", p.user)(list)
	}
	return p.accounts, p.Err()
}

// user reads one entry, and keeps it if it has no mistake.
func (p *parser) user(entry *yaml.Node) {
	before := p.Count()
	var a passwords.Account
	text := func(key string, limit int, into *string, check func(*yaml.Node)) strictyaml.Reader {
		return func(n *yaml.Node) {
			if *into = p.scalar(n, key, limit); *into != "" {
				check(n)
			}
		}
	}
	ok := p.Object(entry, "a user", map[string]strictyaml.Reader{
		"id":            text("id", sessions.MaxUserID, &a.ID, func(n *yaml.Node) { p.once(p.ids, n, "id", a.ID) }),
		"username":      text("username", sessions.MaxUserID, &a.Username, func(n *yaml.Node) { p.once(p.usernames, n, "username", strings.ToLower(a.Username)) }),
		"password_hash": text("password_hash", passwords.MaxHash, &a.Hash, func(n *yaml.Node) { p.hash(n, a.Hash) }),
		"roles":         func(n *yaml.Node) { a.Roles = p.roles(n) },
		"attributes":    func(n *yaml.Node) { a.Attributes = p.attributes(n) },
	})
	for _, key := range []string{"id", "username", "password_hash"} {
		if ok && !has(entry, key) {
			p.Wrong(entry.Line, "%s is missing", key)
		}
	}
	if p.Count() == before {
		p.accounts[strings.ToLower(a.Username)] = a
	}
}

func (p *parser) hash(n *yaml.Node, text string) {
	kind, err := passwords.KindOf(text)
	switch {
	case err != nil:
		p.Wrong(n.Line, "password_hash: %v", err)
	case p.bytes > 0 && kind.Bytes() > p.bytes:
		p.Wrong(n.Line, "password_hash: it takes %d KiB of memory, and hashes may take %d KiB; raise login.hash_memory, or set the password anew",
			kind.Bytes()>>10, p.bytes>>10)
	}
}

// scalar is a text, or a number as it is written. What it holds is not repeated.
func (p *parser) scalar(n *yaml.Node, what string, limit int) string {
	switch {
	case n.Kind != yaml.ScalarNode || n.Tag == "!!null" || n.Tag == "!!binary":
		p.Wrong(n.Line, "%s is not a text", what)
	case n.Value == "":
		p.Wrong(n.Line, "%s is empty", what)
	case len(n.Value) > limit:
		p.Wrong(n.Line, "%s is longer than %d bytes", what, limit)
	case strings.ContainsFunc(n.Value, unicode.IsControl):
		p.Wrong(n.Line, "%s has control characters", what)
	case strings.TrimSpace(n.Value) != n.Value:
		p.Wrong(n.Line, "%s has blanks around it", what)
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
		p.Wrong(n.Line, "%s is the same as in line %d", key, line)
		return
	}
	lines[value] = n.Line
}

// has reports whether a mapping has the key.
func has(n *yaml.Node, key string) bool {
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}

func (p *parser) roles(n *yaml.Node) (roles []string) {
	if len(n.Content) > sessions.MaxRoles {
		p.Wrong(n.Line, "roles has more than %d names", sessions.MaxRoles)
	}
	if n.Kind == yaml.ScalarNode {
		p.Wrong(n.Line, "roles is a list, and not another value; write [staff] or [staff, admin]")
		return nil
	}
	p.List("roles", func(role *yaml.Node) { roles = append(roles, p.scalar(role, "a role", sessions.MaxRole)) })(n)
	return roles
}

func (p *parser) attributes(n *yaml.Node) map[string]string {
	attributes := make(map[string]string)
	p.Pairs(n, "attributes", func(name, value *yaml.Node) {
		switch err := sessions.ValidateFieldName(name.Value); {
		case errors.Is(err, sessions.ErrReserved):
			p.Wrong(value.Line, "attribute%s has a reserved name", repeated(name.Value))
		case err != nil:
			p.Wrong(value.Line, "an attribute's name has not 1 to %d bytes without control characters", sessions.MaxFieldName)
		case value.Kind != yaml.ScalarNode || value.Tag == "!!null" || value.Tag == "!!binary":
			p.Wrong(value.Line, "attribute%s is not a text", repeated(name.Value))
		case len(value.Value) > sessions.MaxFieldValue:
			p.Wrong(value.Line, "attribute%s is longer than %d bytes", repeated(name.Value), sessions.MaxFieldValue)
		default:
			attributes[name.Value] = value.Value
		}
	})
	return attributes
}

// repeated is an attribute's name to repeat in a mistake, unless it may be a hash in
// the wrong place.
func repeated(name string) string {
	if len(name) > 64 || strings.Contains(name, "$") {
		return ""
	}
	return fmt.Sprintf(" %q", name)
}
