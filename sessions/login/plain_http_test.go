package login_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
)

// from is what a browser sends with a post of a page: over plain http no Sec-Fetch-Site.
func from(origin, host string, more ...string) http.Header {
	h := http.Header{"Origin": {origin}, "Host": {host}}
	for i := 0; i < len(more); i += 2 {
		h[more[i]] = []string{more[i+1]}
	}
	return h
}

// TestPlainHTTP: where the browser says that its page came by plain http, and would drop
// the cookie, a sign-in is refused before a password is looked at, and no session is made.
func TestPlainHTTP(t *testing.T) {
	usual := newRig(t)
	insecure := newRig(t, func(c *login.Config) { c.Cookie = sessions.Cookie{Name: "session", Insecure: true} })
	domain := newRig(t, func(c *login.Config) { c.Cookie = sessions.Cookie{Name: "sid", Domain: "example.com"} })
	for _, test := range []struct {
		*rig
		header  http.Header
		refused string // code
	}{
		{usual, from("http://vm.lan", "vm.lan"), "plain_http"}, {domain, from("http://www.example.com", "www.example.com"), "plain_http"},
		{usual, from("http://vm.lan:8000", "vm.lan:8000"), "plain_http"}, {usual, from("http://192.168.1.7:8000", "192.168.1.7:8000"), "plain_http"},
		{usual, from("http://localhost.evil.example", "localhost.evil.example"), "plain_http"}, {usual, from("http://vm.lan", "vm.lan", "X-Forwarded-Proto", "https"), "plain_http"},
		{usual, from("http://vm.lan:8000", "vm.lan"), "hidden_port"}, {insecure, from("http://vm.lan:8000", "vm.lan"), "hidden_port"},
		{usual, from("https://VM.lan:8443", "vm.LAN"), "hidden_port"}, {usual, from("https://[2001:db8::1]:8443", "[2001:db8::1]"), "hidden_port"},
		// Another site, as before.
		{usual, from("http://evil.example", "vm.lan"), "cross_origin"}, {usual, from("http://evil.example:8000", "vm.lan"), "cross_origin"}, {usual, from("null", "vm.lan"), "cross_origin"},
		{usual, from("http://vm.lan:8000", "vm.lan", "Sec-Fetch-Site", "same-site"), "cross_origin"}, {usual, from("http://vm.lan", "vm.lan", "Sec-Fetch-Site", "cross-site"), "cross_origin"},
		{usual, from("http://vm.lan:8001", "vm.lan:8000"), "cross_origin"}, {usual, from("http://vm.lan", "vm.lan:8000"), "cross_origin"}, {usual, from("gopher://vm.lan:8000", "vm.lan"), "cross_origin"}, {usual, from("http://:8000", ""), "cross_origin"},
		// Let through: the cookie arrives, or the browser says nothing of http.
		{usual, from("http://localhost:8000", "localhost:8000"), ""}, {usual, from("http://shop.localhost", "shop.localhost"), ""}, {usual, from("http://127.1.2.3:80", "127.1.2.3:80"), ""},
		{usual, from("http://[::1]:8000", "[::1]:8000"), ""}, {insecure, from("http://vm.lan", "vm.lan"), ""}, {usual, from("https://vm.lan", "vm.lan"), ""},
		{usual, from("https://vm.lan", "vm.lan", "X-Forwarded-Proto", "http"), ""}, {usual, http.Header{"Host": {"vm.lan"}, "X-Forwarded-Proto": {"http"}}, ""}, {usual, http.Header{"Host": {"vm.lan"}}, ""},
	} {
		r := test.rig
		sessions, asked, said := r.count("42"), r.users.asked.Load(), len(r.log.String())
		a := r.send("login", request{form: credentials("ada", adaPassword), header: test.header})
		if test.refused == "" {
			r.want(test.header.Get("Origin"), a, http.StatusSeeOther)
			continue
		}
		r.want(test.header.Get("Origin"), a, http.StatusForbidden)
		r.untouched(test.refused, a)
		if r.count("42") != sessions || r.users.asked.Load() != asked || strings.Contains(a.body, "<form") {
			t.Errorf("%v: %d sessions, asked %d times", test.header, r.count("42"), r.users.asked.Load())
		}
		if ours := test.refused != "cross_origin"; ours != strings.Contains(a.body, "https://") || ours == strings.Contains(a.body, "another site") || (test.refused == "hidden_port") != strings.Contains(a.body, "strip_any_host_port") {
			t.Errorf("%v: %s", test.header, a.body[strings.Index(a.body, "<h1>"):])
		} else if lines := strings.Count(r.log.String()[said:], `"code":"`+test.refused+`","origin_scheme":"`); lines > 0 && !ours {
			t.Errorf("%v: the log says %s", test.header, r.log.String())
		}
		test.header["Accept"] = []string{"application/json"}
		if a := r.send("login", request{json: map[string]any{"username": "ada", "password": adaPassword}, header: test.header}); a.StatusCode != 403 || !strings.Contains(a.body, `"code":"`+test.refused+`"`) {
			t.Errorf("%v: %s", test.header, a.body)
		}
	}
}

func nonNil(f func(*login.Config)) (list []func(*login.Config)) {
	if f != nil {
		list = append(list, f)
	}
	return list
}

// TestPlainHTTPElsewhere: signing out needs no cookie to be kept, and neither does a
// program that gets the ID itself; a method of signing in is refused like the form.
func TestPlainHTTPElsewhere(t *testing.T) {
	r := newRig(t, func(c *login.Config) { c.BearerLogin, c.Methods = true, []login.Method{pinMethod{}} })
	header := from("http://vm.lan", "vm.lan")
	if a := r.send("login", request{json: map[string]any{"username": "ada", "password": adaPassword, "bearer": true}, header: header}); a.StatusCode != 200 || r.count("42") != 1 {
		t.Errorf("bearer: %s %s", a.Status, a.body)
	}
	r.want("signing out", r.send("logout", request{form: url.Values{}, header: header}), http.StatusSeeOther)
	r.want("signing out, a hidden port", r.send("logout", request{form: url.Values{}, header: from("http://vm.lan:8000", "vm.lan")}), http.StatusForbidden)
	a := r.send("pin", request{form: url.Values{}, header: header})
	r.want("a method", a, http.StatusForbidden)
	r.untouched("a method", a)
	if n := r.count("44"); n != 0 {
		t.Errorf("%d sessions by the method", n)
	}
	r.want("a method over https", r.send("pin", request{form: url.Values{}, header: from("https://vm.lan", "vm.lan")}), http.StatusSeeOther)
}

// pinMethod signs every client in.
type pinMethod struct{}

func (pinMethod) Mount(mux *login.Mux, h *login.Handler) {
	mux.Handle("POST pin", func(w http.ResponseWriter, r *http.Request) error {
		return h.SignIn(w, r, login.User{ID: "44", Username: "cleo"}, "/")
	})
}

// TestPlainHTTPLines: the log says once a second what was refused, and the cure.
func TestPlainHTTPLines(t *testing.T) {
	for origin, want := range map[string]string{
		"https://vm.lan:8443": `"code":"hidden_port","origin_scheme":"https","origin_port":"8443","host":"vm.lan","cookie":"__Host-session","cure":"serve the page by https, or on the usual port, or leave strip_any_host_port out`,
		"http://vm.lan":       `"code":"plain_http","origin_scheme":"http","origin_port":"","host":"vm.lan","cookie":"__Host-session","cure":"serve the page by https: `,
	} {
		r, began := newRig(t), time.Now()
		for range 20 {
			r.send("login", request{form: credentials("ada", adaPassword), header: from(origin, "vm.lan")})
		}
		log, most := r.log.String(), int(time.Since(began).Seconds())+2
		if n := strings.Count(log, "a post of login's own page was refused"); n < 1 || n > most || !strings.Contains(log, want) {
			t.Errorf("%s: %d lines, at most %d: %s", origin, n, most, log)
		}
	}
}

// TestPlainHTTPHint: a proxy's word gives a hint and one line, and refuses no sign-in.
func TestPlainHTTPHint(t *testing.T) {
	const hint = "over plain http you cannot stay signed in"
	http1 := func(host string, more ...string) http.Header {
		h := from("", host, append([]string{"X-Forwarded-Proto", "http"}, more...)...)
		delete(h, "Origin")
		return h
	}
	for _, test := range []struct {
		change func(*login.Config)
		header http.Header
		want   bool
	}{
		{nil, http1("vm.lan"), true}, {nil, http1("vm.lan:8000"), true}, {nil, http1("vm.lan", "X-Forwarded-Proto", "HTTP, https"), true},
		{nil, http1("localhost:8000"), false}, {nil, http1("shop.localhost"), false}, {nil, http1("127.0.0.1"), false}, {nil, http1("[::1]:80"), false},
		{nil, http1("vm.lan", "X-Forwarded-Proto", "https"), false}, {nil, http.Header{"Host": {"vm.lan"}}, false},
		{nil, http1("vm.lan", "Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate"), false}, // the browser has it by https: a load balancer ends TLS
		{func(c *login.Config) { c.TrustedHops, c.TrustedProxies = 0, nil }, http1("vm.lan"), false},
		{func(c *login.Config) { c.TrustedProxies = c.TrustedProxies[:0]; c.TrustUnix = true }, http1("vm.lan"), false},
		{func(c *login.Config) { c.Cookie = sessions.Cookie{Name: "session", Insecure: true} }, http1("vm.lan"), false},
	} {
		r := newRig(t, nonNil(test.change)...)
		for range 3 {
			if a := r.send("login", request{header: test.header}); a.StatusCode != 200 || strings.Contains(a.body, `role="status">If the address of this page begins with http://`) != test.want || strings.Contains(a.body, hint) != test.want {
				t.Errorf("%v: %s %s", test.header, a.Status, a.body[strings.Index(a.body, "<h1>"):])
			}
		}
		if n := strings.Count(r.log.String(), "may have come by plain http"); (n == 1) != test.want || n > 1 {
			t.Errorf("%v: %d lines: %s", test.header, n, r.log.String())
		}
		r.want("the sign-in", r.send("login", request{form: credentials("ada", adaPassword), header: test.header}), http.StatusSeeOther)
	}
}
