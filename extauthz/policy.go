package extauthz

import (
	"context"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/extauthz/rules"
	"github.com/coatcheck/coatcheck/sessions"
)

// A Policy says what a request needs, how a refusal looks and which headers go
// upstream.
type Policy struct {
	// Name is how routes and rules name the policy: characters of
	// A-Z a-z 0-9 _ . : -
	Name string
	// Session is required (also ""), optional or none.
	Session string
	// AnyRole are roles any of which is enough. Nil: no role is asked for.
	AnyRole []string
	// AllRoles are roles all of which are needed.
	AllRoles []string
	// Condition must hold, too. Nil: no condition.
	Condition Condition
	// Headers are the identity headers that go upstream, without the prefix: id,
	// name, roles, session, or a mapped field's. The others are removed as from an
	// anonymous request. Nil: all of them go; empty but not nil: no header goes.
	Headers []string
	// Refusal overrides how a refusal looks.
	Refusal Refusal
	// Preflight lets CORS preflights through without identity: they carry no
	// cookie (Fetch standard, section 4.8), and their upstream answers them.
	Preflight bool
	// Origins turns on a check against cross-site request forgery: on methods
	// other than GET, HEAD, OPTIONS and TRACE, and on WebSocket upgrades, the
	// Origin must be the request's own host's or one of these, written as a
	// browser does: https://app.example. Nil: not checked; empty but not nil: its
	// own only.
	Origins []string
	// Shadow decides, logs and counts, but allows: identity goes upstream only
	// where a session is live.
	Shadow bool
}

// A Condition is what a policy asks beyond session and roles. It must be safe
// for concurrent use.
type Condition interface {
	// Fields are the application fields of the session that the condition reads, and
	// created_at if it reads that. They come with the check's one lookup.
	Fields() []string
	// Headers are the request headers that it reads, in lower case. [Input.Headers]
	// holds only these.
	Headers() []string
	// Holds decides. An error denies with [ConditionError].
	Holds(ctx context.Context, in Input) (bool, error)
	// String is the condition as its author wrote it.
	String() string
}

// An ExplainedCondition is a [Condition] that can say what it compares, for
// [Server.Explain]. No check asks for it.
type ExplainedCondition interface {
	Condition
	// Parts evaluates the condition and names its parts, the first as it is written
	// first. It holds values of the session and the request, but no session ID.
	Parts(ctx context.Context, in Input) []ConditionPart
}

// A ConditionPart is one of the expressions that a condition is made of.
type ConditionPart struct {
	// Text is the part as it is written.
	Text string `json:"text"`
	// Depth is 0 for a part of the condition itself, 1 for a part of such a part.
	Depth int `json:"depth,omitempty"`
	// Result is true, false, or why there is neither.
	Result string `json:"result"`
	// Values are what the part reads of the session and the request.
	Values []ConditionValue `json:"values,omitempty"`
}

// A ConditionValue is a variable of a condition, and its value for one request: text
// in quotes, or in words why there is none.
type ConditionValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// An Input is what a [Condition] decides by.
type Input struct {
	// Session is the live session, with the fields that the condition names and
	// perhaps others; nil where the client is not signed in, or no session was asked
	// for.
	Session *sessions.Session
	// Now is the time by [Config].Now.
	Now time.Time
	// Method is as it came.
	Method string
	// Host is in normal form: lower case, no port, no dot at the end. A host without
	// a normal form has been refused with [BadHost].
	Host string
	// Path is without the query and percent-decoded. It holds no segment "." or
	// "..", no empty one but the last, no "\", "%", "?", "#" or ";" and no control
	// character: a path that could be read in two ways has been refused with
	// [NoncanonicalPath].
	Path string
	// Headers are the headers that the condition names and that came, by their names in
	// lower case. Lines of one name are joined by commas. A client writes them.
	Headers map[string]string
	// SourceAddress is the IP address of Envoy's peer, without port; SourcePrincipal
	// its authenticated name (from mTLS), or "".
	SourceAddress, SourcePrincipal string
}

// A Refusal says how a denied request is answered. An empty part is as the
// [PolicySet] says, and else as [Config] does.
type Refusal struct {
	// LoginURL is where a navigation without a session is sent, as in [Config].
	LoginURL string
	// Unauthenticated and Forbidden are one sentence each for people, the text of
	// a 401 and a 403: the plain body, and the detail of the others.
	Unauthenticated, Forbidden string
	// HTML is the page for browsers in place of the server's own, which speaks the
	// browser's language: a html/template, which escapes. It has
	// {{.Status}}, {{.Title}}, {{.Detail}}, {{.Login}} (the login URL, on a
	// 401 where there is one) and {{.RequestID}}.
	HTML string
}

// A Rule gives requests a policy by host, path and method, for routes that cannot
// name one: see package rules.
type Rule = rules.Rule

// A PolicySet is one whole configuration of policies and rules.
type PolicySet struct {
	Policies []Policy
	// Rules are asked in their order, the first that matches decides, and only
	// where the route names no policy. With rules there must be a Default.
	Rules []Rule
	// Default is the policy of requests whose route names no policy and that no rule
	// matches. Empty, without rules: the route's short form alone.
	Default string
	// Refusal holds for policies that do not override it, and for requests without a
	// policy.
	Refusal Refusal
}

// RequestHeaders lists, sorted, the request headers by which a server with these
// policies decides and answers; "sec-fetch-" stands for all that begin so. Envoy's
// allowed_headers, where it is set, must let them through, because a server cannot
// know of a header that is hidden. With [Config].Bearer it needs authorization, too.
func (p PolicySet) RequestHeaders() []string {
	names := []string{"accept", "accept-language", "connection", "content-type", "cookie", "sec-fetch-", "traceparent", "x-request-id"}
	for _, policy := range p.Policies {
		if policy.Origins != nil {
			names = append(names, "origin", "upgrade")
		}
		if policy.Preflight {
			names = append(names, "origin", "access-control-request-method")
		}
		if policy.Condition != nil {
			names = append(names, policy.Condition.Headers()...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// AtLeast reports whether p asks for no less than q, as far as their texts show:
// every request that p lets through, q would let through, too. Conditions are
// compared as texts; a condition that reads false holds for no request.
func (p Policy) AtLeast(q Policy) bool {
	switch {
	case q.Shadow:
		return true
	case p.Shadow:
		return q.asksNothing()
	case p.Preflight && !q.Preflight:
		return false
	case p.Condition != nil && p.Condition.String() == "false":
		return true
	}
	return p.sessionRank() >= q.sessionRank() && p.rolesAtLeast(q) && p.conditionAtLeast(q) && p.originsAtLeast(q)
}

func (p Policy) asksNothing() bool {
	return p.sessionRank() == 0 && p.Condition == nil && p.Origins == nil
}

// sessionRank orders what p asks of the session: nothing, a lookup, a live session. A
// client with a role is signed in.
func (p Policy) sessionRank() int {
	switch {
	case p.Session == "none":
		return 0
	case p.Session == "optional" && p.AnyRole == nil && p.AllRoles == nil:
		return 1
	}
	return 2
}

func (p Policy) rolesAtLeast(q Policy) bool {
	surely := p.AllRoles // roles of every user that p lets through
	if len(p.AnyRole) == 1 {
		surely = append(surely[:len(surely):len(surely)], p.AnyRole[0])
	}
	has := func(role string) bool { return slices.Contains(surely, role) }
	among := func(role string) bool { return slices.Contains(q.AnyRole, role) }
	all := func(list []string, is func(string) bool) bool {
		return !slices.ContainsFunc(list, func(role string) bool { return !is(role) })
	}
	any := q.AnyRole == nil || p.AnyRole != nil && all(p.AnyRole, among) || slices.ContainsFunc(surely, among)
	return any && all(q.AllRoles, has)
}

func (p Policy) conditionAtLeast(q Policy) bool {
	return q.Condition == nil || p.Condition != nil && p.Condition.String() == q.Condition.String()
}

func (p Policy) originsAtLeast(q Policy) bool {
	return q.Origins == nil || p.Origins != nil && !slices.ContainsFunc(p.Origins, func(origin string) bool {
		return !slices.Contains(q.Origins, origin)
	})
}
