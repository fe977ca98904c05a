package api

import (
	"context"
	"errors"

	"github.com/coatcheck/coatcheck/sessions"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
)

// Foreign are the sessions of another framework, which its application makes and ends. They
// are read, and slid, by their IDs; their key in the store is the browser's secret, and so no
// caller names them by it or hears of it. Their errors are those of [sessions.Manager.Touch].
type Foreign interface {
	// Lookup reads a session and does not slide it, Touch does both.
	Lookup(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error)
	Touch(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error)
	// Find is the ID of the one session with a handle. It may go through all of them, or
	// return [sessions.ErrNotFound] or [sessions.ErrHandleAmbiguous].
	Find(ctx context.Context, handle string) (sessions.ID, error)
	// Parse is the ID in the value of a cookie, or [sessions.ErrMalformed].
	Parse(value string) (sessions.ID, error)
}

// A ref is the session that a request names.
type ref struct {
	key sessions.Key
	id  sessions.ID // of another framework's; then key is for the handle alone
}

// named is the session that a request names.
func (s *Server) named(ctx context.Context, c *call, name *pb.SessionName) (r ref, err error) {
	if s.config.Foreign == nil {
		r.key, err = c.key(name)
		return r, err
	}
	switch name := name.GetName().(type) {
	case *pb.SessionName_Id:
		if !c.caller.may(ByID) {
			return r, lacksByID
		}
		if r.id, err = s.config.Foreign.Parse(name.Id); err != nil {
			return r, notFound
		}
	case *pb.SessionName_Handle:
		if !validHandle(name.Handle) {
			return r, notAHandle
		}
		c.handle = name.Handle
		if r.id, err = s.find(ctx, c, name.Handle); errors.Is(err, sessions.ErrHandleAmbiguous) {
			return r, notAHandle
		}
	case *pb.SessionName_Key:
		return r, noKeys
	default:
		return r, noName
	}
	if err != nil {
		return r, err
	}
	r.key = r.id.Key()
	c.handle = r.key.Handle()
	return r, nil
}

// find searches for a handle, one at a time: each search may go through all that the store has,
// and many at once would keep checks from it. Of each caller one call waits for that, so that a
// caller with many does not use up the time of the others.
func (s *Server) find(ctx context.Context, c *call, handle string) (sessions.ID, error) {
	for _, turn := range []chan struct{}{c.share.finding, s.finding} {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return sessions.ID{}, tooManyCalls
		}
	}
	return s.config.Foreign.Find(ctx, handle)
}

// validHandle reports whether s has the form of a whole handle. A part of one would find other
// sessions.
func validHandle(s string) bool {
	_, err := sessions.ParseKey(sessions.KeyPrefix + s + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	return err == nil
}

// own returns an error where sessions are another framework's: what the method does is not
// done to those.
func (s *Server) own() error {
	if s.config.Foreign != nil {
		return notOurs
	}
	return nil
}

// fetchForeign reads a session of another framework. It has no key to tell.
func (s *Server) fetchForeign(ctx context.Context, of ref, slide bool, fields []string) (*sessions.Session, error) {
	read := s.config.Foreign.Lookup
	if slide {
		read = s.config.Foreign.Touch
	}
	session, err := read(ctx, of.id, fields...)
	if err != nil {
		return nil, err
	}
	with := *session
	with.Key = of.key
	return &with, nil
}
