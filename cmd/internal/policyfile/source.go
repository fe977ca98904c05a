package policyfile

import (
	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/extauthz/condition"
	"github.com/coatcheck/coatcheck/internal/filekind"
	"github.com/coatcheck/coatcheck/internal/strictyaml"
)

// A decoder reads a policy file.
type decoder struct{ strictyaml.Decoder }

// A source is a file as it is written, each part with its line.
type source struct {
	defaultPolicy string
	defaultLine   int
	named         []policySource
	rules         []ruleSource
	refusal       extauthz.Refusal
	refusalLine   int
	tests         []Test

	caseInsensitive, optionalSlash said // of rules that do not say it
}

type policySource struct {
	extauthz.Policy
	line int
}

type ruleSource struct {
	extauthz.Rule
	line int

	caseInsensitive, optionalSlash said // by the rule, or else by the file
}

// A said is true, false, or not said.
type said struct{ is, there bool }

func (s said) saidNo() bool { return s.there && !s.is }

// or returns s, or what the file says if s is not said.
func (s said) or(file said) said {
	if s.there {
		return s
	}
	return file
}

// policies are the policies and rules of the source, as a server takes them.
func (s *source) policies() extauthz.PolicySet {
	all := extauthz.PolicySet{Default: s.defaultPolicy, Refusal: s.refusal}
	for _, p := range s.named {
		all.Policies = append(all.Policies, p.Policy)
	}
	for _, r := range s.rules {
		all.Rules = append(all.Rules, r.Rule)
	}
	return all
}

func (d *decoder) file(n *yaml.Node, s *source) {
	if mistake := filekind.Misplaced(n, filekind.Policies); mistake != "" {
		d.Wrong(n.Line, "%s", mistake)
		return
	}
	if n.Kind != yaml.MappingNode {
		d.Wrong(n.Line, "it is not a file of policies, rules and tests") // what it is may be a secret
		return
	}
	d.Object(n, "the file", map[string]strictyaml.Reader{
		"default_policy": func(n *yaml.Node) {
			s.defaultLine = n.Line
			d.Text("default_policy", &s.defaultPolicy)(n)
		},
		"policies": d.List("policies", func(n *yaml.Node) { s.named = append(s.named, d.policy(n)) }),
		"rules":    d.List("rules", func(n *yaml.Node) { s.rules = append(s.rules, d.rule(n)) }),
		"refusal": func(n *yaml.Node) {
			s.refusalLine = n.Line
			d.refusal(&s.refusal)(n)
		},
		"tests": d.List("tests", func(n *yaml.Node) { s.tests = append(s.tests, d.test(n)) }),

		"case_insensitive": d.said("case_insensitive", &s.caseInsensitive),
		"optional_slash":   d.said("optional_slash", &s.optionalSlash),
	})
	for i := range s.rules {
		s.rules[i].inherit(s)
	}
}

// inherit gives the rule what the file says for all rules.
func (r *ruleSource) inherit(s *source) {
	r.caseInsensitive, r.optionalSlash = r.caseInsensitive.or(s.caseInsensitive), r.optionalSlash.or(s.optionalSlash)
	r.CaseInsensitive, r.OptionalSlash = r.caseInsensitive.is, r.optionalSlash.is
}

// said reads true or false, and that it is there.
func (d *decoder) said(what string, into *said) strictyaml.Reader {
	return func(n *yaml.Node) {
		into.there = true
		d.Bool(what, &into.is)(n)
	}
}

func (d *decoder) policy(n *yaml.Node) policySource {
	p := policySource{line: n.Line}
	ok := d.Object(n, "a policy", map[string]strictyaml.Reader{
		"name":      d.Text("name", &p.Name),
		"session":   d.Choice("session", &p.Session, "required", "optional", "none"),
		"any_role":  d.Texts("any_role", &p.AnyRole),
		"all_roles": d.Texts("all_roles", &p.AllRoles),
		"condition": func(n *yaml.Node) { p.Condition = d.condition(n) },
		"headers":   d.Texts("headers", &p.Headers),
		"refusal":   d.refusal(&p.Refusal),
		"preflight": d.Bool("preflight", &p.Preflight),
		"origins":   d.Texts("origins", &p.Origins),
		"shadow":    d.Bool("shadow", &p.Shadow),
	})
	if ok && p.Name == "" {
		d.Wrong(n.Line, "a policy has no name")
	}
	return p
}

// condition compiles an expression. For a bad one it returns a nil interface, and not
// an interface that holds a nil pointer.
func (d *decoder) condition(n *yaml.Node) extauthz.Condition {
	var text string
	before := d.Count()
	if d.Text("condition", &text)(n); d.Count() > before {
		return nil
	}
	compiled, err := condition.Compile(text)
	if err != nil {
		d.Wrong(n.Line, "condition: %v", err)
		return nil
	}
	return compiled
}

func (d *decoder) refusal(r *extauthz.Refusal) strictyaml.Reader {
	return func(n *yaml.Node) {
		d.Object(n, "a refusal", map[string]strictyaml.Reader{
			"login_url":       d.Text("login_url", &r.LoginURL),
			"unauthenticated": d.Text("unauthenticated", &r.Unauthenticated),
			"forbidden":       d.Text("forbidden", &r.Forbidden),
			"html":            d.Text("html", &r.HTML),
		})
	}
}

func (d *decoder) rule(n *yaml.Node) ruleSource {
	r := ruleSource{line: n.Line}
	ok := d.Object(n, "a rule", map[string]strictyaml.Reader{
		"hosts":         d.Texts("hosts", &r.Hosts),
		"path":          d.Text("path", &r.Path),
		"path_prefix":   d.Text("path_prefix", &r.PathPrefix),
		"path_template": d.Text("path_template", &r.PathTemplate),
		"methods":       d.Texts("methods", &r.Methods),
		"policy":        d.Text("policy", &r.Policy),

		"case_insensitive": d.said("case_insensitive", &r.caseInsensitive),
		"optional_slash":   d.said("optional_slash", &r.optionalSlash),
	})
	if ok && r.Policy == "" {
		d.Wrong(n.Line, "a rule has no policy")
	}
	for what, list := range map[string][]string{"hosts": r.Hosts, "methods": r.Methods} {
		if list != nil && len(list) == 0 {
			d.Wrong(n.Line, "%s is an empty list, which no request matches; leave it out for any", what)
		}
	}
	return r
}
