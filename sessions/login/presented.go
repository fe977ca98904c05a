package login

import (
	"context"
	"errors"
	"net/http"

	"github.com/coatcheck/coatcheck/sessions"
)

// presentedID is the session ID that a request presents, if it would admit the
// request.
func (h *Handler) presentedID(r *http.Request) (sessions.ID, bool) {
	cookies := sessions.CookieHeader{Lines: r.Header["Cookie"]}
	if !h.config.BearerLogin {
		id, err := h.config.Cookie.Read(cookies)
		return id, err == nil
	}
	id, err := h.config.Cookie.ReadWithBearer(cookies, r.Header["Authorization"])
	return id, err == nil
}

// presentedIDs are the session IDs that a request presents, each of which would admit
// it alone, and whether there are more of them than are ended at once.
func (h *Handler) presentedIDs(r *http.Request) (ids []sessions.ID, more bool) {
	var authorization []string
	if h.config.BearerLogin {
		authorization = r.Header["Authorization"]
	}
	return h.config.Cookie.AllPresented(sessions.CookieHeader{Lines: r.Header["Cookie"]}, authorization)
}

// errTooManyPresented is the client's doing, and no fault of ours.
var errTooManyPresented = errors.New("the request presents more sessions than are ended at once")

// endPresented ends every session that the request presents. Its error says that some
// may be alive; it is errTooManyPresented if the others have ended.
func (h *Handler) endPresented(ctx context.Context, e *ending) (err error) {
	ids, more := h.presentedIDs(e.request)
	for _, id := range ids {
		err = errors.Join(err, h.end(ctx, e, id.Key()))
	}
	if err == nil && more {
		return errTooManyPresented
	}
	return err
}

// notEnded is the problem where sessions that should end may be alive.
func notEnded(ctx context.Context, err error) *problem {
	if err == errTooManyPresented { //nolint:errorlint // and nothing else
		return &problem{code: tooManyPresented, wait: retryUnavailable}
	}
	return fault(ctx, err)
}

// signedIn is the live session that a request presents, or nil. It does not slide:
// a page that asks now and then who is signed in would keep the session alive for
// ever.
func (h *Handler) signedIn(r *http.Request) (*sessions.Session, *problem) {
	id, ok := h.presentedID(r)
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

// gone reports whether an error says that the session does not live, and not that
// the answer is unknown.
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
