// Package filekind recognises the YAML files that people hand to Coatcheck, so that one
// in another's place is named as what it is, with the place where it belongs:
//
//	if mistake := filekind.Misplaced(root, filekind.Policies); mistake != "" {
//		return errors.New(mistake) // "this is a users file: ..."
//	}
package filekind

import (
	"slices"

	"go.yaml.in/yaml/v3"
)

// A Kind is what a file is for.
type Kind string

// The kinds of files.
const (
	Configuration Kind = "configuration"
	Policies      Kind = "policies"
	Users         Kind = "users"
)

// kinds are the marks of each kind: keys at the top, or in the elements of a list, the
// most telling first; and what to say of one that is in another's place.
var kinds = []struct {
	kind    Kind
	list    bool
	marks   []string
	mistake string
}{
	{"envoy", false, []string{"static_resources", "dynamic_resources"}, "this is a configuration of Envoy: start envoy with it"},
	{Configuration, false, []string{"listen", "redis", "session", "cookie", "headers", "login", "login_url", "policy_file", "admin", "grpc", "tls", "log", "timeout", "shutdown"},
		"this is a configuration: name it with --config, or try it with coatcheck config check FILE"},
	{Policies, false, []string{"policies", "rules", "default_policy", "tests", "refusal"},
		"this is a policy file: name it in policy_file, or try it with coatcheck config check --policies FILE"},
	{Users, true, []string{"password_hash", "username"}, "this is a users file: name it in login.users_file"},
}

// Misplaced returns what is wrong with a file that was meant to be of one kind and is
// of another, and "" where it is of that kind, or where it is not sure. It repeats
// nothing of the file.
func Misplaced(root *yaml.Node, meant Kind) string {
	for _, k := range kinds {
		switch {
		case !holdsAny(root, k.list, k.marks):
		case k.kind == meant:
			return ""
		default:
			return k.mistake
		}
	}
	return ""
}

// holdsAny reports whether a mapping, or an element of a list, has one of the keys.
func holdsAny(n *yaml.Node, list bool, marks []string) bool {
	if list {
		return n.Kind == yaml.SequenceNode && slices.ContainsFunc(n.Content, func(element *yaml.Node) bool { return holdsAny(element, false, marks) })
	}
	if n.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if slices.Contains(marks, n.Content[i].Value) {
			return true
		}
	}
	return false
}
