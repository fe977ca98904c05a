package login

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/throttle"
)

// A login is one that has come to its end, for metrics and the log.
type login struct {
	session *sessions.Session // after a success
	problem *problem          // nil: a success
	began   time.Time         // zero: unknown
	account string            // the username as typed, if it can be one
}

// record counts a login and logs it, once. It never logs what was typed, because
// people type passwords into the field for usernames.
func (h *Handler) record(r *http.Request, l login) {
	if p := l.problem; p != nil {
		if p.counted {
			return
		}
		p.counted = true
	}
	h.metrics.count(l.problem)
	if !l.began.IsZero() {
		h.metrics.took(r.Context(), time.Since(l.began))
	}
	args := []any{"outcome", outcomeOf(l.problem), "address", addressText(h.clientAddress(r))}
	switch {
	case l.problem == nil:
		args = append(args, "user_id", l.session.UserID, "session", l.session.Key.Handle())
	case l.account != "":
		args = append(args, "account", h.pseudonym(l.account))
	}
	h.config.Logger.InfoContext(r.Context(), "login", args...)
}

// pseudonym is the same for all attempts at one account, until the process ends.
// Without its key a reader of the log cannot try words against it.
func (h *Handler) pseudonym(username string) string {
	mac := hmac.New(sha256.New, h.logKey)
	mac.Write([]byte(throttle.Fold(username)))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))[:12]
}
