package login

import (
	"net/http"
)

// signedOutParameter lets the login page say that somebody has signed out.
const signedOutParameter = "signed_out"

// logout ends the session that the request shows. A GET only asks.
func (h *Handler) logout(w http.ResponseWriter, r *http.Request) *refusal {
	if r.Method != http.MethodPost {
		return h.logoutPage(w, r)
	}
	if id, ok := h.shown(r); ok {
		if err := h.config.Sessions.Revoke(r.Context(), id.Key()); err != nil && !gone(err) {
			// The cookie stays: without it the browser would look signed out, and
			// whoever has a copy would not be.
			return fault(r.Context(), err)
		}
	}
	return h.signedOut(w, r)
}

// logoutEverywhere ends all sessions of the user, this one too.
func (h *Handler) logoutEverywhere(w http.ResponseWriter, r *http.Request) *refusal {
	s, no := h.signedIn(r)
	if no != nil {
		return no
	}
	if s == nil {
		return h.mustSignIn(w, r, "logout")
	}
	n, err := h.config.Sessions.RevokeUser(r.Context(), s.UserID)
	if err != nil {
		return fault(r.Context(), err)
	}
	h.config.Logger.InfoContext(r.Context(), "signed out everywhere", "user_id", s.UserID, "sessions", n)
	return h.signedOut(w, r)
}

// signedOut takes the cookie back, once the session is gone.
func (h *Handler) signedOut(w http.ResponseWriter, r *http.Request) *refusal {
	http.SetCookie(w, h.config.Cookie.Clear())
	if wantsJSON(r) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return seeOther(w, h.config.BasePath+"login?"+signedOutParameter+"=1")
}

// mustSignIn leads a browser to the login page and from there to an endpoint.
func (h *Handler) mustSignIn(w http.ResponseWriter, r *http.Request, then string) *refusal {
	if wantsJSON(r) {
		return &refusal{code: notSignedIn}
	}
	return seeOther(w, h.config.BasePath+"login?"+returnParameter+"="+h.config.BasePath+then)
}

func (h *Handler) logoutPage(w http.ResponseWriter, r *http.Request) *refusal {
	s, no := h.signedIn(r)
	switch {
	case no != nil:
		return no
	case s == nil:
		return seeOther(w, h.config.BasePath+"login")
	}
	h.show(w, r, view{page: "logout", Title: h.pages.text["title_logout"], User: displayName(s)})
	return nil
}
