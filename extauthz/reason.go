package extauthz

// A Reason says in one word why a request was decided as it was. It stands in
// the decision log and in the dynamic metadata of every answer. On an allowed
// request that carries no identity it says why there is none. docs/troubleshooting.md
// lists cause and cure of each.
type Reason string

// The reasons, all of them.
const (
	OK              Reason = "ok"               // a live session
	Public          Reason = "public"           // the route asks for no session
	NoCookie        Reason = "no_cookie"        // no session cookie
	MalformedCookie Reason = "malformed_cookie" // its value is no session ID
	AmbiguousCookie Reason = "ambiguous_cookie" // it came more than once, or behind a comma
	NotFound        Reason = "not_found"        // never issued, revoked, or idle for too long
	Expired         Reason = "expired"          // past the absolute timeout
	BrokenRecord    Reason = "broken_record"    // the record breaks the layout
	MissingRole     Reason = "missing_role"     // none of the roles that the route names
	BadRequest      Reason = "bad_request"      // the CheckRequest makes no sense

	NoncanonicalPath Reason = "noncanonical_path" // a path that can be read in two ways
	// The next six need policies.
	Preflight      Reason = "preflight"       // a CORS preflight that the policy lets through
	UnknownPolicy  Reason = "unknown_policy"  // the route names a policy that is not configured
	BadHost        Reason = "bad_host"        // a Host that is no host
	BadOrigin      Reason = "bad_origin"      // another site's page sent it
	ConditionFalse Reason = "condition_false" // the policy's condition does not hold
	ConditionError Reason = "condition_error" // the policy's condition cannot be evaluated
	BadRoute       Reason = "bad_route"       // the route's context_extensions make no sense
	Unavailable    Reason = "unavailable"     // Redis could not be asked
	Timeout        Reason = "timeout"         // Redis did not answer in time
	Overloaded     Reason = "overloaded"      // too many checks wait for Redis already
	UnknownLayout  Reason = "unknown_layout"  // a newer program wrote the record
	Internal       Reason = "internal"        // a bug of ours
)

// Reasons lists every [Reason].
func Reasons() []Reason {
	return []Reason{
		OK, Public, NoCookie, MalformedCookie, AmbiguousCookie, NotFound, Expired, BrokenRecord,
		MissingRole, BadRequest, BadRoute, Unavailable, Timeout, Overloaded, UnknownLayout, Internal,
		Preflight, UnknownPolicy, NoncanonicalPath, BadHost, BadOrigin, ConditionFalse, ConditionError,
	}
}

// shadowable reports whether a policy can deny for this reason, and so allow in
// shadow mode.
func (r Reason) shadowable() bool {
	switch r {
	case MissingRole, Unavailable, Timeout, Overloaded, UnknownLayout,
		NoncanonicalPath, BadHost, BadOrigin, ConditionFalse, ConditionError:
		return true
	}
	return r.anonymous()
}

// fault reports whether somebody on call should know.
func (r Reason) fault() bool {
	switch r {
	case BrokenRecord, BadRoute, Unavailable, Timeout, Overloaded, UnknownLayout, Internal,
		UnknownPolicy, ConditionError:
		return true
	}
	return false
}
