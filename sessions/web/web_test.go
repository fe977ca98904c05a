package web_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
	"github.com/coatcheck/coatcheck/sessions/web"
)

// TestMain fails if a goroutine is left over. go-redis tries once a second whether a
// Redis that a test has killed is back.
func TestMain(m *testing.M) {
	ending := goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
	goleak.VerifyTestMain(testleaks.Patient(m, ending), ending)
}

// TestExamples: an example shows every exported name.
func TestExamples(t *testing.T) { docstest.Examples(t, "sessions/web") }

// A service is a Go server whose Guard asks a real Redis.
type service struct {
	*testing.T
	redis   *redistest.Server
	client  *redisstore.Client
	manager *sessions.Manager
	server  *httptest.Server
	log     *bytes.Buffer
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{T: t, redis: redistest.Start(t), log: new(bytes.Buffer)}
	config := redisstore.At(s.redis.Addr)
	config.Password, config.DialTimeout, config.ReadTimeout, config.WriteTimeout, config.PoolTimeout = redistest.Password, 10*time.Second, 10*time.Second, 10*time.Second, 10*time.Second
	var err error
	if s.client, err = redisstore.NewClient(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.client.Close() })
	if s.manager, err = sessions.NewManager(redisstore.New(s.client, redisstore.Config{}), sessions.Config{}); err != nil {
		t.Fatal(err)
	}
	guard, err := web.New(s.manager, web.Config{
		LoginURL: "/.auth/login", Fields: []string{"plan"}, Timeout: 20 * time.Second, Logger: slog.New(slog.NewTextHandler(s.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	who := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := web.FromContext(r.Context())
		if session == nil {
			fmt.Fprint(w, "a stranger")
			return
		}
		fmt.Fprint(w, session.UserID, " ", session.Roles, " ", session.Fields["plan"])
	})
	mux := http.NewServeMux()
	mux.Handle("/", guard.Require(who))
	mux.Handle("/admin", guard.Require(who, "ops", "admin"))
	mux.Handle("/home", guard.Optional(who))
	mux.Handle("/v1/", http.StripPrefix("/v1", guard.Require(who)))
	s.server = httptest.NewServer(mux)
	t.Cleanup(s.server.Close)
	return s
}

func (s *service) create(roles ...string) sessions.ID {
	s.Helper()
	id, _, err := s.manager.Create(s.Context(), sessions.NewSession{UserID: "42", Roles: roles, Fields: map[string]string{"plan": "free"}})
	if err != nil {
		s.Fatal(err)
	}
	return id
}

// get asks as a browser, and wants a status and a text in the body or the Location.
func (s *service) get(path string, cookies []string, status int, text string) *http.Response {
	s.Helper()
	r, _ := http.NewRequestWithContext(s.Context(), http.MethodGet, s.server.URL+path, nil)
	r.Header.Set("Accept", "text/html")
	r.Header["Cookie"] = cookies
	response, err := s.server.Client().Transport.RoundTrip(r)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	_, _ = body.ReadFrom(response.Body)
	if got := body.String() + response.Header.Get("Location"); response.StatusCode != status || got != text {
		s.Errorf("%s: %d %q, want %d %q", path, response.StatusCode, got, status, text)
	}
	if status >= 300 && (response.Header.Get("Cache-Control") != "no-store" || len(response.Header.Values("Set-Cookie")) > 0) {
		s.Errorf("%s: %v", path, response.Header)
	}
	return response
}

func cookie(id sessions.ID) string { return sessions.DefaultCookieName + "=" + id.Reveal() }

// TestGuard, by a real Redis and a real server.
func TestGuard(t *testing.T) {
	s := newService(t)
	ada, ops := s.create(), s.create("ops", "staff")
	s.get("/cart?a=1", nil, 302, "/.auth/login?rd=%2Fcart%3Fa%3D1")
	s.get("/v1/cart", nil, 302, "/.auth/login?rd=%2Fv1%2Fcart") // a router has changed r.URL
	s.get("/cart", []string{cookie(ada)}, 200, "42 [] free")
	s.get("/admin", []string{cookie(ada)}, 403, "You may not do this.\n")
	s.get("/admin", []string{cookie(ops)}, 200, "42 [ops staff] free")
	s.get("/admin", nil, 302, "/.auth/login?rd=%2Fadmin")
	s.get("/home", nil, 200, "a stranger")
	s.get("/home", []string{cookie(ada)}, 200, "42 [] free")
	s.get("/home", []string{cookie(ada), cookie(ops)}, 200, "a stranger")
	s.get("/cart", []string{cookie(ada), cookie(ada)}, 302, "/.auth/login?rd=%2Fcart")
	s.get("/cart", []string{"a=1," + cookie(ada)}, 302, "/.auth/login?rd=%2Fcart")
	s.get("/cart", []string{cookie(sessions.NewID())}, 302, "/.auth/login?rd=%2Fcart")
	if s.log.Len() > 0 {
		t.Errorf("a client without a session is logged: %s", s.log)
	}

	if err := s.client.Set(t.Context(), string(ops.Key()), "x", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	s.get("/cart", []string{cookie(ops)}, 302, "/.auth/login?rd=%2Fcart")
	s.get("/home", []string{cookie(ops)}, 200, "a stranger")
	if n := strings.Count(s.log.String(), "broken session record"); n != 2 {
		t.Errorf("a broken record is logged %d times: %s", n, s.log)
	}
	if err := s.client.HSet(t.Context(), string(ada.Key()), "v", "2").Err(); err != nil {
		t.Fatal(err)
	}
	s.get("/home", []string{cookie(ada)}, 503, "Try again in a moment.\n")

	s.redis.Kill()
	for _, path := range []string{"/cart", "/home", "/admin"} {
		if r := s.get(path, []string{cookie(ada)}, 503, "Try again in a moment.\n"); r.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %v", path, r.Header)
		}
	}
	s.get("/home", nil, 200, "a stranger") // a request without a cookie needs no Redis
	if strings.Contains(s.log.String(), ada.Reveal()) || !strings.Contains(s.log.String(), "connect") {
		t.Errorf("the log: %s", s.log)
	}
}

// TestSlides: a request keeps the session alive.
func TestSlides(t *testing.T) {
	s := newService(t)
	id := s.create()
	if err := s.client.PExpire(t.Context(), string(id.Key()), time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	s.get("/cart", []string{cookie(id)}, 200, "42 [] free")
	if ttl := s.client.PTTL(t.Context(), string(id.Key())).Val(); ttl < 29*time.Minute {
		t.Errorf("the session ends in %v", ttl)
	}
	if err := s.manager.Revoke(t.Context(), id.Key()); err != nil {
		t.Fatal(err)
	}
	s.get("/cart", []string{cookie(id)}, 302, "/.auth/login?rd=%2Fcart")
}

// TestConfig: every mistake is named.
func TestConfig(t *testing.T) {
	if _, err := web.New(nil, web.Config{}); err == nil {
		t.Error("no sessions: no error")
	}
	for want, config := range map[string]web.Config{
		"login URL": {LoginURL: "login.example"}, "cookie name": {Cookie: sessions.Cookie{Name: "a b"}}, "negative": {Timeout: -1},
	} {
		if _, err := web.New(asked{}, config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", config, err)
		}
	}
	for want, config := range map[string]web.HeaderConfig{
		"prefix": {Prefix: "X-User-"}, "login URL": {LoginURL: "//x"}, "is taken": {Fields: map[string]string{"a": "x-user-id"}},
		"must be x-user-": {Fields: map[string]string{"a": "x-other-a"}}, "a-z": {Fields: map[string]string{"a": "x-user-A"}},
		`"x-envoy-"`: {Prefix: "x-envoy-"}, `"x-forwarded-"`: {Prefix: "x-forwarded-"}, `field "roles"`: {Fields: map[string]string{"roles": "x-user-r"}},
	} {
		if _, err := web.Behind(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", config, err)
		}
	}
	if _, err := web.Behind(web.HeaderConfig{Fields: map[string]string{"a": "x-user-agent"}}); err == nil {
		t.Error("clients of grpc-web send x-user-agent")
	}
	if _, err := web.Behind(web.HeaderConfig{Fields: map[string]string{"a": "x-user-a", "b": "x-user-a"}}); err == nil {
		t.Error("two fields share a header")
	}
}

// TestBehind: what Coatcheck sends, and what it cannot have sent.
func TestBehind(t *testing.T) {
	var log bytes.Buffer
	guard, err := web.Behind(web.HeaderConfig{Fields: map[string]string{"plan": "x-user-plan"}, LoginURL: "/login", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	key := string(sessions.NewID().Key())
	full := []string{"X-User-Id: 42", "X-User-Name: Ada%20L%C3%B6we", "X-User-Roles: staff,a%2Cb", "X-User-Session: " + key, "X-User-Plan: free"}
	for _, test := range []struct {
		headers  []string
		status   int
		optional int
	}{
		{full, 200, 200},
		{[]string{"X-User-Id: 42"}, 200, 200},
		{[]string{"X-User-Id: 42", "X-User-Agent: grpc-web", "X-User-Region: eu", "X-User: 1"}, 200, 200},
		{[]string{"x-user-id: 42"}, 200, 200}, // net/http has one spelling
		{nil, 401, 200},
		{[]string{"X-User-Roles: admin"}, 401, 200},
		{[]string{"Cookie: __Host-session=x"}, 401, 200},
		{[]string{"X-User-Id: 42", "X-User-Id: 43"}, 400, 400},
		{[]string{"X-User-Id: 42", "X-User-Id: 42"}, 400, 400},
		{[]string{"X-User-Id: 42", "X_User_Id: 43"}, 400, 400},
		{[]string{"X_User_Id: 43"}, 400, 400},
		{[]string{"X.User.Roles: admin", "X-User-Id: 42"}, 400, 400},
		{[]string{"X-User_Roles: admin", "X-User-Id: 42"}, 400, 400},
		{[]string{"X-User-Id: "}, 400, 400},
		{[]string{"X-User-Id: 42", "X-User-Roles: "}, 400, 400},
		{[]string{"X-User-Id: 42", "X-User-Roles: a,,b"}, 400, 400},
		{[]string{"X-User-Id: 42", "X-User-Roles: a, b"}, 400, 400},
		{[]string{"X-User-Id: 42", "X-User-Roles: a", "X-User-Roles: b"}, 400, 400},
		{[]string{"X-User-Id: 42,43"}, 400, 400},
		{[]string{"X-User-Id: 4 2"}, 400, 400},
		{[]string{"X-User-Id: %34%32"}, 400, 400}, // another encoding of 42
		{[]string{"X-User-Id: l%c3%b6we"}, 400, 400},
		{[]string{"X-User-Id: %"}, 400, 400},
		{[]string{"X-User-Id: %2"}, 400, 400},
		{[]string{"X-User-Id: %GG"}, 400, 400},
		{[]string{"X-User-Id: %FF"}, 400, 400},
		{[]string{"X-User-Id: l\u00f6we"}, 400, 400},
		{[]string{"X-User-Id: 42", "X-User-Session: x"}, 400, 400},
		{[]string{"X-User-Id: 42", "X-User-Session: " + key + "x"}, 400, 400},
		{[]string{"X-User-Id: 42", "X-User-Plan: a,b"}, 400, 400},
	} {
		for route, want := range map[string]int{"required": test.status, "optional": test.optional} {
			w := httptest.NewRecorder()
			var got *sessions.Session
			next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = web.FromContext(r.Context()) })
			handler := map[string]http.Handler{"required": guard.Require(next), "optional": guard.Optional(next)}[route]
			handler.ServeHTTP(w, request{"GET /", test.headers}.http())
			if w.Code != want || got != nil && test.status != 200 || want >= 400 && w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s, %q: %d %v, want %d", route, test.headers, w.Code, got, want)
			}
			if slices.Equal(test.headers, full) && (got.Username != "Ada Löwe" || len(got.Roles) != 2 || got.Roles[1] != "a,b" || string(got.Key) != key || got.Fields["plan"] != "free") {
				t.Errorf("%+v", got)
			}
		}
	}
	if text := regexp.MustCompile(`time=\S+`).ReplaceAllString(log.String(), ""); strings.Contains(text, "43") || strings.Contains(text, "admin") || !strings.Contains(text, "x-user-id came more than once") {
		t.Errorf("the log: %s", text)
	}

	w := httptest.NewRecorder()
	guard.Require(http.NotFoundHandler()).ServeHTTP(w, request{"GET /a?b", []string{"Accept: text/html"}}.http())
	if w.Code != 302 || w.Header().Get("Location") != "/login?rd=%2Fa%3Fb" {
		t.Errorf("a browser without identity: %d %v", w.Code, w.Header())
	}
	other, err := web.Behind(web.HeaderConfig{Prefix: "x-acme-"})
	if err != nil {
		t.Fatal(err)
	}
	w = httptest.NewRecorder()
	other.Require(http.NotFoundHandler()).ServeHTTP(w, request{"GET /", []string{"X-Acme-Id: 42", "X-User-Id: 43", "X_User_Id: 44"}}.http())
	if w.Code != 404 {
		t.Errorf("another prefix: %d", w.Code)
	}
}

// TestTarget: no request chooses where a browser comes back to but on its own origin.
func TestTarget(t *testing.T) {
	guard, err := web.New(asked{sessions.ErrNotFound}, web.Config{LoginURL: "/login"})
	if err != nil {
		t.Fatal(err)
	}
	for uri, want := range map[string]string{
		"/a?b=c": "/a?b=c", "//evil.example/a": "/", "/\\evil.example": "/", "http://evil.example/a?b": "/a?b", "*": "/", "": "/asked?x", "/%2F/evil": "/%2F/evil",
	} {
		r := httptest.NewRequest(http.MethodGet, "/asked?x", nil)
		if r.RequestURI = uri; strings.HasPrefix(uri, "http") {
			r.URL.Path, r.URL.RawQuery = "/a", "b"
		}
		if uri == "*" {
			r.URL.Path, r.URL.RawQuery = "*", ""
		}
		r.Header.Set("Accept", "text/html")
		w := httptest.NewRecorder()
		guard.Require(http.NotFoundHandler()).ServeHTTP(w, r)
		location := w.Result().Header.Get("Location")
		r2 := httptest.NewRequest(http.MethodGet, location, nil)
		if got := r2.URL.Query().Get("rd"); got != want {
			t.Errorf("%q: back to %q, want %q", uri, got, want)
		}
	}
}
