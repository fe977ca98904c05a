package extauthz

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// A decision is the verdict on one request and what it rests on.
type decision struct {
	allow    bool
	reason   Reason
	err      error    // what lies behind the reason, for the log
	route    route    // what was asked for
	choice            // and by which policy
	identity identity // who sent the request
	refused  Reason   // by the policy in shadow mode, for the request alone
	shadow   bool     // allowed only because the policy is in shadow mode
}

// An identity is who sent a request, as far as a check finds out. The reason says
// nothing about whether the request may pass.
type identity struct {
	outcome Reason            // OK, Public where the check does not look, or why the client is not known
	session *sessions.Session // that is live, with OK
	key     sessions.Key      // of the session that was looked up, found or not
	lookup  time.Duration     // how long that took
	err     error             // what lies behind the outcome
}

// decide has three steps, each of which ends with a reason to refuse or with holds:
// what needs no session (screen), who sent the request (identify), and whether that
// client meets what the route and then the policy require (judge).
func (s *Server) decide(ctx context.Context, p *policies, r *request) decision {
	d, final := s.screen(p, r)
	if final {
		return d
	}
	if d.needsIdentity() {
		d.identity = s.identify(ctx, r, d.policy.fields)
	} else {
		d.identity.outcome = Public
	}
	s.judge(ctx, r, &d, s.config.Now)
	return d
}

// screen decides by the request alone, and reports whether that is final. A policy
// in shadow mode goes on with what it would have refused for.
func (s *Server) screen(p *policies, r *request) (d decision, final bool) {
	d.policy = p.plain
	route, err := routeOf(r.extensions, r.own().roles[:0])
	if err != nil {
		d.reason, d.err = BadRoute, err
		return d, true
	}
	d.route = route
	if d.choice, d.reason = p.choose(r, route.policy, cmp.Or(route.paths, s.config.Paths)); d.reason != holds {
		if d.reason == UnknownPolicy {
			d.err = &unknownPolicyError{route.policy, p}
		}
		return d, true
	}
	d.refused = d.policy.screen(r, &d.target)
	switch {
	case d.refused != holds && !d.policy.shadow:
		d.reason = d.refused
		return d, true
	case d.refused == holds && d.policy.preflight && r.preflight() && d.required().session == none:
		d.allow, d.reason = true, Preflight
		return d, true
	}
	return d, false
}

// screen returns why the policy refuses r, from any client.
func (p *policy) screen(r *request, t *target) Reason {
	if p.origins.foreign(r) {
		return BadOrigin
	}
	if p.condition != nil {
		return t.read(r)
	}
	return holds
}

// required is what the route's short form asks of the session.
func (d *decision) required() requirement { return d.route.requirement(d.by == byNone) }

func (d *decision) needsIdentity() bool {
	return d.required().session != none || d.policy.required.session != none
}

// judge holds the identity to the route, and then to the policy. In shadow mode
// the policy refuses no request, but the route still does.
func (s *Server) judge(ctx context.Context, r *request, d *decision, now func() time.Time) {
	d.err = d.identity.err
	if reason := d.required().verify(d.identity.outcome, d.identity.session); reason != holds {
		d.reason = reason
		return
	}
	refused := d.refused
	if refused == holds {
		refused = d.verifyPolicy(ctx, r, now)
	}
	if refused != holds {
		d.refuseByPolicy(refused)
		return
	}
	d.allow, d.reason = true, d.identity.outcome
}

// verifyPolicy returns why the client does not meet the policy.
func (d *decision) verifyPolicy(ctx context.Context, r *request, now func() time.Time) Reason {
	if reason := d.policy.required.verify(d.identity.outcome, d.identity.session); reason != holds || d.policy.condition == nil {
		return reason
	}
	met, err := d.policy.condition.Holds(ctx, d.input(r, now()))
	switch {
	case err != nil:
		d.err = err
		return ConditionError
	case !met:
		return ConditionFalse
	}
	return holds
}

// refuseByPolicy denies, or allows in shadow mode if a policy can deny for the reason.
func (d *decision) refuseByPolicy(reason Reason) {
	d.reason = reason
	d.shadow = d.policy.shadow && reason.info().byPolicy
	d.allow = d.shadow
}

// input is what a condition decides by. All of its texts are UTF-8.
func (d *decision) input(r *request, now time.Time) Input {
	in := Input{
		Session: d.identity.session, Now: now,
		Method: strings.ToValidUTF8(r.method, "\uFFFD"), Host: d.target.host, Path: d.target.path,
		SourceAddress: strings.ToValidUTF8(r.address, "\uFFFD"), SourcePrincipal: strings.ToValidUTF8(r.principal, "\uFFFD"),
	}
	for name, value := range r.headers {
		if in.Headers == nil {
			in.Headers = make(map[string]string, len(r.headers))
		}
		in.Headers[name] = strings.ToValidUTF8(string(value), "\uFFFD")
	}
	return in
}

// identify finds out who sent the request.
func (s *Server) identify(ctx context.Context, r *request, fields []string) (who identity) {
	id, err := s.credential(r)
	switch {
	case errors.Is(err, sessions.ErrNoCookie):
		who.outcome = NoCookie
		return who
	case errors.Is(err, sessions.ErrAmbiguousCookie):
		who.outcome = AmbiguousCookie
		return who
	case err != nil:
		who.outcome = MalformedCookie
		return who
	}
	if who, known := s.peek(ctx, id, fields); known {
		return who
	}
	if !s.lookups.enter() {
		who.outcome = Overloaded
		return who
	}
	defer s.lookups.leave()
	start := time.Now()
	lookupCtx := r.own().bounds.new(ctx, s.deadline(ctx, start))
	defer lookupCtx.cancel()
	session, err := s.sessions.Touch(lookupCtx, id, fields...)
	lookup := time.Since(start)
	who = found(lookupCtx, session, err)
	who.lookup = lookup
	if who.key == "" {
		who.key = id.Key()
	}
	return who
}

// peek is who is known without a lookup, which then needs neither a place nor a deadline.
func (s *Server) peek(ctx context.Context, id sessions.ID, fields []string) (who identity, known bool) {
	if s.near == nil {
		return who, false
	}
	session, known, err := s.near.Peek(id, fields)
	if !known && err == nil {
		return who, false
	}
	who = found(ctx, session, err)
	if who.key == "" {
		who.key = id.Key()
	}
	return who, true
}

// credential is the session ID that a request presents.
func (s *Server) credential(r *request) (sessions.ID, error) {
	if s.config.Format != nil {
		id, err := s.config.Format.Read(r.cookies)
		r.presented = id
		return id, err
	}
	if s.config.Bearer {
		return s.config.Cookie.ReadWithBearer(r.cookies, r.authorization)
	}
	return s.config.Cookie.Read(r.cookies)
}

// deadline is our own, or a little before the caller's if that is earlier. A caller
// that hangs up does not end the lookup: a connection that is abandoned in the middle
// of a reply costs a new one, and many hang-ups at once cost many.
func (s *Server) deadline(ctx context.Context, now time.Time) time.Time {
	end := now.Add(s.config.Timeout)
	if theirs, ok := ctx.Deadline(); ok {
		if theirs = theirs.Add(-ahead(theirs.Sub(now))); theirs.Before(end) {
			end = theirs
		}
	}
	return end
}

// maxAhead is how long before the caller's deadline a lookup ends at most. The answer
// has to be made and sent by then, and the caller's clock began before ours.
const maxAhead = 20 * time.Millisecond

// ahead is how long before a deadline that is so far away a lookup ends. To an Envoy
// that has waited in vain the check is an error, which failure_mode_allow makes an
// allow. A quarter leaves most of a short deadline to the lookup.
func ahead(left time.Duration) time.Duration { return max(0, min(left/4, maxAhead)) }

// found is the identity after a lookup.
func found(ctx context.Context, session *sessions.Session, err error) identity {
	if err == nil && session != nil && session.UserID != "" {
		return identity{outcome: OK, session: session, key: session.Key}
	}
	reason, err := reasonOf(ctx, err)
	return identity{outcome: reason, err: err}
}

// reasonOf is the one place that turns an error into a reason; an unknown error is
// an outage. Absence is expected, and needs no error in the log.
func reasonOf(ctx context.Context, err error) (Reason, error) {
	switch {
	case errors.Is(err, sessions.ErrNotFound):
		return NotFound, nil
	case errors.Is(err, sessions.ErrExpired):
		return Expired, nil
	case errors.Is(err, sessions.ErrBroken):
		return BrokenRecord, err
	case errors.Is(err, sessions.ErrLayout):
		return UnknownLayout, err
	case ctx.Err() != nil:
		return Timeout, err
	}
	return Unavailable, err
}
