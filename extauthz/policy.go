package extauthz

import (
	"context"
	"time"

	"github.com/coatcheck/coatcheck/extauthz/rules"
	"github.com/coatcheck/coatcheck/sessions"
)

// A Policy says what a request needs, what a refusal looks like and what goes
// upstream.
type Policy struct {
	// Name is how routes and rules name the policy: characters of
	// A-Z a-z 0-9 _ . : -
	Name string
	// Session is required (also ""), optional or none.
	Session string
	// AnyRole are roles any of which is enough. Nil: none is asked for.
	AnyRole []string
	// AllRoles are roles all of which are needed.
	AllRoles []string
	// Condition must hold, too. Nil: none.
	Condition Condition
	// Headers are the identity headers that go upstream, without the prefix: id,
	// name, roles, session, or a mapped field's. The others are removed as from an
	// anonymous request. Nil: all go; empty but not nil: none.
	Headers []string
	// Refusal overrides what a refusal looks like.
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
	// Fields are the session's application fields that it reads, and created_at
	// if it reads that. They come with the check's one lookup.
	Fields() []string
	// Headers are the request headers that it reads, in lower case. Only these
	// are in [Input.Headers].
	Headers() []string
	// Holds decides. An error denies with [ConditionError].
	Holds(ctx context.Context, in Input) (bool, error)
	// String is the condition as its author wrote it.
	String() string
}

// An Input is what a [Condition] decides by.
type Input struct {
	// Session is the live session, with the fields that the condition names and
	// perhaps others; nil where nobody is signed in, or nobody was asked for.
	Session *sessions.Session
	// Now is the time as the sessions' store has it, if it tells.
	Now    time.Time
	Method string
	// Host is in normal form: lower case, no port, no dot at the end. What has no
	// normal form is refused with [BadHost] before.
	Host string
	// Path is without the query and percent-decoded. It holds no segment "." or
	// "..", no empty one but the last, no "\", "%", "?", "#" or ";" and no control
	// character: what could be read in two ways is refused with
	// [NoncanonicalPath] before.
	Path string
	// Headers are those that the condition names and that came, by their names in
	// lower case. Lines of one name are joined by commas. A client writes them.
	Headers map[string]string
	// SourceAddress is the IP address of the peer as Envoy tells it, without port;
	// SourcePrincipal its authenticated name (from mTLS), if any.
	SourceAddress, SourcePrincipal string
}

// A Refusal says what a denied request is answered. What is empty is as the
// Policies say, and else as the server does.
type Refusal struct {
	// LoginURL is where a navigation without a session is sent, as in [Config].
	LoginURL string
	// Unauthenticated and Forbidden are one sentence each for people, the text of
	// a 401 and a 403: the plain body, and the detail of the others.
	Unauthenticated, Forbidden string
	// HTML is the page for browsers: a html/template, which escapes. It has
	// {{.Status}}, {{.Title}}, {{.Detail}}, {{.Login}} (the login URL, on a
	// 401 where there is one) and {{.RequestID}}.
	HTML string
}

// A Rule gives requests a policy by host, path and method, for routes that cannot
// name one: see package rules.
type Rule = rules.Rule

// PolicySet are one whole configuration.
type PolicySet struct {
	Policies []Policy
	// Rules are asked in their order, the first that matches decides, and only
	// where the route names no policy. With rules there must be a Default.
	Rules []Rule
	// Default is the policy of requests whose route names none and that no rule
	// matches. Empty, without rules: the route's short form alone.
	Default string
	// Refusal is what policies do not override, and what requests without one are
	// answered.
	Refusal Refusal
}
