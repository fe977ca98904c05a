package login

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/coatcheck/coatcheck/sessions"
)

// signedOutParameter lets the login page say that somebody has signed out.
const signedOutParameter = "signed_out"

// logout ends every session that the request shows. A GET only asks.
func (h *Handler) logout(w http.ResponseWriter, r *http.Request) *refusal {
	if r.Method != http.MethodPost {
		return h.logoutPage(w, r)
	}
	ctx, cancel := finish(r)
	defer cancel()
	if err := h.endShown(ctx, ending{request: r, why: whyLogout}); err != nil {
		// The cookie stays: without it the browser would look signed out, and
		// whoever has a copy would not be.
		return notEnded(ctx, err)
	}
	return h.signedOut(w, r)
}

// logoutEverywhere ends all sessions of the user, this one too. Where a request
// shows several sessions, it means the users of all.
func (h *Handler) logoutEverywhere(w http.ResponseWriter, r *http.Request) *refusal {
	ctx, cancel := finish(r)
	defer cancel()
	ids, more := h.allShown(r)
	users, err := h.usersOf(ctx, ids)
	if err == nil && len(users) == 0 && !more {
		return h.mustSignIn(w, r, "logout")
	}
	e := ending{request: r, why: whyEverywhere}
	for _, user := range users {
		err = errors.Join(err, h.endUser(ctx, e, user, ""))
	}
	if rest := h.endShown(ctx, e); err == nil { // what was shown may be on no list
		err = rest
	}
	if err != nil {
		return notEnded(ctx, err)
	}
	return h.signedOut(w, r)
}

// usersOf are the IDs of the users whose live sessions are named.
func (h *Handler) usersOf(ctx context.Context, ids []sessions.ID) (users []string, err error) {
	for _, id := range ids {
		s, fault := h.config.Sessions.Lookup(ctx, id.Key())
		switch {
		case fault == nil && !slices.Contains(users, s.UserID):
			users = append(users, s.UserID)
		case fault != nil && !gone(fault):
			err = errors.Join(err, fault)
		}
	}
	return users, err
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
	return seeOther(w, h.config.BasePath+"login?"+sessions.ReturnParameter+"="+h.config.BasePath+then)
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
