package e2e_test

import (
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestWayBack: docs/upgrade.md tells users of sessions in a newer layout how they get on
// under an older version: they are not signed out, signing in replaces the session, and
// an operator can end it.
func TestWayBack(t *testing.T) {
	t.Parallel()
	s := pages(t, rig.Options{})
	p := from(t, s, "127.0.1.1")
	redis := s.Redis.Client()
	defer func() { _ = redis.Close() }()
	newer := func() (cookie string, key sessions.Key) {
		cookie, key = login(t, manager(t, s, sessions.Config{}), sessions.NewSession{UserID: "42"})
		must(t, redis.HSet(t.Context(), string(key), sessions.FieldVersion, "2").Err())
		return cookie, key
	}
	ended := func(key sessions.Key) bool { return redis.Exists(t.Context(), string(key)).Val() == 0 }

	cookie, key := newer()
	refused := send(t, s, "GET /x", "Cookie: "+cookie, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document").is(t, 503)
	if len(refused.header["Set-Cookie"]) > 0 || refused.header.Get("Retry-After") == "" || ended(key) {
		t.Errorf("the session is not left as it is: %v", refused.header)
	}
	replaced := p.post(t, "/.auth/login", credentials("ada", password), "Cookie: "+cookie).came(t, 303)
	send(t, s, "GET /x", "Cookie: "+replaced).is(t, 200)
	if !ended(key) {
		t.Error("signing in left the session")
	}

	_, key = newer()
	name := string(key) // a handle may begin with a dash
	if out, err := s.Command("", "session", "revoke", name); err != nil || !strings.Contains(out, "1") {
		t.Errorf("session revoke: %v %s", err, out)
	}
	if !ended(key) {
		t.Error("session revoke left the session")
	}
}
