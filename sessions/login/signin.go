package login

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/sessions"
)

// SignIn ends a sign-in that went well, for a [Method]: it makes a session of user
// with a new ID, ends every session that the request presents, sets the cookie and
// leads the browser to returnTo. A JSON client gets 200 with the user and the
// location instead. A returnTo that is not allowed leads to "/", see the package
// comment. The login is counted and logged like one with a password.
//
// A revocation of all sessions of the user ends the new one as well if it comes
// after the request has arrived.
//
// The work does not depend on the client staying. If a step fails, SignIn writes
// nothing and returns an error for the endpoint to return: no cookie is set, and the
// new session is ended again, as the package comment says.
func (h *Handler) SignIn(w http.ResponseWriter, r *http.Request, user User, returnTo string) error {
	ctx, cancel := finish(r)
	defer cancel()
	l := login{began: arrival(r)}
	var id sessions.ID
	if l.problem = h.checkScheme(r); l.problem == nil {
		id, l.session, l.problem = h.replace(ctx, r, user, l.began)
	}
	h.record(r, l)
	if l.problem != nil {
		return l.problem
	}
	h.respondSignedIn(w, reply{location: h.returnTo(returnTo), json: wantsJSON(r)}, id, l.session)
	return nil
}

// replace makes a new session and ends every one that the request presents. If it
// cannot end all of these, it ends the new one again. A revocation of all sessions
// since began ends the new one, too.
func (h *Handler) replace(ctx context.Context, r *http.Request, user User, began time.Time) (sessions.ID, *sessions.Session, *problem) {
	id, s, err := h.config.Sessions.Create(ctx, sessions.NewSession{
		UserID: user.ID, Username: user.Username, Roles: user.Roles, Fields: user.Attributes,
		Address: addressText(h.clientAddress(r)), UserAgent: userAgent(r), Began: began,
	})
	if errors.Is(err, sessions.ErrEnded) { // the system is well, and another try may do
		return id, nil, &problem{code: unavailable, wait: retryUnavailable}
	}
	if err != nil {
		return id, nil, fault(ctx, err)
	}
	err = h.endPresented(ctx, &ending{request: r, why: whyReplaced, by: user.ID})
	if err == nil {
		return id, s, nil
	}
	if undo := h.end(ctx, &ending{request: r, why: whyUndone, by: user.ID}, s.Key); undo != nil {
		err = errors.Join(err, undo)
	}
	return sessions.ID{}, nil, notEnded(ctx, err)
}

// A reply is how the answer to a login looks.
type reply struct {
	location string // where to go then, checked
	json     bool
	bearer   bool // the ID goes into the body
}

// respondSignedIn hands the ID out, by cookie or, where asked for, in the body.
func (h *Handler) respondSignedIn(w http.ResponseWriter, a reply, id sessions.ID, s *sessions.Session) {
	if !a.bearer {
		http.SetCookie(w, h.config.Cookie.New(id))
	}
	if !a.json {
		_ = seeOther(w, a.location)
		return
	}
	answer := struct {
		identity
		Location string `json:"location"`
		ID       string `json:"id,omitempty"`
	}{identity: identityOf(s), Location: a.location}
	if a.bearer {
		answer.ID = id.Reveal()
	}
	writeJSON(w, http.StatusOK, typeJSON, answer)
}

// userAgent is what a record can hold of the header.
func userAgent(r *http.Request) string {
	text := strings.ToValidUTF8(r.UserAgent(), "\uFFFD")
	if len(text) <= sessions.MaxUserAgent {
		return text
	}
	end := sessions.MaxUserAgent
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}
