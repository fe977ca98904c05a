package extauthz

import (
	"context"
	"errors"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/coatcheck/coatcheck/extauthz/internal/redact"
	"github.com/coatcheck/coatcheck/sessions"
)

// An Explanation is a decision with everything that led to it.
type Explanation struct {
	Allow     bool         `json:"allow"`
	Reason    Reason       `json:"reason"`
	Status    int          `json:"status,omitempty"`    // of a refusal; 0 where it is allowed
	Shadow    bool         `json:"shadow,omitempty"`    // allowed only because its policy is in shadow mode
	Route     string       `json:"route,omitempty"`     // what the route's short form asks for
	Policy    string       `json:"policy,omitempty"`    // that decided
	PolicyBy  string       `json:"policy_by,omitempty"` // route, rule or default
	Rule      *RuleRef     `json:"rule,omitempty"`      // that matched
	Passed    []PassedRule `json:"passed,omitempty"`    // the rules before it, in order
	Condition string       `json:"condition,omitempty"` // the policy's
	Path      string       `json:"path,omitempty"`      // as rules and conditions read it, if they did
	Host      string       `json:"host,omitempty"`      // likewise
	Set       []SetHeader  `json:"set,omitempty"`       // upstream if allowed, else to the client
	Removed   []string     `json:"removed,omitempty"`   // before it goes upstream
	Body      string       `json:"body,omitempty"`      // of a refusal
	Error     string       `json:"error,omitempty"`     // what lies behind the reason
}

// A RuleRef names a rule: its place in the list, from 1, and its words.
type RuleRef struct {
	Number int    `json:"number"`
	Rule   string `json:"rule"`
}

// A PassedRule is a rule that did not match, and why.
type PassedRule struct {
	RuleRef
	Why string `json:"why"` // host, path or method
}

// A SetHeader is a header that the answer sets.
type SetHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// An ExplainOption says what to assume instead of looking it up.
type ExplainOption func(*assumption)

type assumption struct {
	identity bool
	session  *sessions.Session
	err      error
	now      func() time.Time
}

// WithSession assumes that the request comes with s, or with a session whose
// lookup ended with err; with neither, that it comes without a session. Then no
// lookup is made. Without this option Explain reads the request's cookie and touches
// its session, as a check does.
func WithSession(s *sessions.Session, err error) ExplainOption {
	return func(a *assumption) { a.identity, a.session, a.err = true, s, err }
}

// WithTime assumes that the clock shows now.
func WithTime(now time.Time) ExplainOption {
	return func(a *assumption) {
		if !now.IsZero() {
			a.now = func() time.Time { return now }
		}
	}
}

// Explain decides m as a check does, by the same code, and says why. It counts and
// logs nothing. Its error is that m is nil.
func (s *Server) Explain(ctx context.Context, m *authv3.CheckRequest, options ...ExplainOption) (Explanation, error) {
	if m == nil {
		return Explanation{}, errors.New("no request to explain")
	}
	a := assumption{now: s.config.Now}
	for _, option := range options {
		option(&a)
	}
	p := s.policies.Load()
	r := p.wanted.read(m)
	d := s.decideAssuming(ctx, p, r, a)
	e := Explanation{Allow: d.allow, Reason: d.reason, Status: d.status(r), Shadow: d.shadow, Policy: d.policy.name, PolicyBy: d.by.String()}
	if d.err != nil {
		e.Error = redact.IDs(d.err.Error())
	}
	if d.reason != BadRoute {
		e.Route = d.required().String()
	}
	if c := d.policy.condition; c != nil {
		e.Condition = c.String()
	}
	e.Path, e.Host = d.target.path, d.target.host
	e.rules(p, r, &d)
	e.answer(s.respond(r, &d))
	return e, nil
}

// decideAssuming is decide with what is assumed in place of a lookup and of the clock.
func (s *Server) decideAssuming(ctx context.Context, p *policies, r *request, a assumption) decision {
	d, final := s.screen(p, r)
	switch {
	case final:
		return d
	case !d.needsIdentity():
		d.identity.outcome = Public
	case !a.identity:
		d.identity = s.identify(ctx, r, d.policy.fields)
	case a.session == nil && a.err == nil:
		d.identity.outcome = NoCookie
	default:
		d.identity = found(ctx, a.session, a.err)
	}
	s.judge(ctx, r, &d, a.now)
	return d
}

// rules adds the rule that matched and those before it.
func (e *Explanation) rules(p *policies, r *request, d *decision) {
	if d.by != byRule && d.by != byDefault {
		return
	}
	for i := range p.ruled {
		rule := &p.ruled[i]
		ref := RuleRef{Number: rule.number, Rule: rule.words}
		if rule == d.rule {
			e.Rule = &ref
			return
		}
		e.Passed = append(e.Passed, PassedRule{ref, p.rules.Mismatch(rule.number, r.method, d.target.host, d.target.path)})
	}
}

// answer adds the answer to Envoy.
func (e *Explanation) answer(response *authv3.CheckResponse) {
	set := response.GetOkResponse().GetHeaders()
	if denied := response.GetDeniedResponse(); denied != nil {
		set, e.Body = denied.GetHeaders(), denied.GetBody()
	}
	for _, option := range set {
		e.Set = append(e.Set, SetHeader{option.GetHeader().GetKey(), option.GetHeader().GetValue()})
	}
	e.Removed = response.GetOkResponse().GetHeadersToRemove()
}
