package login

import (
	"errors"
	"net/http"

	"github.com/coatcheck/coatcheck/sessions"
)

// shown is the session ID that a request shows.
func (h *Handler) shown(r *http.Request) (sessions.ID, bool) {
	cookies := sessions.CookieHeader{Lines: r.Header["Cookie"]}
	if !h.config.BearerLogin {
		id, err := h.config.Cookie.Read(cookies)
		return id, err == nil
	}
	id, err := h.config.Cookie.ReadWithBearer(cookies, r.Header["Authorization"])
	return id, err == nil
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
