package login

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/sessions"
)

// finishing bounds what follows a right password. It is carried to its end even
// if the client leaves, so that no session is left half-made.
const finishing = 10 * time.Second

func (h *Handler) login(w http.ResponseWriter, r *http.Request) *refusal {
	if r.Method != http.MethodPost {
		return h.loginPage(w, r)
	}
	start := time.Now()
	a, no := h.readAttempt(r)
	var id sessions.ID
	var s *sessions.Session
	if no == nil {
		id, s, no = h.signIn(r, a)
		h.metrics.duration.Observe(time.Since(start).Seconds())
	}
	h.metrics.count(no)
	h.logLogin(r, a, s, no)
	if no != nil {
		no.form = a
		return no
	}
	return h.welcome(w, a, id, s)
}

// signIn makes a session of a username and a password. The order is that of the
// package comment.
func (h *Handler) signIn(r *http.Request, a *attempt) (id sessions.ID, s *sessions.Session, no *refusal) {
	if !a.plausible() {
		return id, nil, &refusal{code: badCredentials}
	}
	began := time.Now() // a revocation of all sessions from here on ends this one, too
	address := h.clientAddress(r)
	tries := triesOf(a.username, address)
	wait, err := tries.count(r.Context(), h.config.Counters)
	if err != nil {
		return id, nil, fault(r.Context(), err)
	}
	if wait > 0 {
		return id, nil, &refusal{code: throttled, wait: wait}
	}
	user, err := h.config.Users.Authenticate(r.Context(), a.username, a.password)
	ctx, cancel := finish(r)
	defer cancel()
	switch {
	case errors.Is(err, ErrBadCredentials):
		return id, nil, &refusal{code: badCredentials}
	case err != nil:
		return id, nil, h.unchecked(ctx, r, tries, err)
	}
	if err := tries.succeed(ctx, h.config.Counters); err != nil {
		return id, nil, fault(ctx, err)
	}
	return h.replace(ctx, r, sessions.NewSession{
		UserID: user.ID, Username: user.Username, Roles: user.Roles, Fields: user.Attributes,
		Address: addressText(address), UserAgent: userAgent(r), Began: began,
	})
}

// unchecked gives back an attempt at a password that was not checked. One whose
// client left stays counted: nobody knows how far the check had got, and leaving
// early must not make attempts free.
func (h *Handler) unchecked(ctx context.Context, r *http.Request, t tries, err error) *refusal {
	if r.Context().Err() != nil {
		return fault(r.Context(), err)
	}
	if back := t.giveBack(ctx, h.config.Counters); back != nil {
		return fault(ctx, errors.Join(err, back))
	}
	if errors.Is(err, ErrBusy) {
		return &refusal{code: busy, wait: retryUnavailable}
	}
	return fault(ctx, err)
}

// replace makes a new session and ends every one that the request shows. If it
// cannot end all of these, it ends the new one again.
func (h *Handler) replace(ctx context.Context, r *http.Request, n sessions.NewSession) (sessions.ID, *sessions.Session, *refusal) {
	id, s, err := h.config.Sessions.Create(ctx, n)
	if errors.Is(err, sessions.ErrEnded) { // the system is well, and another try may do
		return id, nil, &refusal{code: unavailable, wait: retryUnavailable}
	}
	if err != nil {
		return id, nil, fault(ctx, err)
	}
	err = h.endShown(ctx, ending{request: r, why: whyReplaced, by: n.UserID})
	if err == nil {
		return id, s, nil
	}
	if undo := h.end(ctx, ending{request: r, why: whyUndone, by: n.UserID}, s.Key); undo != nil {
		err = errors.Join(err, undo)
	}
	return sessions.ID{}, nil, notEnded(ctx, err)
}

// welcome hands the ID out, by cookie or, where asked for, in the body.
func (h *Handler) welcome(w http.ResponseWriter, a *attempt, id sessions.ID, s *sessions.Session) *refusal {
	if !a.bearer {
		http.SetCookie(w, h.config.Cookie.New(id))
	}
	if !a.json {
		return seeOther(w, a.location)
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
	return nil
}

// logLogin never names what was typed: people type passwords into the field for
// usernames.
func (h *Handler) logLogin(r *http.Request, a *attempt, s *sessions.Session, no *refusal) {
	args := []any{"outcome", outcomeOf(no), "address", addressText(h.clientAddress(r))}
	if s != nil && no == nil {
		args = append(args, "user_id", s.UserID, "session", s.Key.Handle())
	} else if a != nil && a.plausible() {
		args = append(args, "account", h.pseudonym(a.username))
	}
	h.config.Logger.InfoContext(r.Context(), "login", args...)
}

// pseudonym tells which attempts were at the same account, until the process
// ends. Without its key nobody can try words against it.
func (h *Handler) pseudonym(username string) string {
	mac := hmac.New(sha256.New, h.logKey)
	mac.Write([]byte(fold(username)))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))[:12]
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

// loginPage is the form, or who is signed in already.
func (h *Handler) loginPage(w http.ResponseWriter, r *http.Request) *refusal {
	s, no := h.signedIn(r)
	if no != nil {
		return no
	}
	query := r.URL.Query()
	v := view{page: "login", Title: h.pages.text["title_login"], Return: h.returnTo(query.Get(sessions.ReturnParameter))}
	if s != nil {
		v.page, v.Title, v.User = "account", h.pages.text["title_account"], displayName(s)
	} else if query.Has(signedOutParameter) {
		v.Notice = h.pages.text["signed_out"]
	}
	h.show(w, r, v)
	return nil
}
