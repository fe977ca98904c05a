package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/web"
)

// A request is one line of a method and a target, and header lines.
type request struct {
	line    string
	headers []string
}

func (q request) http() *http.Request {
	method, target, _ := strings.Cut(q.line, " ")
	r := httptest.NewRequest(method, target, nil)
	for _, line := range q.headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// check is the request as Envoy asks for it.
func (q request) check(route string) *authv3.CheckRequest {
	method, target, _ := strings.Cut(q.line, " ")
	m := new(corev3.HeaderMap)
	for _, line := range q.headers {
		name, value, _ := strings.Cut(line, ": ")
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: strings.ToLower(name), RawValue: []byte(value)})
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: method, Host: "shop.example", Path: target, Scheme: "https", HeaderMap: m,
		}},
		ContextExtensions: map[string]string{"coatcheck.session": route},
	}}
}

// An asked is a Sessions whose every answer is one error.
type asked struct{ err error }

func (a asked) Touch(_ context.Context, id sessions.ID, _ ...string) (*sessions.Session, error) {
	if a.err != nil {
		return nil, a.err
	}
	return &sessions.Session{Key: id.Key(), UserID: "42"}, nil
}

// TestAsCheck: a Guard answers as the check does, for the cross product of ways to ask,
// to present a session, and outcomes.
func TestAsCheck(t *testing.T) {
	id := sessions.NewID()
	ours := "Cookie: " + sessions.DefaultCookieName + "=" + id.Reveal()
	presented := map[string][]string{
		"none": nil, "one": {ours}, "beside others": {"Cookie: a=1; b", ours + "; c=2"}, "malformed": {ours + "x"}, "twice": {ours, ours},
		"twice on a line": {ours + "; " + sessions.DefaultCookieName + "=x"}, "bearer": {"Authorization: Bearer " + id.Reveal()},
		"both": {ours, "Authorization: bearer " + id.Reveal()}, "two bearers": {"Authorization: Bearer " + id.Reveal(), "Authorization: Bearer " + id.Reveal()},
		"another credential": {ours, "Authorization: Basic YTpi"},
	}
	askedFor := map[string]request{
		"program": {"GET /cart?a=1", nil}, "browser": {"GET /cart?a=1&b=%26", []string{"Accept: text/html,*/*;q=0.1"}}, "head": {"HEAD /cart", []string{"Accept: text/html"}},
		"post": {"POST /cart", []string{"Accept: text/html"}}, "put": {"PUT /", nil}, "options": {"OPTIONS /", []string{"Accept: text/html"}},
		"navigation": {"GET /", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: cross-site"}},
		"frame":      {"GET /", []string{"Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", "Accept: text/html"}},
		"fetch":      {"GET /", []string{"Sec-Fetch-Mode: cors", "Accept: text/html"}}, "user alone": {"GET /", []string{"Sec-Fetch-User: ?1", "Accept: text/html"}},
		"websocket": {"GET /", []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-Fetch-Mode: websocket", "Accept: text/html"}},
		"grpc":      {"POST /a.B/C", []string{"Content-Type: application/grpc", "Accept: text/html"}},
		"grpc-web":  {"GET /", []string{"Content-Type: application/grpc-web+proto", "Accept: text/html"}},
		"capitals":  {"GET /", []string{"Accept: TEXT/HTML ;q=0.2"}}, "like html": {"GET /", []string{"Accept: text/htmlx, text/plain"}},
		"long":      {"GET /" + strings.Repeat("a", sessions.MaxReturn), []string{"Accept: text/html"}},
		"two lines": {"GET /", []string{"Accept: image/png", "Accept: text/html"}},
	}
	outcomes := map[string]error{
		"live": nil, "unknown": sessions.ErrNotFound, "expired": sessions.ErrExpired, "broken": sessions.ErrBroken,
		"layout": sessions.ErrLayout, "down": context.DeadlineExceeded,
	}
	compared := 0
	for _, login := range []string{"", "/.auth/login", "https://id.example/?a=b"} {
		for _, bearer := range []bool{false, true} {
			for outcome, err := range outcomes {
				server, failed := extauthz.New(asked{err}, extauthz.Config{LoginURL: login, Bearer: bearer})
				guard, failed2 := web.New(asked{err}, web.Config{LoginURL: login, Bearer: bearer})
				if failed != nil || failed2 != nil {
					t.Fatal(failed, failed2)
				}
				for how, lines := range presented {
					for what, q := range askedFor {
						q.headers = append(append([]string{}, q.headers...), lines...)
						for _, route := range []string{"required", "optional"} {
							name := strings.Join([]string{route, login, outcome, how, what}, "/")
							compare(t, name, server, guard, q, route)
							compared++
						}
					}
				}
			}
		}
	}
	t.Logf("%d requests", compared)
}

// sentences are the bodies of a Guard, by the status.
var sentences = map[int]string{401: "Sign in to continue.\n", 503: "Try again in a moment.\n"}

// compare wants both to answer alike. Where the check shows a person a page, a Guard says
// the sentence of it, because a service has pages of its own.
func compare(t *testing.T, name string, server *extauthz.Server, guard *web.Guard, q request, route string) {
	t.Helper()
	answer, _ := server.Check(t.Context(), q.check(route))
	want, headers, body := http.StatusOK, map[string]string{}, ""
	if denied := answer.GetDeniedResponse(); denied != nil {
		want, body = int(denied.GetStatus().GetCode()), denied.GetBody()
		for _, h := range denied.GetHeaders() {
			headers[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
		}
	}
	if headers["content-type"] == "text/html; charset=utf-8" && strings.HasPrefix(body, "<!doctype html>") {
		headers["content-type"], body = "text/plain; charset=utf-8", sentences[want]
	}
	identified := ""
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if s := web.FromContext(r.Context()); s != nil {
			identified = s.UserID
		}
	})
	handler := guard.Require(next)
	if route == "optional" {
		handler = guard.Optional(next)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, q.http())
	if strings.HasPrefix(headers["content-type"], "text/html") { // a page of the check's own; a service has its own
		if !strings.Contains(body, "<html") || w.Body.Len() == 0 {
			t.Errorf("%s: the check's page is %q, and the text beside it %q", name, body, w.Body.String())
		}
		body, headers["content-type"] = w.Body.String(), "text/plain; charset=utf-8"
	}
	if w.Code != want || want != http.StatusOK && w.Body.String() != body {
		t.Errorf("%s: %d %.80q, and the check says %d %.80q", name, w.Code, w.Body.String(), want, body)
	}
	for _, header := range []string{"location", "www-authenticate", "cache-control", "retry-after", "content-type", "set-cookie"} {
		if got := w.Header().Get(header); got != headers[header] {
			t.Errorf("%s: %s is %q, and the check says %q", name, header, got, headers[header])
		}
	}
	theirs := ""
	for _, h := range answer.GetOkResponse().GetHeaders() {
		if h.GetHeader().GetKey() == "x-user-id" {
			theirs = h.GetHeader().GetValue()
		}
	}
	if identified != theirs {
		t.Errorf("%s: the user is %q, and %q by the check", name, identified, theirs)
	}
}

// FuzzBehind: of any session that the check hands to an upstream, Behind reads the same,
// and any other text in these headers it refuses or reads in the one way.
func FuzzBehind(f *testing.F) {
	f.Add("42", "Ada", "staff", "a,b", "free", false)
	f.Add("ä %,\n", "", "\xff", "%2C", "", true)
	f.Add("%41", "a%2cb", "%zz", "%4", " ", true)
	guard, err := web.Behind(web.HeaderConfig{Fields: map[string]string{"plan": "x-user-plan"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id, name, role1, role2, plan string, raw bool) {
		session := &sessions.Session{Key: sessions.NewID().Key(), UserID: id, Username: name, Roles: []string{role1, role2}, Fields: map[string]string{"plan": plan}}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if raw {
			r.Header["X-User-Id"], r.Header["X-User-Name"], r.Header["X-User-Plan"] = []string{id}, []string{name}, []string{plan}
			r.Header["X-User-Roles"] = []string{role1 + "," + role2}
		} else {
			server, err := extauthz.New(stored{session}, extauthz.Config{Fields: []extauthz.FieldHeader{{Field: "plan", Header: "x-user-plan"}}})
			if err != nil {
				t.Fatal(err)
			}
			answer, _ := server.Check(t.Context(), request{"GET /", []string{"Cookie: " + sessions.DefaultCookieName + "=" + sessions.NewID().Reveal()}}.check("required"))
			for _, h := range answer.GetOkResponse().GetHeaders() {
				r.Header.Set(h.GetHeader().GetKey(), h.GetHeader().GetValue())
			}
		}
		var got *sessions.Session
		w := httptest.NewRecorder()
		guard.Require(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = web.FromContext(r.Context()) })).ServeHTTP(w, r)
		if raw {
			checkRaw(t, w.Code, got, r)
			return
		}
		if w.Code != http.StatusOK {
			if id != "" && validText(id, name, role1, role2) {
				t.Fatalf("%d for what the check sends: %v", w.Code, r.Header)
			}
			return
		}
		var roles []string
		for _, role := range session.Roles {
			if role != "" {
				roles = append(roles, role)
			}
		}
		if got.UserID != id || got.Username != name || strings.Join(got.Roles, "\x00") != strings.Join(roles, "\x00") || got.Key != session.Key {
			t.Errorf("%q of %+v", got, session)
		}
	})
}

// FuzzGuard: a Guard answers any request as the check does, but for those that the check
// refuses for their path.
func FuzzGuard(f *testing.F) {
	id := sessions.NewID().Reveal()
	ours := sessions.DefaultCookieName + "=" + id
	for i, seed := range [][5]string{
		{"/cart?a=1&b=%26", "text/html,*/*;q=0.1", "", ours, ""}, {"/", "TEXT/HTML ;q=0.2", "", "a=1; " + ours + "x", ""}, {"/", "text/html", "navigate", "", "Bearer " + id}, {"//evil.example", "text/html", "navigate", ours + ";" + ours, ""},
		{"/" + strings.Repeat("a", sessions.MaxReturn), "text/html", "cors", ours, "bearer " + id}, {"/x", "", "", ours + "," + ours, "Basic YTpi"}, {"/a:b", "a, text/html", "", " " + ours, "Bearer x"},
	} {
		f.Add(uint8(i), seed[0], seed[1], seed[2], "application/grpc"[:i], seed[3], seed[4])
		f.Add(uint8(i)<<4, seed[0], seed[1], seed[2], "", seed[3], seed[4])
	}
	visible := regexp.MustCompile(`\A/[!-~]*\z`)
	f.Fuzz(func(t *testing.T, choice uint8, target, accept, mode, kind, cookie, authorization string) {
		if _, err := url.ParseRequestURI(target); err != nil || !visible.MatchString(target) {
			return
		}
		config := extauthz.Config{LoginURL: []string{"", "/.auth/login"}[choice>>4&1], Bearer: choice>>5&1 == 1}
		outcome := asked{[]error{nil, sessions.ErrNotFound, sessions.ErrBroken, context.DeadlineExceeded}[choice>>6]}
		server, failed := extauthz.New(outcome, config)
		guard, failed2 := web.New(outcome, web.Config{LoginURL: config.LoginURL, Bearer: config.Bearer})
		if failed != nil || failed2 != nil {
			t.Fatal(failed, failed2)
		}
		q := request{line: []string{"GET", "HEAD", "POST", "OPTIONS"}[choice&3] + " " + target}
		for _, header := range [][2]string{{"Accept", accept}, {"Sec-Fetch-Mode", mode}, {"Content-Type", kind}, {"Cookie", cookie}, {"Authorization", authorization}} {
			if header[1] != "" {
				q.headers = append(q.headers, header[0]+": "+header[1])
			}
		}
		route := []string{"required", "optional"}[choice>>2&1]
		if answer, _ := server.Check(t.Context(), q.check(route)); answer.GetDeniedResponse().GetStatus().GetCode() == http.StatusBadRequest {
			return
		}
		compare(t, route, server, guard, q, route)
	})
}

type stored struct{ session *sessions.Session }

func (s stored) Touch(context.Context, sessions.ID, ...string) (*sessions.Session, error) {
	return s.session, nil
}

func validText(texts ...string) bool {
	for _, text := range texts {
		if strings.ToValidUTF8(text, "") != text {
			return false
		}
	}
	return true
}

// checkRaw: what is read of a header, encoded as the check does, is that header.
func checkRaw(t *testing.T, code int, got *sessions.Session, r *http.Request) {
	t.Helper()
	if code != http.StatusOK {
		return
	}
	server, err := extauthz.New(stored{got}, extauthz.Config{Fields: []extauthz.FieldHeader{{Field: "plan", Header: "x-user-plan"}}})
	if err != nil {
		t.Fatal(err)
	}
	got.Key = sessions.NewID().Key()
	answer, _ := server.Check(t.Context(), request{"GET /", []string{"Cookie: " + sessions.DefaultCookieName + "=" + sessions.NewID().Reveal()}}.check("required"))
	for _, h := range answer.GetOkResponse().GetHeaders() {
		name, value := h.GetHeader().GetKey(), h.GetHeader().GetValue()
		if name != "x-user-session" && r.Header.Get(name) != value {
			t.Errorf("%s: %q is read as what the check writes %q", name, r.Header.Get(name), value)
		}
	}
}
