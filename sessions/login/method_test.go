package login_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
)

// A stamp is a Method that believes a stamp, as OpenID Connect believes an ID token.
type stamp struct {
	handler *login.Handler
	before  func() // what happens between the arrival of a request and its SignIn
}

func (s *stamp) Mount(m *login.Mux, h *login.Handler) {
	s.handler = h
	m.Handle("GET stamp/start", s.start)
	m.Handle("GET stamp/callback", s.callback)
	m.Handle("POST stamp/callback", s.callback)
}

func (s *stamp) start(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, "https://stamps.example/?state="+r.URL.Query().Get(sessions.ReturnParameter), http.StatusFound)
	return nil
}

func (s *stamp) callback(w http.ResponseWriter, r *http.Request) error {
	if s.before != nil {
		s.before()
	}
	if err := r.ParseForm(); err != nil {
		return fmt.Errorf("reading the form: %w", err)
	}
	switch r.Form.Get("stamp") {
	case "":
		return login.ErrBadRequest
	case "forged":
		return login.ErrBadCredentials
	case "busy":
		return login.ErrBusy
	case "broken":
		return errors.New("stamps.example does not answer")
	}
	return s.handler.SignIn(w, r, login.User{ID: "77", Username: "Stamped", Roles: []string{"staff"}}, r.FormValue("state"))
}

// withStamp is a rig with both methods.
func withStamp(t *testing.T) (*rig, *stamp) {
	s := new(stamp)
	return newRig(t, func(c *login.Config) {
		c.Methods = []login.Method{s}
		c.ReturnOrigins = []string{"https://app.example.com"}
	}), s
}

// TestMethod: a second method of signing in ends as a password does.
func TestMethod(t *testing.T) {
	r, _ := withStamp(t)
	planted := r.signIn("ada", "192.0.2.1")
	a := r.send("stamp/callback?stamp=ok&state=/reports", request{method: http.MethodHead})
	r.want("a program that looks at the link", a, http.StatusMethodNotAllowed)
	if len(a.Cookies()) != 0 || a.Header.Get("Allow") != http.MethodGet {
		t.Errorf("HEAD: %v", a.Header)
	}
	a = r.send("stamp/callback?stamp=ok&state=/reports", request{id: planted, from: "192.0.2.7"})
	id := r.cookie(a)
	r.want("a stamp", a, http.StatusSeeOther)
	if a.Header.Get("Location") != "/reports" || id == (sessions.ID{}) || id == planted || !r.live(id) {
		t.Errorf("it leads to %q with the session %v", a.Header.Get("Location"), id)
	}
	if r.live(planted) {
		t.Error("the presented session lives on")
	}
	if a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("headers are missing: %v", a.Header)
	}
	s, err := r.sessions.Lookup(t.Context(), id.Key())
	if err != nil || s.UserID != "77" || s.Address != "192.0.2.7" || s.UserAgent == "" || len(s.Roles) != 1 {
		t.Errorf("the session is %+v, %v", s, err)
	}
	log := r.log.String()
	if !strings.Contains(log, `"msg":"login","outcome":"success","address":"192.0.2.7","user_id":"77","session":"`+id.Key().Handle()+`"`) ||
		!strings.Contains(log, `"why":"replaced","by":"77"`) {
		t.Errorf("the log is %s", log)
	}
	for state, want := range map[string]string{"//evil.example": "/", "https://evil.example": "/", "https://app.example.com/x": "https://app.example.com/x", "": "/", "/.auth/login": "/"} {
		if got := r.send("stamp/callback?stamp=ok&state="+state, request{}).Header.Get("Location"); got != want {
			t.Errorf("the return address %q leads to %q", state, got)
		}
	}
	a = r.send("stamp/callback", request{form: map[string][]string{"stamp": {"ok"}}, header: http.Header{"Accept": {"application/json"}}})
	r.want("a JSON client", a, http.StatusOK)
	if !strings.Contains(a.body, `"location":"/"`) || !strings.Contains(a.body, `"username":"Stamped"`) || strings.Contains(a.body, `"id"`) {
		t.Errorf("it got %s", a.body)
	}
	r.want("a redirect", r.send("stamp/start", request{}), http.StatusFound)
}

// TestMethodRefused: the errors of a method become login's answers, and outcomes.
func TestMethodRefused(t *testing.T) {
	r, s := withStamp(t)
	id := r.signIn("ada", "192.0.2.1")
	for query, status := range map[string]int{"": 400, "?stamp=forged": 401, "?stamp=busy": 503, "?stamp=broken": 503} {
		a := r.send("stamp/callback"+query, request{id: id})
		r.want(query, a, status)
		r.untouched(query, a)
	}
	large := r.send("stamp/callback", request{id: id, form: map[string][]string{"stamp": {strings.Repeat("x", 16<<10)}}})
	r.want("a large body", large, http.StatusRequestEntityTooLarge)
	r.untouched("a large body", large)
	r.want("no such method", r.send("stamp/callback", request{method: http.MethodDelete}), http.StatusMethodNotAllowed)
	r.want("another site", r.send("stamp/callback", request{form: map[string][]string{"stamp": {"ok"}}, header: http.Header{"Sec-Fetch-Site": {"cross-site"}}}), http.StatusForbidden)
	if !r.live(id) {
		t.Error("a refused sign-in ended a session")
	}
	// A revocation of all sessions that comes while a sign-in is under way ends it, too.
	s.before = func() {
		time.Sleep(5 * time.Millisecond)
		if _, err := r.sessions.RevokeUser(t.Context(), "77"); err != nil {
			t.Error(err)
		}
	}
	a := r.send("stamp/callback?stamp=ok", request{})
	r.want("revoked under way", a, http.StatusServiceUnavailable)
	r.untouched("revoked under way", a)
	s.before = func() { r.redis.Kill() }
	r.want("no Redis", r.send("stamp/callback?stamp=ok", request{}), http.StatusServiceUnavailable)
	families := `
		# HELP coatcheck_logins_total Logins tried, by outcome; refused is a wrong username or password, invalid a request that makes no sense.
		# TYPE coatcheck_logins_total counter
		coatcheck_logins_total{outcome="busy"} 1
		coatcheck_logins_total{outcome="cancelled"} 0
		coatcheck_logins_total{outcome="invalid"} 2
		coatcheck_logins_total{outcome="refused"} 1
		coatcheck_logins_total{outcome="success"} 1
		coatcheck_logins_total{outcome="throttled"} 0
		coatcheck_logins_total{outcome="unavailable"} 3
	`
	if err := testutil.GatherAndCompare(r.metrics, strings.NewReader(families), "coatcheck_logins_total"); err != nil {
		t.Error(err)
	}
	if strings.Count(r.log.String(), `"msg":"login"`) != 8 {
		t.Errorf("the log is %s", &r.log)
	}
}

// mounts is a Method of some patterns.
type mounts []string

func (p mounts) Mount(m *login.Mux, _ *login.Handler) {
	for _, pattern := range p {
		m.Handle(pattern, func(http.ResponseWriter, *http.Request) error { return nil })
	}
}

// TestMount: which patterns a method can add, and that users must be able to sign in.
func TestMount(t *testing.T) {
	r := newRig(t)
	c := r.config
	c.Metrics = nil
	for pattern, good := range map[string]bool{
		"GET oidc/callback": true, "POST passkeys": true, "GET login": false, "POST logout": false, "PUT x": false, "x": false, "GET ": false, "GET /x": false, "GET x/": false, "GET ../x": false,
	} {
		c.Methods = []login.Method{mounts{pattern}}
		if _, err := login.New(c); (err == nil) != good {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	c.Methods = []login.Method{nil}
	if _, err := login.New(c); err == nil {
		t.Error("nil is a method")
	}
	c.Users, c.Counters = nil, nil
	for pattern, good := range map[string]bool{"GET login": true, "GET oidc": false} {
		c.Methods = []login.Method{mounts{pattern}}
		if _, err := login.New(c); (err == nil) != good {
			t.Errorf("without passwords, %q: %v", pattern, err)
		}
	}
}

// TestLimit: an Authenticator that bounds nothing is asked in turn.
func TestLimit(t *testing.T) {
	limiter, err := login.NewLimiter(login.LimiterConfig{Concurrent: 1, Queue: -1})
	if err != nil {
		t.Fatal(err)
	}
	inside, leave := make(chan struct{}), make(chan struct{})
	users := newDoorman()
	r := newRig(t, func(c *login.Config) { c.Users = login.Limit(users, limiter) })
	users.pause = func(context.Context) { inside <- struct{}{}; <-leave }
	first := make(chan answer, 1)
	go func() {
		a, _ := r.try(t.Context(), "login", request{form: credentials("ada", adaPassword)})
		first <- a
	}()
	<-inside
	r.want("one more", r.send("login", request{form: credentials("bob", bobPassword)}), http.StatusServiceUnavailable)
	close(leave)
	r.want("the first", <-first, http.StatusSeeOther)
	if n := users.asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}
