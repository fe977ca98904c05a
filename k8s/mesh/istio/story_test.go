package mesh_test

import (
	"maps"
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestStory: from a protected page to the login pages and back, and out again, through
// the ingress gateway.
func TestStory(t *testing.T) {
	m := forms[0].start(t, rig.Options{Patient: true, Users: usersFile(t)})
	m.send(t, "GET /orders").is(t, 401)
	sent := m.send(t, "GET /orders?page=2", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document").is(t, 302).header.Get("Location")
	if sent != "/.auth/login?rd=%2Forders%3Fpage%3D2" {
		t.Fatalf("the login page is at %s", sent)
	}
	if page := m.send(t, "GET "+sent, "X-User-Id: 1").is(t, 200); !strings.Contains(page.body, `name="password"`) {
		t.Errorf("the login page is %s", page.body)
	}
	m.signIn(t, "ada", "wrong").is(t, 401)
	ada, bob := m.signIn(t, "ada", password).is(t, 303).cookie(), m.signIn(t, "bob", password).is(t, 303).cookie()

	got := m.send(t, "GET /orders", "Cookie: a=1; "+ada, "X-User-Id: 1", "X_User_Id: 1").is(t, 400)
	got = m.send(t, "GET /orders", "Cookie: a=1; "+ada, "X-User-Id: 1", "x.user.id: 1").is(t, 200)
	identity := got.identity()
	delete(identity, "X-User-Session")
	if want := map[string]string{"X-User-Id": "42", "X-User-Name": "Ada", "X-User-Roles": "staff,admin"}; !maps.Equal(identity, want) {
		t.Errorf("the upstream was sent %v, want %v", identity, want)
	}
	if cookies := got.sent.Headers["Cookie"]; len(cookies) != 1 || cookies[0] != "a=1" {
		t.Errorf("the upstream was sent the cookies %q", cookies)
	}

	m.send(t, "GET /admin/x", "Cookie: "+ada).is(t, 200)
	m.send(t, "GET /admin/x", "Cookie: "+bob).is(t, 403)
	m.send(t, "GET /admin", "Cookie: "+bob).is(t, 403)
	m.send(t, "GET /admin").is(t, 401)
	m.send(t, "GET /staff/x", "Cookie: "+ada).is(t, 200)
	m.send(t, "GET /staff/x", "Cookie: "+bob).is(t, 403)
	m.send(t, "GET /public/logo.png").is(t, 200)

	m.send(t, "POST /.auth/logout", "Cookie: "+ada, "Content-Type: application/x-www-form-urlencoded", "").is(t, 303)
	m.send(t, "GET /orders", "Cookie: "+ada).is(t, 401)
	m.send(t, "GET /orders", "Cookie: "+bob).is(t, 200)
}

func (m *mesh) signIn(t *testing.T, username, password string) answer {
	t.Helper()
	form := url.Values{"username": {username}, "password": {password}, "rd": {"/orders"}}.Encode()
	return m.send(t, "POST /.auth/login", "Content-Type: application/x-www-form-urlencoded", "", form)
}

// cookie is the one that the answer sets.
func (a answer) cookie() string {
	cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
	return cookie
}

// TestChecked: at each place of a mesh, requests are admitted and refused as the policy
// file says, and preflights pass.
func TestChecked(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			m := f.start(t, rig.Options{Patient: true})
			ada, key := m.session(t, sessions.NewSession{UserID: "42", Username: "Ada", Roles: []string{"admin"}})
			bob, _ := m.session(t, sessions.NewSession{UserID: "7", Roles: []string{"staff"}})
			got := m.send(t, "GET /x", "Cookie: "+ada, "X-User-Id: 1").is(t, 200).identity()
			if want := map[string]string{"X-User-Id": "42", "X-User-Name": "Ada", "X-User-Roles": "admin", "X-User-Session": string(key)}; !maps.Equal(got, want) {
				t.Errorf("the upstream was sent %v, want %v", got, want)
			}
			m.send(t, "GET /x").is(t, 401)
			m.send(t, "GET /x", "Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document").is(t, 302)
			m.send(t, "GET /staff", "Cookie: "+bob).is(t, 403)
			m.send(t, "GET /staff", "Cookie: "+ada).is(t, 200)
			m.send(t, "GET /x", "Cookie: "+sessions.DefaultCookieName+"=x").is(t, 401)

			anonymous := m.send(t, "GET /public/x", "Cookie: "+ada, "X-User-Id: 1").is(t, 200)
			if got := anonymous.identity(); len(got) > 0 {
				t.Errorf("on a public route the upstream was sent %v", got)
			}
			preflight := []string{"Origin: https://app.example.com", "Access-Control-Request-Method: PUT", "X-User-Id: 1"}
			if got := m.send(t, "OPTIONS /api/orders", preflight...).is(t, 200).identity(); len(got) > 0 {
				t.Errorf("with a preflight the upstream was sent %v", got)
			}
			m.send(t, "OPTIONS /orders", preflight...).is(t, 401)
			m.send(t, "PUT /api/orders", "Cookie: "+ada, "Origin: https://evil.example").is(t, 403)
			m.send(t, "PUT /api/orders", "Cookie: "+ada, "Origin: https://app.example.com").is(t, 200)
		})
	}
}

// TestOutages: Redis away, or Coatcheck away, is a 503 and never an allow.
func TestOutages(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			m := f.start(t, rig.Options{Patient: true})
			ada, _ := m.session(t, sessions.NewSession{UserID: "42"})
			m.send(t, "GET /x", "Cookie: "+ada).is(t, 200)
			m.Redis.Kill()
			got := m.send(t, "GET /x", "Cookie: "+ada).is(t, 503)
			if got.header.Get("Retry-After") == "" || got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("the 503 is not Coatcheck's: %v", got.header)
			}
			m.send(t, "GET /public/x").is(t, 200)
			if err := m.Coatcheck.Stop(); err != nil {
				t.Fatal(err)
			}
			m.send(t, "GET /x", "Cookie: "+ada).is(t, 503)
			m.send(t, "GET /public/x").is(t, 503)
		})
	}
}
