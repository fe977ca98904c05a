package login

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/throttle"
)

// passwordMethod is the [Method] of the login form.
type passwordMethod struct {
	users    Authenticator
	counters throttle.Counters
	*Handler
}

// Mount implements [Method].
func (m passwordMethod) Mount(mux *Mux, h *Handler) {
	m.Handler = h
	mux.handle("GET login", m.page)
	mux.handle("POST login", m.signIn)
}

// page is the form, or the user who is signed in.
func (m passwordMethod) page(w http.ResponseWriter, r *http.Request) *problem {
	s, p := m.signedIn(r)
	if p != nil {
		return p
	}
	query := r.URL.Query()
	location := m.returnTo(query.Get(sessions.ReturnParameter))
	v := view{page: "login", Return: location, Place: m.placeOf(location)}
	if s != nil {
		v.page, v.User, v.Roles = "account", displayName(s), rolesText(s.Roles)
		v.Until = m.in(r).until(s.ExpiresAt, m.config.Sessions.Now(), m.config.IdleTimeout)
	} else if query.Has(signedOutParameter) {
		v.state, v.notice, v.unreplicated = "state_signed_out", "signed_out", query.Has(unreplicatedParameter)
	} else if m.plainHTTPHint(r) {
		v.notice = "plain_http_hint"
	}
	m.show(w, r, v)
	return nil
}

// maxRoles bounds what the account page shows; a session can have hundreds.
const maxRoles = 20

// rolesText lists roles for people.
func rolesText(roles []string) string {
	if len(roles) > maxRoles {
		return strings.Join(roles[:maxRoles], ", ") + ", …"
	}
	return strings.Join(roles, ", ")
}

// signIn answers the form and JSON clients.
func (m passwordMethod) signIn(w http.ResponseWriter, r *http.Request) *problem {
	began := time.Now()
	a, p := m.readAttempt(r)
	if p == nil && !a.bearer { // which needs no cookie
		p = m.checkScheme(r)
	}
	if p != nil {
		m.record(r, login{problem: p})
		return p
	}
	l := login{began: began}
	if a.plausible() {
		l.account = a.username
	}
	var id sessions.ID
	id, l.session, l.problem = m.authenticate(r, a)
	m.record(r, l)
	if l.problem != nil {
		l.problem.form = &form{a.username, a.location}
		return l.problem
	}
	m.respondSignedIn(w, a.reply, id, l.session)
	return nil
}

// authenticate makes a session of a username and a password. The package comment
// has the order and its reasons.
func (m passwordMethod) authenticate(r *http.Request, a *attempt) (id sessions.ID, s *sessions.Session, p *problem) {
	if !a.plausible() {
		return id, nil, &problem{code: badCredentials}
	}
	began := time.Now() // a revocation of all sessions from here on ends this one, too
	counted := throttle.NewAttempt(a.username, m.clientAddress(r))
	wait, err := counted.Count(r.Context(), m.counters)
	if err != nil {
		return id, nil, fault(r.Context(), err)
	}
	if wait > 0 {
		return id, nil, &problem{code: throttled, wait: wait}
	}
	user, err := m.users.Authenticate(r.Context(), a.username, a.password)
	ctx, cancel := finish(r)
	defer cancel()
	switch {
	case errors.Is(err, ErrBadCredentials):
		return id, nil, &problem{code: badCredentials}
	case err != nil:
		return id, nil, m.unchecked(ctx, r, counted, err)
	}
	if err := counted.Succeed(ctx, m.counters); err != nil {
		return id, nil, fault(ctx, err)
	}
	return m.replace(ctx, r, user, began)
}

// unchecked gives back an attempt at a password that was not checked. If the client
// has left, the attempt stays counted: how far the check had got is unknown, and
// leaving early must not make attempts free.
func (m passwordMethod) unchecked(ctx context.Context, r *http.Request, counted throttle.Attempt, err error) *problem {
	if r.Context().Err() != nil {
		return fault(r.Context(), err)
	}
	if back := counted.GiveBack(ctx, m.counters); back != nil {
		return fault(ctx, errors.Join(err, back))
	}
	if errors.Is(err, ErrBusy) {
		return &problem{code: busy, wait: retryUnavailable}
	}
	return fault(ctx, err)
}
