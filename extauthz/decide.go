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
	allow   bool
	reason  Reason
	session *sessions.Session // whose identity goes upstream; the refused user's where a role is missing
	err     error             // what lies behind the reason, for the log

	route  route         // what was asked for
	choice               // and by which policy
	shadow bool          // allowed only because the policy is in shadow mode
	key    sessions.Key  // of the session that was looked up, found or not
	lookup time.Duration // how long that took
}

// decide reads like the table in the package comment.
func (s *Server) decide(ctx context.Context, r *request) decision {
	policies := s.policiesOf(r)
	if r.unread {
		return decision{reason: Overloaded, choice: choice{policy: policies.plain}}
	}
	route, err := routeOf(r.extensions)
	if err != nil {
		return decision{reason: BadRoute, err: err, choice: choice{policy: policies.plain}}
	}
	r.paths = cmp.Or(route.paths, s.config.Paths)
	choice, refused := policies.choose(r, route.policy)
	d := decision{reason: refused, route: route, choice: choice}
	switch {
	case refused != "":
	case choice.policy.preflight && r.preflight() && choice.policy.refuses(r) == "" && route.needs(choice.by == "").session == none:
		d.allow, d.reason = true, Preflight
	default:
		s.judge(ctx, r, &d)
	}
	return d
}

// judge holds a request to its route and to the chosen policy. In shadow mode
// the policy refuses nobody, but the route still does.
func (s *Server) judge(ctx context.Context, r *request, d *decision) {
	refused := d.policy.refuses(r)
	if refused != "" && !d.policy.shadow {
		d.reason = refused
		return
	}
	short := d.route.needs(d.by == "")
	if short.session == none && d.policy.needs.session == none {
		d.reason = Public
	} else {
		s.identify(ctx, r, d)
	}
	if reason := short.unmet(d); reason != "" {
		d.reason = reason
		return
	}
	if refused == "" {
		refused = s.unmet(ctx, r, d)
	}
	if refused != "" {
		d.refuseByPolicy(refused)
		return
	}
	d.allow = true
}

// refuseByPolicy denies, or in shadow mode allows what the policy would deny.
func (d *decision) refuseByPolicy(reason Reason) {
	d.reason = reason
	d.shadow = d.policy.shadow && reason.info().byPolicy
	d.allow = d.shadow
}

// policiesOf are those to decide r by.
func (s *Server) policiesOf(r *request) *policies {
	if r.policies == nil {
		return s.bare
	}
	return r.policies
}

// refuses says why the policy refuses r whoever sent it, "" if it does not.
func (p *policy) refuses(r *request) Reason {
	if p.origins.foreign(r) {
		return BadOrigin
	}
	if p.condition != nil {
		return r.normalise()
	}
	return ""
}

// unmet says why d does not meet the chosen policy, "" if it does.
func (s *Server) unmet(ctx context.Context, r *request, d *decision) Reason {
	if reason := d.policy.needs.unmet(d); reason != "" || d.policy.condition == nil {
		return reason
	}
	holds, err := d.policy.condition.Holds(ctx, s.input(r, d))
	switch {
	case err != nil:
		d.err = err
		return ConditionError
	case !holds:
		return ConditionFalse
	}
	return ""
}

// input is what a condition decides by. All of its texts are UTF-8.
func (s *Server) input(r *request, d *decision) Input {
	in := Input{
		Session: d.session, Now: s.now(r),
		Method: strings.ToValidUTF8(r.method, "\uFFFD"), Host: r.cleanHost, Path: r.cleanPath,
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

func (s *Server) now(r *request) time.Time {
	if r.assumed != nil && !r.assumed.now.IsZero() {
		return r.assumed.now
	}
	return s.config.Now()
}

// identify adds to d who sent the request, without a verdict yet.
func (s *Server) identify(ctx context.Context, r *request, d *decision) {
	if r.assumed != nil && r.assumed.identity {
		r.assumed.identify(ctx, d)
		return
	}
	id, err := s.credential(r)
	switch {
	case errors.Is(err, sessions.ErrNoCookie):
		d.reason = NoCookie
		return
	case errors.Is(err, sessions.ErrAmbiguousCookie):
		d.reason = AmbiguousCookie
		return
	case err != nil:
		d.reason = MalformedCookie
		return
	}
	if !s.lookups.enter() {
		d.reason = Overloaded
		return
	}
	defer s.lookups.leave()
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	start := time.Now()
	session, err := s.sessions.Touch(ctx, id, d.policy.fields...)
	d.lookup = time.Since(start)
	if d.found(ctx, session, err); d.key == "" {
		d.key = id.Key()
	}
}

// found adds what a lookup found.
func (d *decision) found(ctx context.Context, session *sessions.Session, err error) {
	if err == nil && session != nil && session.UserID != "" {
		d.reason, d.session, d.key = OK, session, session.Key
		return
	}
	d.reason, d.err = reasonOf(ctx, err)
}

// credential is the session ID that a request shows.
func (s *Server) credential(r *request) (sessions.ID, error) {
	if s.config.Bearer {
		return s.config.Cookie.ReadWithBearer(r.cookies, r.authorization)
	}
	return s.config.Cookie.Read(r.cookies)
}

// reasonOf is the one place that turns an error into a reason, and what it does
// not know is an outage. Absence is expected, and needs no error in the log.
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

// deadline is our own, or the caller's if that is earlier. A caller that hangs
// up does not end the lookup: to abandon a connection in the middle of a reply
// costs a new one, and a storm of hang-ups a storm of them.
func (s *Server) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	end := time.Now().Add(s.config.Timeout)
	if theirs, ok := ctx.Deadline(); ok && theirs.Before(end) {
		end = theirs
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}
