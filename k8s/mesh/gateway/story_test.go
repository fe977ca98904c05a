package gateway

import (
	"net/http"
	"strings"
	"testing"
)

// TestStory: from a protected page to the login page and back, what the upstream is told,
// what is refused, a Redis that is away, and out again.
func TestStory(t *testing.T) {
	m := start(t)
	navigation := []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"}
	a := m.until(t, http.StatusFound, "GET /orders?page=2", navigation...)
	if to := a.header.Get("Location"); to != "/.auth/login?rd=%2Forders%3Fpage%3D2" {
		t.Fatalf("the login page is at %s", to)
	}
	if a := m.send(t, "GET /orders", "").is(t, 401); a.header.Get("WWW-Authenticate") == "" || a.header.Get("Cache-Control") != "no-store" || a.sent != nil {
		t.Errorf("a refusal has the headers %v", a.header)
	}
	m.send(t, "GET /.auth/login", "").is(t, 200)
	ada := m.signIn(t, "ada")
	sent := m.send(t, "GET /orders", "", ada, "X-User-Id: 1", "X-User-Roles: admin", "Authorization: Bearer theirs").is(t, 200).sent
	for name, want := range map[string]string{"X-User-Id": "42", "X-User-Name": "ada", "X-User-Roles": "staff", "Cookie": "", "Authorization": "Bearer theirs"} {
		if got := strings.Join(sent.Headers[name], ";"); got != want {
			t.Errorf("the upstream received %s: %q, want %q", name, got, want)
		}
	}
	if len(sent.Headers["X-User-Session"]) != 1 {
		t.Error("the upstream has no key")
	}
	m.send(t, "GET /admin", "", ada).is(t, 403)
	m.send(t, "GET /admin/x", "", m.signIn(t, "root")).is(t, 200)
	m.anonymous(t)
	t.Run("a repeated cookie", func(t *testing.T) { // Envoy joins the lines by a comma
		m.send(t, "GET /orders", "", ada, ada).is(t, 401)
		m.send(t, "GET /orders", "", "Cookie: a=1", ada).is(t, 401)
	})
	m.outage(t, ada)
	m.send(t, "POST /.auth/logout", "", ada, "Origin: https://"+host, "Content-Length: 0").is(t, 303)
	m.send(t, "GET /orders", "", ada).is(t, 401)
}

// anonymous requests pass where the route says so, without an identity.
func (m *mesh) anonymous(t *testing.T) {
	for _, path := range []string{"/public", "/public/x", "/optional"} {
		for name := range m.send(t, "GET "+path, "", "X-User-Id: 1").is(t, 200).sent.Headers {
			if strings.HasPrefix(name, "X-User") {
				t.Errorf("%s: an anonymous request has %s", path, name)
			}
		}
	}
	m.send(t, "GET /publicity", "").is(t, 401)
}

// outage: without Redis each check is a fault, and no session is lost by it.
func (m *mesh) outage(t *testing.T, cookie string) {
	must(t, m.Redis.Pause())
	for _, path := range []string{"/orders", "/optional"} {
		if a := m.send(t, "GET "+path, "", cookie).is(t, 503); a.header.Get("Retry-After") == "" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: an outage has the headers %v", path, a.header)
		}
	}
	m.send(t, "GET /public", "", cookie).is(t, 200)
	must(t, m.Redis.Resume())
	m.until(t, 200, "GET /orders", cookie)
}
