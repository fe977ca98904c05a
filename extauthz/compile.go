package extauthz

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical"
	"github.com/coatcheck/coatcheck/extauthz/rules"
	"github.com/coatcheck/coatcheck/sessions"
)

// policies are a [PolicySet] made ready. They never change.
type policies struct {
	named    map[string]*policy
	rules    *rules.List
	ruled    []compiledRule // by the number of the rule, less one
	fallback *policy        // where a route names no policy and no rule matches
	plain    *policy        // asks for nothing: what the short form says stands alone
	wanted   wanted         // of a CheckRequest
}

// A policy is a [Policy] made ready to decide.
type policy struct {
	name      string // "" for the plain one
	required  requirement
	condition Condition
	headers   headerNames
	fields    []string // to read with the session
	refusal   *refusal
	preflight bool
	origins   *origins // nil: not checked
	shadow    bool
}

// shadows are the names of the policies in shadow mode, sorted.
func (p *policies) shadows() []string {
	var names []string
	for name, policy := range p.named {
		if policy.shadow {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// compile makes p ready for a server whose plain policy is base.
func (p PolicySet) compile(base *policies) (*policies, error) {
	refusal, err := base.plain.refusal.override(p.Refusal)
	compiled := &policies{plain: plainPolicy(base.plain.headers, refusal), wanted: base.wanted}
	compiled.wanted.all = true
	return compiled, errors.Join(
		inside("refusal", err),
		compiled.addPolicies(p.Policies),
		compiled.addRules(p.Rules),
		compiled.setDefault(p),
	)
}

// plainPolicy asks for nothing.
func plainPolicy(h headerNames, f *refusal) *policy {
	return &policy{required: requirement{session: none}, headers: h, fields: h.fieldNames(), refusal: f}
}

func (p *policies) addPolicies(list []Policy) error {
	p.named = make(map[string]*policy, len(list))
	var errs []error
	for i, source := range list {
		where := fmt.Sprintf("policy %q", source.Name)
		if source.Name == "" {
			where = fmt.Sprintf("policy %d", i+1)
		}
		policy, err := source.compile(p.plain.headers, p.plain.refusal)
		errs = append(errs, inside(where, err))
		if _, twice := p.named[source.Name]; twice {
			errs = append(errs, fmt.Errorf("%s: the name is taken", where))
		}
		p.named[source.Name] = policy
		p.readBy(source.Condition)
	}
	return errors.Join(errs...)
}

// A compiledRule is the policy of a rule, and the rule in words.
type compiledRule struct {
	policy *policy
	number int
	words  string
	text   string // number and words, for the log
}

func (p *policies) addRules(list []Rule) error {
	compiled, err := rules.Compile(list)
	p.rules = compiled
	errs := []error{err}
	for i, rule := range list {
		r := compiledRule{number: i + 1, words: rule.String(), text: fmt.Sprintf("%d: %s", i+1, rule)}
		r.policy, err = p.find(rule.Policy)
		errs = append(errs, inside("rule "+r.text, err))
		p.ruled = append(p.ruled, r)
	}
	return errors.Join(errs...)
}

func (p *policies) setDefault(source PolicySet) (err error) {
	if source.Default != "" || len(source.Rules) > 0 {
		p.fallback, err = p.find(source.Default)
	}
	return inside("default, for what no rule matches", err)
}

// inside says where an error is; nil stays nil.
func inside(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", where, err)
}

func (p *policies) find(name string) (*policy, error) {
	if name == "" {
		return nil, errors.New("no policy is named")
	}
	if policy, ok := p.named[name]; ok {
		return policy, nil
	}
	return nil, fmt.Errorf("there is no policy %q", name)
}

// readBy adds what a condition reads to what is kept of a request.
func (p *policies) readBy(c Condition) {
	if c == nil {
		return
	}
	for _, name := range c.Headers() {
		if !slices.Contains(p.wanted.headers, name) {
			p.wanted.headers = append(p.wanted.headers, name)
		}
	}
}

// compile checks p and makes it ready, or names everything that is wrong with it.
func (p Policy) compile(headers headerNames, base *refusal) (*policy, error) {
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	if p.Name == "" || strings.ContainsFunc(p.Name, notInRole) {
		add(fmt.Errorf("name %q must be of A-Z a-z 0-9 _ . : -", p.Name))
	}
	session, err := p.session()
	add(err)
	add(rolesValid("any role", p.AnyRole))
	add(rolesValid("all roles", p.AllRoles))
	add(conditionValid(p.Condition, session, headers))
	if headers.format != nil && p.Condition != nil && slices.Contains(p.Condition.Fields(), sessions.FieldCreatedAt) {
		add(errors.New("condition: it reads the age of the session, and sessions of this format do not tell when they began"))
	}
	compiled := &policy{
		name: p.Name, required: requirement{session, p.AnyRole, p.AllRoles}, condition: p.Condition,
		preflight: p.Preflight, shadow: p.Shadow,
	}
	compiled.headers, err = headers.only(p.Headers)
	add(err)
	compiled.fields = compiled.headers.fieldNames()
	if p.Condition != nil {
		compiled.fields = union(compiled.fields, p.Condition.Fields())
	}
	compiled.refusal, err = base.override(p.Refusal)
	add(inside("refusal", err))
	compiled.origins, err = newOrigins(p.Origins)
	add(err)
	return compiled, errors.Join(errs...)
}

func (p Policy) session() (need, error) {
	i := max(slices.Index(needNames, p.Session), 0)
	switch {
	case p.Session != "" && needNames[i] != p.Session:
		return required, fmt.Errorf("session %q: one of required, optional and none", p.Session)
	case need(i) == none && (p.AnyRole != nil || p.AllRoles != nil):
		return none, errors.New("roles where no session is asked for")
	}
	return need(i), nil
}

// rolesValid checks a list of roles; a list that is not nil names at least one.
func rolesValid(what string, names []string) error {
	if names != nil && len(names) == 0 {
		return fmt.Errorf("%s: an empty list; leave it out to ask for no role", what)
	}
	for _, name := range names {
		if name == "" || len(name) > sessions.MaxRole {
			return fmt.Errorf("%s: %q is not a role of 1 to %d bytes", what, name, sessions.MaxRole)
		}
	}
	return nil
}

// conditionValid checks what a condition wants to read.
func conditionValid(c Condition, session need, headers headerNames) error {
	if c == nil {
		return nil
	}
	var errs []error
	for _, name := range c.Headers() {
		switch {
		case name == "cookie":
			errs = append(errs, errors.New("condition: it cannot read the cookie header, which holds the session ID"))
		case canonical.HasPrefix([]byte(name), headers.prefix):
			errs = append(errs, fmt.Errorf("condition: header %q is written by the client: read the session", name))
		case name == "" || name != strings.ToLower(name) || strings.Trim(name, headerLetters) != "":
			errs = append(errs, fmt.Errorf("condition: header %q: names are in lower case", name))
		}
	}
	for _, name := range c.Fields() {
		if name == sessions.FieldCreatedAt { // which a condition reads as the session's age
			continue
		}
		if err := headers.validateField(name); err != nil {
			errs = append(errs, inside("condition", err))
		}
	}
	if session == none && len(c.Fields()) > 0 {
		errs = append(errs, errors.New("condition: it reads a session where none is asked for"))
	}
	return errors.Join(errs...)
}

// headerLetters are the letters of a header's name in lower case (RFC 9110, section
// 5.6.2).
const headerLetters = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~"

// union is a and the names that only b has.
func union(a, b []string) []string {
	for _, name := range b {
		if !slices.Contains(a, name) {
			a = append(a[:len(a):len(a)], name)
		}
	}
	return a
}
