package extauthz

import (
	"context"
	"errors"
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
	key    sessions.Key  // of the session that was looked up, found or not
	lookup time.Duration // how long that took
}

// decide reads like the table in the package comment.
func (s *Server) decide(ctx context.Context, r *request) decision {
	route, err := routeOf(r.extensions)
	if err != nil {
		return decision{reason: BadRoute, err: err}
	}
	if !r.makesSense() {
		return decision{reason: BadRequest, route: route}
	}
	if route.session == none {
		return decision{allow: true, reason: Public, route: route}
	}
	d := s.identify(ctx, r)
	d.route = route
	switch {
	case d.reason == OK && !route.admits(d.session.Roles):
		d.reason = MissingRole
	case d.reason == OK:
		d.allow = true
	case d.reason.anonymous():
		d.allow = route.session == optional && route.roles == nil
	}
	return d
}

// anonymous reports whether the reason says, for certain, that nobody is
// signed in.
func (r Reason) anonymous() bool {
	switch r {
	case NoCookie, MalformedCookie, AmbiguousCookie, NotFound, Expired, BrokenRecord:
		return true
	}
	return false
}

// identify says who sent the request, without a verdict yet.
func (s *Server) identify(ctx context.Context, r *request) decision {
	id, err := s.credential(r)
	switch {
	case errors.Is(err, sessions.ErrNoCookie):
		return decision{reason: NoCookie}
	case errors.Is(err, sessions.ErrAmbiguousCookie):
		return decision{reason: AmbiguousCookie}
	case err != nil:
		return decision{reason: MalformedCookie}
	}
	if !s.lookups.enter() {
		return decision{reason: Overloaded}
	}
	defer s.lookups.leave()
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	start := time.Now()
	session, err := s.sessions.Touch(ctx, id, s.fields...)
	d := decision{lookup: time.Since(start)}
	if err == nil && session != nil && session.UserID != "" {
		d.reason, d.session, d.key = OK, session, session.Key
		return d
	}
	d.key = id.Key()
	d.reason, d.err = reasonOf(ctx, err)
	return d
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
