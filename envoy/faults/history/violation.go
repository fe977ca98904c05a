package history

import (
	"fmt"
	"strings"
	"time"
)

// A Rule is one of those that servers must never break.
type Rule string

// The rules.
const (
	Revoked   Rule = "allowed after its revocation was acknowledged"
	Returned  Rule = "allowed after an answer that it is gone"
	Expired   Rule = "allowed after its absolute timeout"
	Idle      Rule = "allowed after its idle timeout"
	Unknown   Rule = "an ID that was never issued was allowed"
	Open      Rule = "a route that asks for a session let a request without one pass"
	Escalated Rule = "allowed on a route whose role it lacks"
	Identity  Rule = "allowed with another identity"
	Field     Rule = "allowed with fields that are not its own"
	Gone      Rule = "refused as gone while it must be alive"
	Withheld  Rule = "refused for want of a role that it has"
	Error     Rule = "answered with an error instead of a verdict"
	Late      Rule = "answered too late"
)

// allow reports whether the rule is about an allow.
func (r Rule) allow() bool {
	switch r {
	case Gone, Withheld, Error, Late:
		return false
	}
	return true
}

// A Violation is an answer that breaks a rule, with the last events of its session.
type Violation struct {
	Rule    Rule
	Handle  string // never the ID
	At      time.Duration
	Excerpt string
}

func (v Violation) String() string {
	return fmt.Sprintf("%v: session %s: %s\n%s", v.At.Round(time.Millisecond), v.Handle, v.Rule, v.Excerpt)
}

func (s *Session) violation(rule Rule, c *Check, end time.Duration, a Answer) Violation {
	v := Violation{Rule: rule, Handle: s.Handle, At: end, Excerpt: s.excerpt()}
	if rule == Identity { // whose it was
		v.Excerpt += fmt.Sprintf("  it was given user %q, key %.20s; its own are %q, %.20s\n", a.User, a.Key, s.User, s.Key)
	}
	if rule == Field {
		v.Excerpt += fmt.Sprintf("  it was given plan %q, mark %q; its own are %q, %q\n", a.Plan, a.Mark, s.Plan, s.value)
	}
	if rule == Late {
		v.Excerpt += fmt.Sprintf("  it took %v, of which the machine's lag is %v\n", end-c.begin, a.Lag)
	}
	return v
}

// kept is how many events of a session are kept.
const kept = 16

type eventKind uint8

const (
	loginEvent eventKind = iota
	revokeEvent
	addEvent
	checkEvent
)

// An event is an operation, for an excerpt.
type event struct {
	kind       eventKind
	begin, end time.Duration
	outcome    Outcome
	route      Route
	replica    int
	verdict    Verdict
}

func (s *Session) note(e event) {
	s.events[s.recorded%kept] = e
	s.recorded++
}

// excerpt is the last events of the session, a line each.
func (s *Session) excerpt() string {
	var b strings.Builder
	if s.issued {
		fmt.Fprintf(&b, "  signed in from %v to %v, limits: idle %v, absolute %v\n", ms(s.began), ms(s.made), s.Idle, s.Absolute)
	}
	for _, c := range s.changes {
		fmt.Fprintf(&b, "  revoke from %v to %v, confirmed by replicas: %v\n", ms(c.begun), ms(c.acked), c.confirmed)
	}
	if earlier := s.recorded - kept; earlier > 0 {
		fmt.Fprintf(&b, "  (%d earlier events)\n", earlier)
	}
	for i := max(0, s.recorded-kept); i < s.recorded; i++ {
		fmt.Fprintf(&b, "  %s\n", s.events[i%kept])
	}
	return b.String()
}

func (e event) String() string {
	span := fmt.Sprintf("%10v to %-10v", ms(e.begin), ms(e.end))
	switch e.kind {
	case loginEvent:
		return span + " login"
	case revokeEvent:
		return span + " revoke: " + e.result()
	case addEvent:
		return span + " add: " + e.result()
	}
	return fmt.Sprintf("%s check on replica %d, route %v: %v", span, e.replica, e.route, e.verdict)
}

func (e event) result() string {
	if e.end == forever {
		return "sent"
	}
	return [...]string{"acknowledged", "acknowledged, not by replicas", "it was gone", "no acknowledgement", "refused"}[e.outcome]
}

func ms(d time.Duration) string {
	if d == forever {
		return "?"
	}
	return d.Round(100 * time.Microsecond).String()
}
