package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestSigningOut: signing out ends every session that the request presents, in each
// form of credentials and of Envoy's headers; so does a login.
func TestSigningOut(t *testing.T) {
	t.Parallel()
	for _, form := range []struct {
		name   string
		change func(*bootstrapv3.Bootstrap)
	}{{"raw", bearers}, {"joined", func(b *bootstrapv3.Bootstrap) { bearers(b); joining(b) }}} {
		s := pages(t, rig.Options{Bootstrap: form.change, Arguments: []string{"--bearer", "true"}})
		m := manager(t, s, sessions.Config{})
		for way, shows := range map[string]func(a, b string) []string{
			"two cookies":       func(a, b string) []string { return []string{"Cookie: " + a + "; " + b} },
			"two lines":         func(a, b string) []string { return []string{"Cookie: " + a, "Cookie: c=1; " + b} },
			"beside rubbish":    func(a, b string) []string { return []string{"Cookie: __Host-session=x; " + a + "; " + b} },
			"cookie and bearer": func(a, b string) []string { return []string{"Cookie: " + a, bearing(b)} },
			"two bearers":       func(a, b string) []string { return []string{bearing(a), bearing(b)} },
			"behind a comma":    func(a, b string) []string { return []string{"Cookie: c=1," + a + "; " + b} },
		} {
			for _, endpoint := range []string{"logout", "logout/everywhere", "login"} {
				t.Run(form.name+", "+way+", "+endpoint, func(t *testing.T) {
					a, _ := login(t, m, sessions.NewSession{UserID: "42"})
					b, _ := login(t, m, sessions.NewSession{UserID: "43"})
					body := ""
					if endpoint == "login" {
						body = credentials("ada", password)
					}
					got := from(t, s, "127.0.1.1").post(t, "/.auth/"+endpoint, body, shows(a, b)...)
					cookie := got.came(t, http.StatusSeeOther)
					for i, presented := range []string{a, b} {
						if status := send(t, s, "GET /x", "Cookie: "+presented).status; status != http.StatusUnauthorized {
							t.Errorf("session %d gets %d after it", i+1, status)
						}
					}
					if endpoint == "login" {
						send(t, s, "GET /x", "Cookie: "+cookie).is(t, 200)
					}
				})
			}
		}
		t.Run(form.name+", too many", func(t *testing.T) {
			var all []string
			for range sessions.MaxPresented + 1 {
				cookie, _ := login(t, m, sessions.NewSession{UserID: "43"})
				all = append(all, cookie)
			}
			got := from(t, s, "127.0.1.1").post(t, "/.auth/logout", "", "Cookie: "+strings.Join(all, "; "))
			if set := got.came(t, http.StatusServiceUnavailable); set != "" {
				t.Errorf("it sets %s", set)
			}
			send(t, s, "GET /x", "Cookie: "+all[sessions.MaxPresented]).is(t, 200)
		})
	}
}

// bearing presents a cookie's ID as a bearer token.
func bearing(cookie string) string {
	_, id, _ := strings.Cut(cookie, "=")
	return "Authorization: Bearer " + id
}

// TestLoginPastEnvoy: a client that reaches login past Envoy is counted by its own
// address; its X-Forwarded-For does not count.
func TestLoginPastEnvoy(t *testing.T) {
	t.Parallel()
	s := pages(t, rig.Options{})
	direct := from(t, s, "127.0.9.1")
	direct.url = "http://" + s.Login
	for i := range 5 {
		direct.post(t, "/.auth/login", credentials("ada", "wrong"), fmt.Sprintf("X-Forwarded-For: 198.51.%d.1", i)).came(t, 401)
	}
	direct.post(t, "/.auth/login", credentials("ada", password), "X-Forwarded-For: 203.0.113.1").came(t, 429)
	from(t, s, "127.0.8.1").post(t, "/.auth/login", credentials("ada", password)).came(t, 303)
	waitFor(t, `"address":"127.0.9.1"`, s.Coatcheck.Output)
	if log := s.Coatcheck.Output(); strings.Contains(log, `"address":"198.51`) {
		t.Errorf("the log believes them:\n%s", log)
	}
}

// TestLoginHeaders: login's pages tell browsers to use https only, to run no script,
// and not to frame them.
func TestLoginHeaders(t *testing.T) {
	s := pages(t, rig.Options{})
	cookie := from(t, s, "127.0.1.1").post(t, "/.auth/login", credentials("ada", password)).came(t, 303)
	send(t, s, "GET /x", "Cookie: "+cookie).is(t, 200)
	for path, status := range map[string]int{"login": 200, "nothing": 404, "sessions": 303} {
		page := send(t, s, "GET /.auth/"+path)
		page.came(t, status)
		for name, want := range map[string]string{
			"Strict-Transport-Security": "max-age=63072000", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
		} {
			if got := page.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if policy := page.header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: the policy is %q", path, policy)
		}
	}
}
