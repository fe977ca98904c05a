package login

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/coatcheck/coatcheck/sessions"
)

// signedOutParameter lets the login page say that its user has signed out.
const signedOutParameter = "signed_out"

// logout ends every session that the request presents.
func (h *Handler) logout(w http.ResponseWriter, r *http.Request) *problem {
	ctx, cancel := finish(r)
	defer cancel()
	e := &ending{request: r, why: whyLogout}
	if err := h.endPresented(ctx, e); err != nil {
		// The cookie stays: without it the browser would look signed out, while a copy
		// of the ID goes on.
		return notEnded(ctx, err)
	}
	return h.signedOut(w, r, e)
}

// logoutEverywhere ends all sessions of the user, this one too. Where a request
// presents several sessions, it means the users of all.
func (h *Handler) logoutEverywhere(w http.ResponseWriter, r *http.Request) *problem {
	ctx, cancel := finish(r)
	defer cancel()
	ids, more := h.presentedIDs(r)
	users, err := h.usersOf(ctx, ids)
	if err == nil && len(users) == 0 && !more {
		return h.mustSignIn(w, r, "logout")
	}
	e := &ending{request: r, why: whyEverywhere}
	for _, user := range users {
		err = errors.Join(err, h.endUser(ctx, e, user, ""))
	}
	if rest := h.endPresented(ctx, e); err == nil { // a presented session may be on no list
		err = rest
	}
	if err != nil {
		return notEnded(ctx, err)
	}
	return h.signedOut(w, r, e)
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

// signedOut clears the cookie, once the session is gone, and leads to the login page.
func (h *Handler) signedOut(w http.ResponseWriter, r *http.Request, e *ending) *problem {
	http.SetCookie(w, h.config.Cookie.Clear())
	if wantsJSON(r) {
		h.answerEnded(w, r, e)
		return nil
	}
	after := h.config.BasePath + "login?" + signedOutParameter + "=1" + e.parameter()
	// Who came to use another account goes on to where that is needed.
	if location := h.returnTo(r.PostFormValue(sessions.ReturnParameter)); location != "/" {
		after += "&" + sessions.ReturnParameter + "=" + url.QueryEscape(location)
	}
	return seeOther(w, after)
}

// mustSignIn leads a browser to the login page and from there to an endpoint.
func (h *Handler) mustSignIn(w http.ResponseWriter, r *http.Request, then string) *problem {
	if wantsJSON(r) {
		return &problem{code: notSignedIn}
	}
	return seeOther(w, h.config.BasePath+"login?"+sessions.ReturnParameter+"="+h.config.BasePath+then)
}

// logoutPage asks first.
func (h *Handler) logoutPage(w http.ResponseWriter, r *http.Request) *problem {
	s, p := h.signedIn(r)
	switch {
	case p != nil:
		return p
	case s == nil:
		return seeOther(w, h.config.BasePath+"login")
	}
	h.show(w, r, view{page: "logout", User: displayName(s)})
	return nil
}

// unreplicatedParameter lets a page say that an end could be lost in a failover.
const unreplicatedParameter = "unconfirmed"

// parameter is that of the page that the browser sees next.
func (e *ending) parameter() string {
	if e.unreplicated {
		return "&" + unreplicatedParameter + "=1"
	}
	return ""
}

// answerEnded tells a program that sessions have ended: 204, or 202 with the reason for
// which that may not last.
func (h *Handler) answerEnded(w http.ResponseWriter, r *http.Request, e *ending) {
	if !e.unreplicated {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writeJSON(w, http.StatusAccepted, typeJSON, struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}{"not_replicated", h.speak(w, r).text["unconfirmed"]})
}
