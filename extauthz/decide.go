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
}

// decide reads like the table in the package comment.
func (s *Server) decide(ctx context.Context, r *request) decision {
	route, err := routeOf(r.extensions)
	if err != nil {
		return decision{reason: BadRoute, err: err}
	}
	if !r.makesSense() {
		return decision{reason: BadRequest}
	}
	if route.session == none {
		return decision{allow: true, reason: Public}
	}
	session, reason, err := s.identify(ctx, r)
	switch {
	case reason == OK && !route.admits(session.Roles):
		return decision{reason: MissingRole, session: session}
	case reason == OK:
		return decision{allow: true, reason: OK, session: session}
	case reason.anonymous() && route.session == optional && route.roles == nil:
		return decision{allow: true, reason: reason, err: err}
	}
	return decision{reason: reason, err: err}
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

// identify says who sent the request. It is the one place that turns an error
// into a reason, and what it does not know is an outage.
func (s *Server) identify(ctx context.Context, r *request) (*sessions.Session, Reason, error) {
	id, err := s.config.Cookie.Read(r.cookies)
	switch {
	case errors.Is(err, sessions.ErrNoCookie):
		return nil, NoCookie, nil
	case errors.Is(err, sessions.ErrAmbiguousCookie):
		return nil, AmbiguousCookie, nil
	case err != nil:
		return nil, MalformedCookie, nil
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	session, err := s.sessions.Touch(ctx, id, s.fields...)
	switch {
	case err == nil && session != nil && session.UserID != "":
		return session, OK, nil
	case errors.Is(err, sessions.ErrNotFound):
		return nil, NotFound, nil
	case errors.Is(err, sessions.ErrExpired):
		return nil, Expired, nil
	case errors.Is(err, sessions.ErrBroken):
		return nil, BrokenRecord, err
	case errors.Is(err, sessions.ErrLayout):
		return nil, UnknownLayout, err
	case ctx.Err() != nil:
		return nil, Timeout, err
	}
	return nil, Unavailable, err
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
