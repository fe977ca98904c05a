package login_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/sessions/login"
)

// A meanwhile does something while a right password is being checked.
type meanwhile struct {
	login.Authenticator
	do func()
}

func (m *meanwhile) Authenticate(ctx context.Context, username, password string) (login.User, error) {
	user, err := m.Authenticator.Authenticate(ctx, username, password)
	m.do()
	return user, err
}

// TestEndedUnderWay: all sessions of the user are ended while the password is being
// checked. The login ends without a session, says that another try may do, and is no
// fault; that other try does.
func TestEndedUnderWay(t *testing.T) {
	users := &meanwhile{}
	r := newRig(t, func(c *login.Config) { users.Authenticator, c.Users = c.Users, users })
	users.do = func() {
		if _, err := r.sessions.RevokeUser(t.Context(), "42"); err != nil {
			t.Error(err)
		}
	}
	a := r.send("login", request{form: credentials("ada", adaPassword)})
	r.want("under way", a, http.StatusServiceUnavailable)
	if a.Header.Get("Retry-After") == "" || r.count("42") != 0 || strings.Contains(r.log.String(), "login cannot serve") {
		t.Errorf("%d sessions, try again after %q; the log says %s", r.count("42"), a.Header.Get("Retry-After"), r.log.String())
	}
	r.untouched("under way", a)
	users.do = func() {}
	r.signIn("ada", "")
	if r.count("42") != 1 {
		t.Errorf("%d sessions", r.count("42"))
	}
}
