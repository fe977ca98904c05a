package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// password is the password of all users.
const password = "correct horse, battery"

var passwordHash = sync.OnceValues(func() (string, error) { return passwords.HashPassword(password) })

// usersFile is a users file with Ada.
func usersFile(t *testing.T) string {
	t.Helper()
	hash, err := passwordHash()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("- {id: \"42\", username: Ada, password_hash: %q, roles: [staff, admin], attributes: {tenant: acme}}\n", hash)
}

// pages starts a stack with login pages.
func pages(t *testing.T, o rig.Options) *rig.Stack {
	t.Helper()
	o.Users, o.Patient = usersFile(t), true
	o.Arguments = append(o.Arguments, "--login-url", "/.auth/login", "--headers-fields", "tenant")
	return start(t, o)
}

// A person sends requests from an address of their own, and follows no redirects.
type person struct {
	transport *http.Transport
	url       string
}

// from is a person at an address of 127.0.0.0/8. For 127.0.0.1 itself Envoy would put
// this machine's address into X-Forwarded-For.
func from(t *testing.T, s *rig.Stack, address string) *person {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	p := &person{&http.Transport{DialContext: dialer.DialContext, ResponseHeaderTimeout: time.Minute}, s.URL}
	t.Cleanup(p.transport.CloseIdleConnections)
	return p
}

// post sends a form, or JSON where the body is that.
func (p *person) post(t *testing.T, path, body string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+path, strings.NewReader(body))
	must(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	response, err := p.transport.RoundTrip(r)
	must(t, err)
	return read(t, response)
}

// credentials are a form.
func credentials(username, password string) string {
	return url.Values{"username": {username}, "password": {password}, "rd": {"/orders?page=2"}}.Encode()
}

// came fails the test unless the answer has this status, and returns the cookie
// that it sets, if any.
func (a answer) came(t *testing.T, status int) (cookie string) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d (%s), want %d", a.status, a.body, status)
	}
	cookie, _, _ = strings.Cut(a.header.Get("Set-Cookie"), ";")
	return cookie
}

// TestLogin: from a protected page to the login page and back, by form and by
// JSON, and out again.
func TestLogin(t *testing.T) {
	s := pages(t, rig.Options{})
	p := from(t, s, "127.0.1.1")
	sent := send(t, s, "GET /orders?page=2", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document").is(t, 302).header.Get("Location")
	if sent != "/.auth/login?rd=%2Forders%3Fpage%3D2" {
		t.Fatalf("the login page is at %s", sent)
	}
	page := send(t, s, "GET "+sent)
	if page.came(t, 200); !strings.Contains(page.body, `name="rd" value="/orders?page=2"`) {
		t.Errorf("the form does not lead back:\n%s", page.body)
	}
	p.post(t, "/.auth/login", credentials("ada", "wrong")).came(t, 401)
	back := p.post(t, "/.auth/login", credentials("ada", password), "User-Agent: curl/8.0")
	cookie := back.came(t, 303)
	if back.header.Get("Location") != "/orders?page=2" {
		t.Errorf("the login leads to %s", back.header.Get("Location"))
	}
	got := send(t, s, "GET "+back.header.Get("Location"), "Cookie: "+cookie).is(t, 200).identity()
	delete(got, "X-User-Session")
	if want := map[string]string{"X-User-Id": "42", "X-User-Name": "Ada", "X-User-Roles": "staff,admin", "X-User-Tenant": "acme"}; !maps.Equal(got, want) {
		t.Errorf("the upstream was sent %v, want %v", got, want)
	}
	send(t, s, "GET /admin/x", "Cookie: "+cookie).is(t, 200)

	byJSON := p.post(t, "/.auth/login", `{"username": "Ada", "password": "`+password+`", "return": "/x"}`)
	another := byJSON.came(t, 200)
	if another == cookie || !strings.Contains(byJSON.body, `"user_id":"42"`) || !strings.Contains(byJSON.body, `"location":"/x"`) {
		t.Errorf("the JSON login answers %s", byJSON.body)
	}
	list := browsers(t, s, "Cookie: "+cookie)
	if len(list) != 2 || !slices.ContainsFunc(list, func(b browser) bool { return b.Current && b.Browser == "curl 8" && b.Address == "127.0.1.1" }) {
		t.Errorf("the list of sessions is %+v", list)
	}
	p.post(t, "/.auth/logout", "", "Cookie: "+cookie).came(t, 303)
	send(t, s, "GET /x", "Cookie: "+cookie).is(t, 401)
	send(t, s, "GET /x", "Cookie: "+another).is(t, 200)
}

// A browser is an entry of the list of sessions.
type browser struct {
	Handle, Browser, Address string
	Current                  bool
}

func browsers(t *testing.T, s *rig.Stack, headers ...string) []browser {
	t.Helper()
	a := send(t, s, "GET /.auth/sessions", append(headers, "Accept: application/json")...)
	a.came(t, 200)
	var list struct{ Sessions []browser }
	if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		t.Fatal(err)
	}
	return list.Sessions
}

// TestLoginRoutes: login's own routes are not checked, for any request, and lead to
// no other page.
func TestLoginRoutes(t *testing.T) {
	s := pages(t, rig.Options{})
	p := from(t, s, "127.0.1.1")
	cookie := p.post(t, "/.auth/login", credentials("ada", password)).came(t, 303)
	logged := len(s.Coatcheck.Output())
	for _, presented := range []string{"", "__Host-session=junk", cookie + "; " + cookie, cookieFor(sessions.NewID())} {
		send(t, s, "GET /.auth/login", "Cookie: "+presented).came(t, 200)
	}
	for _, spoofed := range []string{"x-user-id: 1", "X-User-Session: session:x", "x.user.id: 1"} {
		if a := send(t, s, "GET /.auth/session", "Cookie: "+cookie, spoofed); a.came(t, 200) != "" || !strings.Contains(a.body, `"user_id":"42"`) {
			t.Errorf("with %s: %s", spoofed, a.body)
		}
		send(t, s, "GET /.auth/session", spoofed).came(t, 401)
	}
	p.post(t, "/.auth/logout/everywhere", "", "Sec-Fetch-Site: same-site", "Cookie: "+cookie).came(t, 403)
	if log := s.Coatcheck.Output()[logged:]; strings.Contains(log, `"msg":"check"`) {
		t.Errorf("login's own routes are checked: %s", log)
	}
	for _, path := range []string{"/.authx", "/.auth/../x", "/.auth/%2e%2e/x", "/x/.auth/login", "/.AUTH/login"} {
		send(t, s, "GET "+path).is(t, 401)
	}
	send(t, s, "GET /.auth/..%2fx").is(t, 307) // unescaped, and asked for again
}

// TestPlacesOfLogin: what people type, and where password managers ask.
func TestPlacesOfLogin(t *testing.T) {
	s := pages(t, rig.Options{Arguments: []string{"--login-password-url", "/account/password"}})
	p := from(t, s, "127.0.5.1")
	for path, want := range map[string]string{"/.auth": "/.auth/login", "/.auth/": "/.auth/login", "/.well-known/change-password": "/account/password"} {
		if a := send(t, s, "GET "+path); a.came(t, 303) != "" || a.header.Get("Location") != want {
			t.Errorf("%s leads to %q, want %q", path, a.header.Get("Location"), want)
		}
	}
	// By this path a password manager tests that an absent one is no page.
	send(t, s, "GET /.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200").is(t, 401)
	p.post(t, "/.well-known/change-password", "", "Sec-Fetch-Site: same-origin").came(t, 405)
	logged := len(s.Coatcheck.Output())
	send(t, s, "GET /.well-known/change-password")
	if log := s.Coatcheck.Output()[logged:]; strings.Contains(log, `"msg":"check"`) {
		t.Errorf("it is checked: %s", log)
	}
	if a := send(t, s, "GET /.auth/login", "Accept-Language: pt-BR,pt;q=0.9"); a.header.Get("Content-Language") != "pt" || !strings.Contains(a.body, "<h1>Entrar</h1>") {
		t.Errorf("in Portuguese: %v", a.header)
	}
}

// bearers lets Envoy send the Authorization header to Coatcheck, and lets Coatcheck
// remove it.
func bearers(b *bootstrapv3.Bootstrap) {
	rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) {
		f.AllowedHeaders.Patterns = append(f.AllowedHeaders.Patterns, &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "authorization"},
		})
		f.DecoderHeaderMutationRules.AllowExpression.Regex = "(?i)authorization|" + f.DecoderHeaderMutationRules.AllowExpression.Regex
	})
}

// TestLoginBearer: a client that is not a browser gets the ID in the body, and sends
// it in a header, which the upstream does not receive.
func TestLoginBearer(t *testing.T) {
	t.Parallel()
	const body = `{"username": "ada", "password": "` + password + `", "bearer": true}`
	s := pages(t, rig.Options{Bootstrap: bearers, Arguments: []string{"--bearer", "true"}})
	p := from(t, s, "127.0.1.1")
	a := p.post(t, "/.auth/login", body)
	if cookie := a.came(t, 200); cookie != "" {
		t.Errorf("it sets the cookie %s", cookie)
	}
	var answered struct{ ID string }
	if err := json.Unmarshal([]byte(a.body), &answered); err != nil || answered.ID == "" {
		t.Fatalf("it answers %s (%v)", a.body, err)
	}
	header, cookie := "Authorization: Bearer "+answered.ID, sessions.DefaultCookieName+"="+answered.ID
	got := send(t, s, "GET /x", header).is(t, 200)
	if got.identity()["X-User-Id"] != "42" || len(got.sent.Headers["Authorization"]) > 0 {
		t.Errorf("the upstream was sent %v", got.sent.Headers)
	}
	send(t, s, "GET /x", header, "Cookie: "+cookie).is(t, 401)
	send(t, s, "GET /x", header, header).is(t, 401)
	if got := send(t, s, "GET /x", "Authorization: Basic YTpi", "Cookie: "+cookie).is(t, 200); len(got.sent.Headers["Authorization"]) != 1 {
		t.Error("the upstream was not sent the credentials that are its own")
	}
	if list := browsers(t, s, header); len(list) != 1 || !list[0].Current {
		t.Errorf("the list of sessions is %+v", list)
	}
	p.post(t, "/.auth/logout", "{}", header).came(t, 204)
	send(t, s, "GET /x", header).is(t, 401)

	s = pages(t, rig.Options{Bootstrap: bearers})
	from(t, s, "127.0.1.1").post(t, "/.auth/login", body).came(t, 403)
	bought := from(t, s, "127.0.1.1").post(t, "/.auth/login", credentials("ada", password)).came(t, 303)
	_, id, _ := strings.Cut(bought, "=")
	send(t, s, "GET /x", "Authorization: Bearer "+id).is(t, 401)
}

// TestLoginThrottle: the rate limit counts the address of the connection. A client
// that claims another address gets no more attempts, and locks no user out there.
func TestLoginThrottle(t *testing.T) {
	t.Parallel()
	s := pages(t, rig.Options{})
	attacker := from(t, s, "127.0.7.1")
	for i := range 5 {
		attacker.post(t, "/.auth/login", credentials("ada", "wrong"), fmt.Sprintf("X-Forwarded-For: 198.51.%d.1", i)).came(t, 401)
	}
	for i, header := range []string{
		"X-Forwarded-For: 203.0.113.1", "X-Forwarded-For: 127.0.8.1, 127.0.8.1", "Forwarded: for=127.0.8.1", "X-Real-Ip: 127.0.8.1",
		"X-Envoy-External-Address: 127.0.8.1", "X-Forwarded-For: \u00a0",
	} {
		a := attacker.post(t, "/.auth/login", credentials("ada", password), header)
		a.came(t, 429)
		if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 1 || wait > 30 {
			t.Errorf("%d: Retry-After is %q", i, a.header.Get("Retry-After"))
		}
	}
	cookie := from(t, s, "127.0.8.1").post(t, "/.auth/login", credentials("ada", password), "X-Forwarded-For: 198.51.100.1").came(t, 303)
	if list := browsers(t, s, "Cookie: "+cookie); len(list) != 1 || list[0].Address != "127.0.8.1" {
		t.Errorf("the list of sessions is %+v", list)
	}
}

// TestLoginOutage: without Redis no user can sign in or out. When Redis is back, a
// signed-in user still is signed in.
func TestLoginOutage(t *testing.T) {
	t.Parallel()
	s := pages(t, rig.Options{Redis: []string{"--appendonly", "yes", "--appendfsync", "always"}})
	p := from(t, s, "127.0.1.1")
	cookie := p.post(t, "/.auth/login", credentials("ada", password)).came(t, 303)
	s.Redis.Kill()
	for _, path := range []string{"/.auth/login", "/.auth/logout", "/.auth/logout/everywhere", "/.auth/sessions"} {
		a := p.post(t, path, credentials("ada", password)+"&others=1", "Cookie: "+cookie)
		if set := a.came(t, 503); set != "" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: Retry-After %q, cookie %q", path, a.header.Get("Retry-After"), set)
		}
	}
	send(t, s, "GET /x", "Cookie: "+cookie).is(t, 503)
	must(t, s.Redis.Restart())
	answers := func() string { return fmt.Sprint(send(t, s, "GET /x", "Cookie: "+cookie).status) }
	waitFor(t, "200", answers)
	p.post(t, "/.auth/login", credentials("ada", password)).came(t, 303)
}
