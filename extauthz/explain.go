package extauthz

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/coatcheck/coatcheck/extauthz/internal/answer"
	"github.com/coatcheck/coatcheck/extauthz/internal/redact"
	"github.com/coatcheck/coatcheck/sessions"
)

// An Explanation is a decision with everything that led to it. As JSON, each field
// that the decision log has, too, has the log's name and value.
type Explanation struct {
	Verdict   string `json:"verdict"` // allow or deny
	Allow     bool   `json:"allow"`
	Reason    Reason `json:"reason"`
	Status    int    `json:"status"`              // of a refusal; 0 where it is allowed
	Detail    string `json:"detail,omitempty"`    // of missing_role: the roles asked for, and those of the session
	Error     string `json:"error,omitempty"`     // what lies behind the reason
	Shadow    bool   `json:"shadow,omitempty"`    // allowed only because its policy is in shadow mode
	WouldBe   string `json:"would_be,omitempty"`  // then deny
	Route     string `json:"route,omitempty"`     // what the route's short form asks for; none where it leaves that to a policy
	Policy    string `json:"policy,omitempty"`    // that decided
	PolicyBy  string `json:"policy_by,omitempty"` // route, rule or default
	Session   string `json:"session,omitempty"`   // the handle of the request's session
	Method    string `json:"method"`
	Host      string `json:"host"`
	Path      string `json:"path"` // without the query
	RequestID string `json:"request_id"`
	TraceID   string `json:"trace_id,omitempty"`
	SpanID    string `json:"span_id,omitempty"`

	// Needs are what was asked of the session, the route first.
	Needs []Need `json:"needs,omitempty"`
	// Roles are those of the session.
	Roles []string `json:"roles,omitempty"`
	// Rule matched; Passed are the rules before it, in order.
	Rule   *RuleRef     `json:"rule,omitempty"`
	Passed []PassedRule `json:"passed,omitempty"`
	// Condition is the policy's. Parts are what it compared, with values of the session
	// and the request, if it was evaluated and can tell ([ExplainedCondition]).
	Condition string          `json:"condition,omitempty"`
	Parts     []ConditionPart `json:"parts,omitempty"`
	// CanonicalHost and CanonicalPath are what rules and conditions read, if they did.
	CanonicalHost string `json:"canonical_host,omitempty"`
	CanonicalPath string `json:"canonical_path,omitempty"`
	// OmittedFields are fields of the session that no header can hold.
	OmittedFields []string `json:"omitted_fields,omitempty"`

	Set     []SetHeader `json:"set,omitempty"`     // upstream if allowed, else to the client
	Removed []string    `json:"removed,omitempty"` // before it goes upstream
	Body    string      `json:"body,omitempty"`    // of a refusal
}

// A Need is what a route or a policy asks of the session.
type Need struct {
	By       string   `json:"by"`                  // route or policy
	Session  string   `json:"session"`             // required, optional or none
	AnyRole  []string `json:"any_role,omitempty"`  // any of these is enough
	AllRoles []string `json:"all_roles,omitempty"` // all of these are needed
	// Met is whether the request has it, and Text both sides in words.
	Met  bool   `json:"met"`
	Text string `json:"text"`
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

// An explanation is one as JSON: the rule is one text, as in the decision log.
type explanation struct {
	*explanationFields
	Rule string `json:"rule,omitempty"`
}

type explanationFields Explanation

// MarshalJSON writes the rule as the decision log does: "2: prefix /admin".
func (e Explanation) MarshalJSON() ([]byte, error) {
	fields := explanationFields(e)
	out := explanation{explanationFields: &fields}
	if e.Rule != nil {
		out.Rule = fmt.Sprintf("%d: %s", e.Rule.Number, e.Rule.Rule)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *Explanation) UnmarshalJSON(text []byte) error {
	in := explanation{explanationFields: (*explanationFields)(e)}
	if err := json.Unmarshal(text, &in); err != nil || in.Rule == "" {
		return err
	}
	number, words, _ := strings.Cut(in.Rule, ": ")
	n, err := strconv.Atoi(number)
	if err != nil {
		return errors.New("a rule is its number, a colon and its words")
	}
	e.Rule = &RuleRef{n, words}
	return nil
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
	lookup   Lookup
	now      func() time.Time
}

// A Lookup finds the session of a request, with the application fields that its policy
// needs. Its errors are those of [Sessions].
type Lookup func(ctx context.Context, fields []string) (*sessions.Session, error)

// WithLookup has the session looked up by l, once, where the route or the policy asks for
// one, and the request's cookie is not read.
func WithLookup(l Lookup) ExplainOption { return func(a *assumption) { a.lookup = l } }

// WithSession assumes that the request comes with s, or with a session whose
// lookup ended with err, of which s then has the key, if it is known; with neither, that
// it comes without a session. Then no lookup is made. Without this option Explain reads the request's cookie and touches
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
	d, final := s.decideAssuming(ctx, p, r, a)
	e := Explanation{Allow: d.allow, Reason: d.reason, Status: d.status(r), Shadow: d.shadow, Policy: d.policy.name, PolicyBy: d.by.String()}
	r.present(s.config.Format)
	e.logged(r, &d)
	e.CanonicalHost, e.CanonicalPath = d.target.host, d.target.path
	e.rules(p, r, &d)
	if c := d.policy.condition; c != nil {
		e.Condition = c.String()
	}
	if !final {
		e.compared(ctx, r, &d, a.now())
	}
	e.answer(s.respond(r, &d))
	return e, nil
}

// logged adds what the line in the decision log would say.
func (e *Explanation) logged(r *request, d *decision) {
	e.Verdict, e.Detail = d.verdict(), d.detail()
	if d.shadow {
		e.WouldBe = "deny"
	}
	if d.reason != BadRoute {
		e.Route = d.required().String()
	}
	if d.err != nil {
		e.Error = redact.IDs(d.err.Error())
	}
	if d.identity.key != "" {
		e.Session = d.identity.key.Handle()
	}
	e.Method, e.Host, e.Path, e.RequestID = r.text(r.method), r.text(r.host), clientPath(r), r.text(r.id)
	e.TraceID, e.SpanID, _ = traceOf(r.traceparent)
	e.OmittedFields = d.policy.headers.omitted(d.identity.session)
}

// compared adds what was asked of the session and what it had, and what the condition
// compared, as far as the decision came.
func (e *Explanation) compared(ctx context.Context, r *request, d *decision, now time.Time) {
	if d.identity.session != nil {
		e.Roles = d.identity.session.Roles
	}
	if !e.need("route", d.required(), d) || !e.need("policy", d.policy.required, d) || d.refused != holds {
		return
	}
	if c, ok := d.policy.condition.(ExplainedCondition); ok {
		e.Parts = c.Parts(ctx, d.input(r, now))
	}
}

// need adds a requirement, and reports whether the request meets it.
func (e *Explanation) need(by string, q requirement, d *decision) bool {
	if by == "policy" && d.policy.name == "" || by == "route" && q.session == none && d.by != byNone && !d.route.said {
		return true // there is none
	}
	reason := q.verify(d.identity.outcome, d.identity.session)
	e.Needs = append(e.Needs, Need{
		By: by, Session: needNames[q.session], AnyRole: q.any, AllRoles: q.all,
		Met: reason == holds, Text: q.compared(d.identity.session),
	})
	return reason == holds
}

// decideAssuming is decide with what is assumed in place of a lookup and of the clock.
// It reports whether the request alone decided.
func (s *Server) decideAssuming(ctx context.Context, p *policies, r *request, a assumption) (d decision, final bool) {
	d, final = s.screen(p, r)
	switch {
	case final:
		return d, true
	case !d.needsIdentity():
		d.identity.outcome = Public
	case a.lookup != nil:
		session, err := a.lookup(ctx, d.policy.fields)
		d.identity = found(ctx, session, err)
	case !a.identity:
		d.identity = s.identify(ctx, r, d.policy.fields)
	case a.session == nil && a.err == nil:
		d.identity.outcome = NoCookie
	default:
		d.identity = found(ctx, a.session, a.err)
		if d.identity.key == "" && a.session != nil {
			d.identity.key = a.session.Key
		}
	}
	s.judge(ctx, r, &d, a.now)
	return d, false
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
func (e *Explanation) answer(a *answer.Answer) {
	for _, h := range a.Set {
		e.Set = append(e.Set, SetHeader(h))
	}
	e.Removed, e.Body = a.Remove, a.Body
}
