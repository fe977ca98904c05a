package extauthz

import (
	"net/http"
	"slices"

	"google.golang.org/grpc/codes"
)

// A Reason says in one word why a request was decided as it was. It stands in
// the decision log, in the metrics and in the dynamic metadata of every answer.
// On an allowed request without identity it says why there is none.
// docs/troubleshooting.md lists cause and cure of each.
type Reason string

// The reasons. [Reasons] describes each of them.
const (
	OK               Reason = "ok"
	Public           Reason = "public"
	Preflight        Reason = "preflight"
	NoCookie         Reason = "no_cookie"
	MalformedCookie  Reason = "malformed_cookie"
	AmbiguousCookie  Reason = "ambiguous_cookie"
	NotFound         Reason = "not_found"
	Expired          Reason = "expired"
	BrokenRecord     Reason = "broken_record"
	MissingRole      Reason = "missing_role"
	ConditionFalse   Reason = "condition_false"
	ConditionError   Reason = "condition_error"
	BadOrigin        Reason = "bad_origin"
	BadRoute         Reason = "bad_route"
	UnknownPolicy    Reason = "unknown_policy"
	BadRequest       Reason = "bad_request"
	NoncanonicalPath Reason = "noncanonical_path"
	BadHost          Reason = "bad_host"
	Unavailable      Reason = "unavailable"
	Timeout          Reason = "timeout"
	Overloaded       Reason = "overloaded"
	UnknownLayout    Reason = "unknown_layout"
	Internal         Reason = "internal"
)

// holds is the result of a step of a decision that gives no reason to refuse.
const holds Reason = ""

// A ReasonInfo describes a [Reason].
type ReasonInfo struct {
	Reason Reason
	// Fault is true where the operator should know: such decisions are always
	// logged, as errors.
	Fault bool
	// Cause is one sentence. Cure says, in Markdown, what an operator of the program
	// coatcheck looks at.
	Cause, Cure string

	class    class
	byPolicy bool // a policy can deny for it, and so allows it in shadow mode
}

// Status is the HTTP status of a request that is denied for the reason, and 0
// where the reason never denies. A redirect to the login URL stands in for 401.
func (i ReasonInfo) Status() int { return denials[i.class].status }

// Reasons describes every [Reason], in the order of the pages that list them.
func Reasons() []ReasonInfo { return slices.Clone(reasons) }

// reasons is the one list of reasons: what the server does for each, the metric
// series and the tables in the documentation are made from it.
var reasons = []ReasonInfo{
	{
		Reason: OK, class: admitted,
		Cause: "live session",
		Cure:  "if the upstream sees no header, something behind the filter removes it, such as `request_headers_to_remove` on a route or virtual host",
	},
	{
		Reason: Public, class: admitted,
		Cause: "the route asks for no session",
		Cure:  "to let the upstream know who is signed in, make the route `optional`",
	},
	{
		Reason: Preflight, class: admitted,
		Cause: "CORS preflight that the policy lets through; browsers send it without cookies",
		Cure:  "none is needed: the request that follows is checked",
	},
	{
		Reason: NoCookie, class: anonymous, byPolicy: true,
		Cause: "no session cookie",
		Cure:  "`__Host-` cookies need https, except on localhost; check that `allowed_headers` has `cookie`, and that `cookie.name` is the name that login sets; where the route says `coatcheck.session: none`, look for a rule or a `default_policy` that asks for a session",
	},
	{
		Reason: MalformedCookie, class: anonymous, byPolicy: true,
		Cause: "the cookie's value is not a session ID",
		Cure:  "the cookie is another program's: choose another `cookie.name`",
	},
	{
		Reason: AmbiguousCookie, class: anonymous, byPolicy: true,
		Cause: "the cookie came more than once, or behind a comma in lines that Envoy has joined",
		Cure:  "a second one was set, on another path or domain: delete it; keep the `__Host-` prefix, and set [`encode_raw_headers`](operations.md#cookies-of-sibling-domains)",
	},
	{
		Reason: NotFound, class: anonymous, byPolicy: true,
		Cause: "session never issued, revoked, or idle for too long",
		Cure:  "`coatcheck session list USER` shows the live sessions; check that `session.idle_timeout` is long enough, and that login and checks use the same Redis and database",
	},
	{
		Reason: Expired, class: anonymous, byPolicy: true,
		Cause: "session past its absolute timeout",
		Cure:  "sign in again; `session.absolute_timeout` bounds a session",
	},
	{
		Reason: BrokenRecord, class: anonymous, Fault: true, byPolicy: true,
		Cause: "the record breaks the layout",
		Cure:  "the log line's `error` says how: mend the program that writes the record",
	},
	{
		Reason: MissingRole, class: forbidden, byPolicy: true,
		Cause: "the session lacks a role that the route or the policy asks for",
		Cure:  "the log line's `detail` has the roles asked for and those of the session; roles change with a new session: revoke, sign in again",
	},
	{
		Reason: ConditionFalse, class: forbidden, byPolicy: true,
		Cause: "the policy's condition does not hold",
		Cure:  "`coatcheck explain` shows each part of the condition with its values; a header that it reads must be in `allowed_headers`",
	},
	{
		Reason: ConditionError, class: forbidden, Fault: true, byPolicy: true,
		Cause: "the policy's condition cannot be evaluated: something that it reads is not there",
		Cure:  "the log line's `error` names it",
	},
	{
		Reason: BadOrigin, class: forbidden, byPolicy: true,
		Cause: "another site's page sent the request, or a POST or a WebSocket came without Origin",
		Cure:  "name the site in the policy's `origins`; check that `allowed_headers` has `origin`, `upgrade` and `sec-fetch-`; over plain http browsers send no `Sec-Fetch-Site`, and then need the usual port where Envoy has `strip_any_host_port`",
	},
	{
		Reason: BadRoute, class: forbidden, Fault: true,
		Cause: "the route's `context_extensions` make no sense, or hold a key for another filter",
		Cure:  "the log line's `error` names the mistake; put keys for other filters into `route.ignore_keys`",
	},
	{
		Reason: UnknownPolicy, class: forbidden, Fault: true,
		Cause: "the route names a policy that is not configured",
		Cure:  "the log line's `error` has the name: correct `coatcheck.policy`, or look in the log for why the policy file was not reloaded",
	},
	{
		Reason: BadRequest, class: badRequest,
		Cause: "the request makes no sense: CONNECT, a TCP connection, a path without `/` or with control characters, a method such as `post`, over 64 KiB of cookies or path, over 256 headers of the prefix, or a `Connection` that names one",
		Cure:  "such requests are not for Coatcheck: do not route them here",
	},
	{
		Reason: NoncanonicalPath, class: badRequest, byPolicy: true,
		Cause: "the path can be read in more than one way: `//`, `..`, `;`, `\\`, `#`, or an encoding that some upstream could undo, such as `%2F` or `%61`",
		Cure:  "let Envoy normalise (`normalize_path`, `merge_slashes`, `path_with_escaped_slashes_action`: it then answers 400 itself, `direct_response`); for `;jsessionid` and the like set `coatcheck.paths: parameters`; where there are rules, encode other bytes in upper case, as `%C3%B6`",
	},
	{
		Reason: BadHost, class: badRequest, byPolicy: true,
		Cause: "the Host is neither a name nor an address",
		Cure:  "send internationalised names as `xn--`",
	},
	{
		Reason: Unavailable, class: unavailable, Fault: true, byPolicy: true,
		Cause: "the session store refuses, is down, or cannot be reached",
		Cure:  "the log line's `error` says which: look at Redis; the session is not lost",
	},
	{
		Reason: Timeout, class: unavailable, Fault: true, byPolicy: true,
		Cause: "the session store did not answer in time",
		Cure:  "look at the latency and CPU of Redis, and at the CPU of Coatcheck, which looks the same when it has too little; `timeout` is the limit",
	},
	{
		Reason: Overloaded, class: unavailable, Fault: true, byPolicy: true,
		Cause: "too many checks wait for the session store, or too many requests arrive at once",
		Cure:  "look first at Redis, for which up to `max_in_flight` checks wait; then add replicas",
	},
	{
		Reason: UnknownLayout, class: unavailable, Fault: true, byPolicy: true,
		Cause: "a newer program wrote the record",
		Cure:  "update Coatcheck",
	},
	{
		Reason: Internal, class: unavailable, Fault: true,
		Cause: "a bug of Coatcheck",
		Cure:  "report it with the log line, which has the stack",
	},
}

// byReason finds a row of reasons.
var byReason = func() map[Reason]*ReasonInfo {
	rows := make(map[Reason]*ReasonInfo, len(reasons))
	for i := range reasons {
		rows[reasons[i].Reason] = &reasons[i]
	}
	return rows
}()

// info is the row of a reason. A reason without one, which a test rules out, is
// a fault.
func (r Reason) info() *ReasonInfo {
	if i, ok := byReason[r]; ok {
		return i
	}
	return byReason[Internal]
}

// A class says what the client is answered where a request is denied.
type class int

const (
	admitted  class = iota // never denied
	anonymous              // it is certain that the client is not signed in
	forbidden
	badRequest
	unavailable
)

// A denial is the answer to a client that is denied.
type denial struct {
	status int
	code   codes.Code
	text   string // for people; it does not say the cause
}

var denials = [...]denial{
	admitted:    {},
	anonymous:   {http.StatusUnauthorized, codes.Unauthenticated, "Sign in to continue.\n"},
	forbidden:   {http.StatusForbidden, codes.PermissionDenied, "You may not do this.\n"},
	badRequest:  {http.StatusBadRequest, codes.InvalidArgument, "The request makes no sense.\n"},
	unavailable: {http.StatusServiceUnavailable, codes.Unavailable, "Try again in a moment.\n"},
}
