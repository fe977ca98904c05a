package live_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestStory: an application as the author of the article has it, with NestJS 9,
// express-session and connect-redis 6 over ioredis, runs untouched behind Envoy and
// Coatcheck: its own login, its own logout, its own guards; and services that know
// nothing of its sessions learn who the user is.
func TestStory(t *testing.T) {
	v := theSite(t, "nest")
	a := v.apps[0]
	for _, path := range []string{"/profile", "/admin/report", "/echo"} {
		v.ask(t, a, "GET "+path, "").came(t, http.StatusUnauthorized)
	}
	v.ask(t, a, "POST /auth/login", "", `{"username":"ada","password":"wrong"}`).came(t, http.StatusUnauthorized)

	bob := v.signInAt(t, a, `{"username":"bob","password":"battery staple"}`)
	if user := v.profile(t, a, bob.cookie); user["userId"] != 7.0 || user["username"] != "bob" {
		t.Errorf("the application knows its user as %v", user)
	}
	v.ask(t, a, "GET /admin/report", bob.cookie).came(t, http.StatusForbidden)
	v.ask(t, a, "GET /echo/admin", bob.cookie).came(t, http.StatusForbidden)

	ada := v.signInAt(t, a, `{"username":"ada","password":"correct horse"}`)
	v.ask(t, a, "GET /admin/report", ada.cookie).came(t, http.StatusOK)
	got := v.ask(t, a, "GET /echo/admin", ada.cookie).came(t, http.StatusOK).headers(t)
	if got["x-user-id"] != "42" || got["x-user-name"] != "ada" || got["x-user-roles"] != "admin,user" || got["x-user-session"] != "" {
		t.Errorf("a service was told %v", got)
	}

	v.ask(t, a, "POST /auth/logout", ada.cookie).came(t, http.StatusNoContent)
	for _, path := range []string{"/profile", "/admin/report", "/echo"} {
		v.ask(t, a, "GET "+path, ada.cookie).came(t, http.StatusUnauthorized)
	}
	v.ask(t, a, "GET /echo", bob.cookie).came(t, http.StatusOK) // who signed out was Ada
	if v.redis.Exists(t.Context(), ada.key).Val() != 0 {
		t.Error("a key is left after the logout")
	}
}

// signInAt signs a user in through Envoy, as a browser does.
func (v *site) signInAt(t *testing.T, a *app, credentials string) person {
	t.Helper()
	w := v.ask(t, a, "POST /auth/login", "", credentials).came(t, http.StatusOK)
	return v.person(t, w.cookie(v.cookie))
}

func (v *site) profile(t *testing.T, a *app, cookie string) map[string]any {
	t.Helper()
	w := v.ask(t, a, "GET /profile", cookie).came(t, http.StatusOK)
	var page struct {
		User    map[string]any
		Headers map[string]string
	}
	if err := json.Unmarshal(w.body, &page); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(page.Headers["cookie"], v.cookie) {
		t.Error("the application did not receive its cookie")
	}
	return page.User
}
