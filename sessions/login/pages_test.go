package login_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/net/html"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
)

// TestLogout: the session ends, then the cookie goes; a GET only asks.
func TestLogout(t *testing.T) {
	r := newRig(t)
	id, other := r.signIn("ada", ""), r.signIn("ada", "")
	a := r.send("logout", request{id: id})
	r.want("GET", a, http.StatusOK)
	r.untouched("GET", a)
	if !r.live(id) || !strings.Contains(a.body, "Signed in as Ada") {
		t.Errorf("a GET signs out, or does not ask: %s", a.body)
	}
	cleared := sessions.Cookie{}.Clear().String()
	a = r.send("logout", request{form: url.Values{}, id: id})
	r.want("POST", a, http.StatusSeeOther)
	if r.live(id) || !r.live(other) || a.Header.Get("Location") != "/.auth/login?signed_out=1" || a.Header.Get("Set-Cookie") != cleared {
		t.Errorf("after it: %v", a.Header)
	}
	if a := r.send("login?signed_out=1", request{}); !strings.Contains(a.body, `role="status">You are signed out.`) {
		t.Errorf("the page does not say so: %s", a.body)
	}
	// Who came from a refused page to use another account goes on there.
	id = r.signIn("ada", "")
	if a := r.send("login?rd=%2Fadmin%3Fa%3Db%26c", request{id: id}); !strings.Contains(a.body, `<form method="post" action="/.auth/logout">`+"\n"+`<input type="hidden" name="rd" value="/admin?a=b&amp;c">`) {
		t.Errorf("to sign out forgets the page: %s", a.body)
	}
	for rd, want := range map[string]string{"/admin?a=b&c": "&rd=%2Fadmin%3Fa%3Db%26c", "https://evil.example/": "", "/": "", "/.auth/login": ""} {
		a = r.send("logout", request{form: url.Values{"rd": {rd}}, id: id})
		if a.Header.Get("Location") != "/.auth/login?signed_out=1"+want {
			t.Errorf("rd %s: %v", rd, a.Header)
		}
	}
	if a := r.send("login?signed_out=1&rd=%2Fadmin", request{}); !strings.Contains(a.body, `name="rd" value="/admin"`) || !strings.Contains(a.body, "You are signed out.") {
		t.Errorf("the form forgets the page: %s", a.body)
	}
	for _, q := range []request{{form: url.Values{}, id: id}, {form: url.Values{}}, {form: url.Values{}, header: http.Header{"Cookie": {sessions.DefaultCookieName + "=x"}}}} {
		a = r.send("logout", q)
		r.want("again", a, http.StatusSeeOther)
		if a.Header.Get("Set-Cookie") != cleared {
			t.Errorf("a dead cookie stays: %v", a.Header)
		}
	}
	a = r.send("logout", request{method: "POST", id: other, header: http.Header{"Accept": {"application/json"}}})
	r.want("JSON", a, http.StatusNoContent)
	if r.live(other) || a.Header.Get("Set-Cookie") != cleared {
		t.Errorf("after it: %v", a.Header)
	}
	a = r.send("logout", request{id: id})
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/.auth/login" {
		t.Errorf("GET, signed out: %s %v", a.Status, a.Header)
	}
}

func TestLogoutEverywhere(t *testing.T) {
	r := newRig(t)
	id, other, bob := r.signIn("ada", ""), r.signIn("ada", ""), r.signIn("bob", "")
	a := r.send("logout/everywhere", request{form: url.Values{}, id: id})
	r.want("everywhere", a, http.StatusSeeOther)
	if r.live(id) || r.live(other) || !r.live(bob) || a.Header.Get("Set-Cookie") != (sessions.Cookie{}).Clear().String() {
		t.Errorf("after it: %v", a.Header)
	}
	a = r.send("logout/everywhere", request{form: url.Values{}, id: id})
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/.auth/login?rd=/.auth/logout" {
		t.Errorf("without a session: %s %v", a.Status, a.Header)
	}
	r.want("without a session, as JSON", r.send("logout/everywhere", request{method: "POST", header: http.Header{"Accept": {"application/json"}}}), http.StatusUnauthorized)
}

// TestSessions: which sessions are listed, and that no user signs out another.
func TestSessions(t *testing.T) {
	r := newRig(t)
	id, second, third, bob := r.signIn("ada", "192.0.2.1"), r.signIn("ada", "2001:db8::1"), r.signIn("ada", ""), r.signIn("bob", "192.0.2.9")
	a := r.send("sessions", request{id: id})
	r.want("page", a, http.StatusOK)
	for what, n := range map[string]int{"Firefox 143 on Linux": 3, "This browser": 1, "192.0.2.1": 1, "2001:db8::1": 1, "192.0.2.9": 0, "just now": 3, "Sign out everywhere else": 1, `name="handle"`: 3} {
		if got := strings.Count(a.body, what); got != n {
			t.Errorf("%q stands there %d times, want %d", what, got, n)
		}
	}
	end := func(q request) answer { t.Helper(); q.id = id; return r.send("sessions", q) }
	a = end(request{form: url.Values{"handle": {bob.Key().Handle()}}})
	r.want("another's", a, http.StatusSeeOther)
	if !r.live(bob) {
		t.Error("another user was signed out")
	}
	a = end(request{form: url.Values{"handle": {second.Key().Handle()}}})
	if r.live(second) || !r.live(third) || !r.live(id) || a.Header.Get("Location") != "/.auth/sessions?ended=one" {
		t.Errorf("one: %s %v", a.Status, a.Header)
	}
	r.untouched("one", a)
	r.want("one that is gone", end(request{form: url.Values{"handle": {second.Key().Handle()}}}), http.StatusSeeOther)
	for _, form := range []url.Values{{}, {"handle": {third.Key().Handle()}, "others": {"1"}}, {"handle": {""}}} {
		r.want("neither or both", end(request{form: form}), http.StatusBadRequest)
	}
	r.want("another type", end(request{method: "POST"}), http.StatusUnsupportedMediaType)
	a = end(request{form: url.Values{"others": {"1"}}})
	if r.live(third) || !r.live(id) || !r.live(bob) || a.Header.Get("Location") != "/.auth/sessions?ended=others" {
		t.Errorf("others: %s %v", a.Status, a.Header)
	}
	a = end(request{form: url.Values{"handle": {id.Key().Handle()}}})
	if r.live(id) || a.Header.Get("Set-Cookie") != (sessions.Cookie{}).Clear().String() || a.Header.Get("Location") != "/.auth/login?signed_out=1" {
		t.Errorf("this one: %s %v", a.Status, a.Header)
	}
	a = end(request{form: url.Values{"others": {"1"}}})
	if a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/.auth/login?rd=/.auth/sessions" {
		t.Errorf("signed out: %s %v", a.Status, a.Header)
	}
}

func TestSessionsJSON(t *testing.T) {
	r := newRig(t)
	id, other := r.signIn("ada", "192.0.2.1"), r.signIn("ada", "")
	asJSON := http.Header{"Accept": {"application/json"}}
	a := r.send("sessions", request{id: id, header: asJSON})
	var got struct {
		Sessions []struct {
			Handle, Browser, Address string
			Current                  bool
			LastUsed                 time.Time `json:"last_used"`
		}
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || len(got.Sessions) != 2 {
		t.Fatalf("%v: %s", err, a.body)
	}
	if s := got.Sessions[0]; !s.Current || s.Handle != id.Key().Handle() || s.Browser == "" || s.Address != "192.0.2.1" || time.Since(s.LastUsed) > time.Minute {
		t.Errorf("the first is %+v, want the current one", s)
	}
	r.want("one", r.send("sessions", request{id: id, json: map[string]string{"handle": other.Key().Handle()}}), http.StatusNoContent)
	r.want("others", r.send("sessions", request{id: id, json: map[string]bool{"others": true}}), http.StatusNoContent)
	r.want("neither", r.send("sessions", request{id: id, json: "{}"}), http.StatusBadRequest)
	r.want("without a session", r.send("sessions", request{header: asJSON}), http.StatusUnauthorized)
	if r.live(other) || !r.live(id) {
		t.Error("the wrong one ended")
	}
}

// TestSession: who am I. It slides nothing.
func TestSession(t *testing.T) {
	r := newRig(t)
	id := r.signIn("ada", "")
	r.admin.PExpire(t.Context(), string(id.Key()), 10*time.Minute)
	a := r.send("session", request{id: id})
	r.want("signed in", a, http.StatusOK)
	var got map[string]any
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range got {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := "created_at expires_at handle idle_expires_at roles user_id username"; strings.Join(names, " ") != want || got["user_id"] != "42" || got["handle"] != id.Key().Handle() {
		t.Errorf("it says %s", a.body)
	}
	if ttl := r.admin.PTTL(t.Context(), string(id.Key())).Val(); ttl > 10*time.Minute {
		t.Errorf("the session lives on for %v", ttl)
	}
	bob := r.signIn("bob", "")
	if a := r.send("session", request{id: bob}); !strings.Contains(a.body, `"roles":[]`) {
		t.Errorf("no roles: %s", a.body)
	}
	for name, q := range map[string]request{"without": {}, "unknown": {id: sessions.NewID()}, "junk": {header: http.Header{"Cookie": {sessions.DefaultCookieName + "=x"}}}} {
		a := r.send("session", q)
		r.want(name, a, http.StatusUnauthorized)
		r.untouched(name, a)
		if a.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(a.body, "not_signed_in") || a.Header.Get("Www-Authenticate") != "Session" {
			t.Errorf("%s: %v %s", name, a.Header, a.body)
		}
	}
	r.admin.HSet(t.Context(), string(id.Key()), "v", "2") // a newer program is at work
	r.want("unknown layout", r.send("session", request{id: id}), http.StatusServiceUnavailable)
}

// TestLoginPage: with the return address, or for whom is signed in already.
func TestLoginPage(t *testing.T) {
	r := newRig(t)
	a := r.send("login?rd="+url.QueryEscape(`/app?a="><script>`), request{})
	if !strings.Contains(a.body, `name="rd" value="/app?a=&#34;&gt;&lt;script&gt;"`) {
		t.Errorf("the return address is lost: %s", a.body)
	}
	a = r.send("login?rd=//evil.example", request{})
	if strings.Contains(a.body, "evil") {
		t.Errorf("the page holds an evil address: %s", a.body)
	}
	form := credentials(`<script>"`, "x")
	form.Set("rd", "/app")
	a = r.send("login", request{form: form})
	if !strings.Contains(a.body, `value="/app"`) || !strings.Contains(a.body, `value="&lt;script&gt;&#34;"`) {
		t.Errorf("after a mistake: %s", a.body)
	}
	form = credentials("ada", adaPassword)
	form.Set("rd", "//evil.example") // checked again
	if a := r.send("login", request{form: form}); a.Header.Get("Location") != "/" {
		t.Errorf("it leads to %q", a.Header.Get("Location"))
	}
	a = r.send("login?rd=/app", request{id: r.signIn("ada", "")})
	r.want("signed in", a, http.StatusOK)
	if !strings.Contains(a.body, "Signed in as Ada") || !strings.Contains(a.body, `href="/app"`) || strings.Contains(a.body, `type="password"`) {
		t.Errorf("signed in: %s", a.body)
	}
}

// TestMethods: what each endpoint takes, what every answer carries, and that the
// policy fits the page.
func TestMethods(t *testing.T) {
	r := newRig(t, func(c *login.Config) { c.ReturnOrigins = []string{"https://app.example.com"} })
	allowed := map[string]string{
		"login": "GET, HEAD, POST", "logout": "GET, HEAD, POST", "logout/everywhere": "POST", "sessions": "GET, HEAD, POST", "session": "GET, HEAD",
		"": "GET, HEAD", "nothing": "", "login/": "", "logout/": "", "session/x": "", "LOGIN": "", "..%2flogin": "", "style.css": "",
	}
	for endpoint, allow := range allowed {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
			a := r.send(endpoint, request{method: method})
			switch {
			case allow == "":
				r.want(method+" "+endpoint, a, http.StatusNotFound)
			case !slices.Contains(strings.Split(allow, ", "), method):
				r.want(method+" "+endpoint, a, http.StatusMethodNotAllowed)
				if a.Header.Get("Allow") != allow {
					t.Errorf("%s: Allow %q, want %q", endpoint, a.Header.Get("Allow"), allow)
				}
			case a.StatusCode == 404 || a.StatusCode == 405:
				t.Errorf("%s %s: %s", method, endpoint, a.Status)
			}
			if method == "HEAD" && a.body != "" {
				t.Errorf("HEAD %s has a body", endpoint)
			}
			for name, want := range map[string]string{
				"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Strict-Transport-Security": "max-age=63072000",
				"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
			} {
				if a.Header.Get(name) != want {
					t.Errorf("%s %s: %s %q", method, endpoint, name, a.Header.Get(name))
				}
			}
			policy := a.Header.Get("Content-Security-Policy")
			for _, part := range []string{"default-src 'none'", "form-action 'self' https://app.example.com", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'sha256-"} {
				if !strings.Contains(policy, part) || strings.Contains(policy, "unsafe") {
					t.Errorf("%s %s: the policy is %s", method, endpoint, policy)
				}
			}
		}
	}
	res, err := http.Get(r.http.URL + "/elsewhere/login")
	if err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("beside the base path: %v, %v", res, err)
	}
	res.Body.Close()
}

// TestMarkup parses every page: it needs nothing else, runs nothing, and a screen
// reader finds its way.
func TestMarkup(t *testing.T) {
	r := newRig(t, func(c *login.Config) { c.Logo = []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`) })
	id := r.signIn("ada", "")
	r.signIn("ada", "")
	for name, a := range map[string]answer{
		"login": r.send("login", request{}), "wrong": r.send("login", request{form: credentials("ada", "x")}), "account": r.send("login", request{id: id}),
		"logout": r.send("logout", request{id: id}), "sessions": r.send("sessions", request{id: id}), "404": r.send("x", request{}),
	} {
		t.Run(name, func(t *testing.T) { checkMarkup(t, a) })
	}
}

func checkMarkup(t *testing.T, a answer) {
	doc, err := html.Parse(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	ids, labels, headings, focus := make(map[string]bool), make(map[string]bool), 0, 0
	var needed []string
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		attr := make(map[string]string)
		for _, at := range n.Attr {
			attr[at.Key] = at.Val
			if strings.HasPrefix(at.Key, "on") || at.Key == "style" {
				t.Errorf("<%s %s>", n.Data, at.Key)
			}
		}
		if id := attr["id"]; id != "" && ids[id] {
			t.Errorf("id %s twice", id)
		}
		ids[attr["id"]] = true
		if _, ok := attr["autofocus"]; ok {
			focus++
		}
		for _, by := range []string{"aria-describedby", "aria-labelledby"} {
			needed = append(needed, strings.Fields(attr[by])...)
		}
		for _, url := range []string{attr["href"], attr["src"], attr["action"]} {
			if url != "" && !strings.HasPrefix(url, "/") && !strings.HasPrefix(url, "data:") {
				t.Errorf("<%s> leads to %q", n.Data, url)
			}
		}
		switch n.Data {
		case "script", "iframe", "object", "base":
			t.Errorf("<%s>", n.Data)
		case "html":
			if attr["lang"] == "" || attr["lang"] != a.Header.Get("Content-Language") {
				t.Errorf("the language is %q", attr["lang"])
			}
		case "label":
			labels[attr["for"]] = true
		case "h1":
			headings++
		case "img":
			if !strings.HasPrefix(attr["src"], "data:image/svg+xml;base64,") {
				t.Errorf("the logo is %q", attr["src"])
			}
		case "style":
			sum := sha256.Sum256([]byte(n.FirstChild.Data))
			if !strings.Contains(a.Header.Get("Content-Security-Policy"), "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
				t.Error("the policy forbids the stylesheet")
			}
		case "form":
			if attr["method"] != "post" {
				t.Error("a form that does not post")
			}
		}
	}
	for _, id := range needed {
		if !ids[id] {
			t.Errorf("nothing has the id %s", id)
		}
	}
	for n := range doc.Descendants() {
		if n.Data != "input" {
			continue
		}
		for _, at := range n.Attr {
			if at.Key == "id" && !labels[at.Val] {
				t.Errorf("the field %s has no label", at.Val)
			}
		}
	}
	if headings != 1 || focus > 1 {
		t.Errorf("%d headings, %d places to begin", headings, focus)
	}
}

// TestLook: name, texts, accent, language and templates of one's own.
func TestLook(t *testing.T) {
	r := newRig(t, func(c *login.Config) {
		c.Name, c.Lang, c.Accent = "Garderobe", "de", "#ffcc00"
		c.Texts = map[string]string{"sign_in": "Los", "error_throttled": "Zu oft. Warten Sie {time}."}
		c.Templates = fstest.MapFS{"error.html": {Data: []byte(`{{define "main"}}<p>Hier ist nichts, {{.Status}}.</p>{{end}}`)}}
	})
	a := r.send("login", request{})
	for _, want := range []string{"· Garderobe</title>", `<html lang="de">`, "--accent:#ffcc00;--on-accent:#000000", ">Los</button>", ">Benutzername</label>"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("no %s", want)
		}
	}
	if a := r.send("x", request{}); !strings.Contains(a.body, "Hier ist nichts, 404.") {
		t.Errorf("the template is not used: %s", a.body)
	}
	for range 6 {
		a = r.send("login", request{form: credentials("ada", "x")})
	}
	if !strings.Contains(a.body, "Zu oft. Warten Sie 30 Sekunden.") {
		t.Errorf("the text is not used: %s", a.body)
	}
}

// TestUnlistedSession: the page of sessions of a user whose session its list lacks,
// because another program wrote it, is a notice; a session that was signed out meanwhile,
// and a list that is whole, are none.
func TestUnlistedSession(t *testing.T) {
	r := newRig(t)
	id, other := r.signIn("ada", ""), r.signIn("ada", "")
	r.want("whole", r.send("sessions", request{id: id}), http.StatusOK)
	if strings.Contains(r.log.String(), "unlisted_record") {
		t.Fatalf("a list that is whole: %s", r.log.String())
	}
	r.admin.ZRem(t.Context(), "user-sessions:42", id.Key().Hash())
	r.want("of another", r.send("sessions", request{id: other}), http.StatusOK)
	if strings.Contains(r.log.String(), "unlisted_record") {
		t.Fatalf("this page cannot know: %s", r.log.String())
	}
	for range 3 {
		r.want("unlisted", r.send("sessions", request{id: id}), http.StatusOK)
	}
	text := r.log.String()
	if strings.Count(text, `"notice":"unlisted_record","user_id":"42","sessions":1,"session":"`+id.Key().Handle()+`"`) != 1 || strings.Contains(text, id.Reveal()) {
		t.Errorf("%s", text)
	}
}

// TestMetrics: every series from the start, and no other.
func TestMetrics(t *testing.T) {
	r := newRig(t)
	outcomes := func() map[string]float64 {
		got := make(map[string]float64)
		families, err := r.metrics.Gather()
		if err != nil || len(families) != 3 || families[2].GetName() != "coatcheck_notices" {
			t.Fatalf("%d families, %v", len(families), err)
		}
		for _, m := range families[1].GetMetric() {
			got[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
		return got
	}
	if n := len(outcomes()); n != 7 {
		t.Errorf("%d series at the start, want 7", n)
	}
	r.signIn("ada", "")
	for range 6 {
		r.wrong("ada", "")
	}
	r.send("login", request{json: "x"})
	r.users.fail(login.ErrBusy)
	r.wrong("bob", "")
	r.users.fail(http.ErrAbortHandler)
	r.wrong("bob", "")
	got := outcomes()
	for outcome, n := range map[string]float64{"success": 1, "refused": 5, "throttled": 1, "busy": 1, "unavailable": 1, "invalid": 1, "cancelled": 0} {
		if got[outcome] != n {
			t.Errorf("%s: %v, want %v", outcome, got[outcome], n)
		}
	}
	if len(got) != 7 {
		t.Errorf("%d series, want 7", len(got))
	}
}
