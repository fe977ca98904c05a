package login

import (
	"context"
	"errors"
	"net/http"

	"github.com/coatcheck/coatcheck/sessions"
)

// shown is the session ID that a request shows, if it is one that would admit it.
func (h *Handler) shown(r *http.Request) (sessions.ID, bool) {
	cookies := sessions.CookieHeader{Lines: r.Header["Cookie"]}
	if !h.config.BearerLogin {
		id, err := h.config.Cookie.Read(cookies)
		return id, err == nil
	}
	id, err := h.config.Cookie.ReadWithBearer(cookies, r.Header["Authorization"])
	return id, err == nil
}

// allShown are the session IDs that a request shows, each of which would admit it
// alone, and whether there are more of them than are ended at once.
func (h *Handler) allShown(r *http.Request) (ids []sessions.ID, more bool) {
	var authorization []string
	if h.config.BearerLogin {
		authorization = r.Header["Authorization"]
	}
	return h.config.Cookie.AllShown(sessions.CookieHeader{Lines: r.Header["Cookie"]}, authorization)
}

// errTooManyShown is the client's doing, and no fault of ours.
var errTooManyShown = errors.New("the request shows more sessions than are ended at once")

// endShown ends every session that the request shows. Its error, errTooManyShown
// where nothing else is wrong, says that some may be alive; the others have ended
// all the same.
func (h *Handler) endShown(ctx context.Context, e ending) (err error) {
	ids, more := h.allShown(e.request)
	for _, id := range ids {
		err = errors.Join(err, h.end(ctx, e, id.Key()))
	}
	if err == nil && more {
		return errTooManyShown
	}
	return err
}

// signedIn is the live session that a request shows, nil if it shows none. It
// does not slide: a page that asks now and then who is signed in would keep the
// session alive for ever.
func (h *Handler) signedIn(r *http.Request) (*sessions.Session, *refusal) {
	id, ok := h.shown(r)
	if !ok {
		return nil, nil
	}
	s, err := h.config.Sessions.Lookup(r.Context(), id.Key())
	switch {
	case err == nil:
		return s, nil
	case gone(err):
		return nil, nil
	}
	return nil, fault(r.Context(), err)
}

// gone tells that nobody is signed in from that nothing is known.
func gone(err error) bool {
	return errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrExpired) || errors.Is(err, sessions.ErrBroken)
}

// displayName is what people call the user.
func displayName(s *sessions.Session) string {
	if s.Username != "" {
		return s.Username
	}
	return s.UserID
}
