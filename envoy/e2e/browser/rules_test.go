package browser_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
)

// TestCookie: the cookie as the browser holds it.
func TestCookie(t *testing.T) {
	b := open(t, shop(t))
	b.visit("/orders")
	b.shows(b.signIn("cleo", password), 200, "X-User-Id")
	cookies := b.cookies()
	if len(cookies) != 1 {
		t.Fatalf("the browser holds %d cookies", len(cookies))
	}
	c := cookies[0]
	if len(c.Value) != 43 {
		t.Errorf("the value has %d characters", len(c.Value))
	}
	// A domain without a dot before it is that host alone.
	got := network.Cookie{Name: c.Name, Domain: c.Domain, Path: c.Path, HTTPOnly: c.HTTPOnly, Secure: c.Secure, Session: c.Session, SameSite: c.SameSite}
	want := network.Cookie{
		Name: "__Host-session", Domain: "shop.localhost", Path: "/", HTTPOnly: true, Secure: true, Session: true, SameSite: network.CookieSameSiteLax,
	}
	if got != want {
		t.Errorf("the browser holds %+v, want %+v", got, want)
	}
	if seen := value[string](b, "document.cookie"); seen != "" {
		t.Errorf("scripts see the cookies %q", seen)
	}
	b.shows(b.visit(strings.Replace(b.front, "shop.", "below.shop.", 1)+"/orders"), 200, "Username")
	b.shows(b.visit("/orders"), 200, "X-User-Id")
	// A user who signs in again gets another cookie.
	b.visit("/.auth/login")
	b.press(`a[href="/.auth/sessions"]`)
	b.shows(b.visit("/.auth/session"), 200, `"username":"Cleo"`)
}

// TestCrossOrigin: forms of other pages are refused, also where the browser
// sends the cookie with them, and change nothing.
func TestCrossOrigin(t *testing.T) {
	b := open(t, shop(t))
	port := evil(t, b.front)
	b.visit("/orders")
	b.shows(b.signIn("dora", password), 200, "X-User-Id")
	signInElsewhere(t, shop(t), "dora", firefox)
	cookie := b.cookies()[0].Value
	for host, signedIn := range map[string]bool{
		"evil.localhost":      false, // another site
		"evil.shop.localhost": true,  // another origin of the same site: SameSite is of no help
	} {
		page := "http://" + host + ":" + port + "/"
		b.visit(page)
		b.press("#upstream button")
		if _, sent := b.identity()["X-User-Id"]; sent != signedIn {
			t.Errorf("%s: the browser sends the cookie: %v, want %v", host, sent, signedIn)
		}
		for _, form := range []string{"#login", "#logout", "#everywhere", "#others"} {
			b.visit(page)
			b.shows(b.press(form+" button"), 403, "came from another site")
		}
	}
	b.look("refused-403")
	b.shows(b.visit("/orders"), 200, "X-User-Id")
	if got := b.cookies(); len(got) != 1 || got[0].Value != cookie {
		t.Errorf("the cookies have changed: %+v", got)
	}
	b.shows(b.visit("/.auth/sessions"), 200, "Firefox 151 on Windows")
}

// TestReturn: a login leads back to the very address, and to no other site.
func TestReturn(t *testing.T) {
	b := open(t, shop(t))
	port := evil(t, b.front)
	const deep = "/orders/7?sort=date&q=a%20b%2Bc&empty=&back=%2F.auth%2F&u=%C3%A4&q=%26%23%3Cb%3E%22%27"
	b.visit(deep)
	b.shows(b.signIn("emil", "wrong"), 401, "Wrong username or password.")
	b.shows(b.signIn("emil", password), 200, "X-User-Id")
	b.at(deep)
	if got := b.sent().Path; got != deep {
		t.Errorf("the upstream was asked for %s, want %s", got, deep)
	}
	for _, rd := range []string{
		"http://evil.localhost:" + port + "/", "//evil.localhost:" + port + "/", `/\evil.localhost:` + port + "/",
		`\/evil.localhost:` + port + "/", "/\t/evil.localhost:" + port + "/", "javascript:alert(1)", "data:text/html,evil",
	} {
		b.visit("/.auth/logout")
		b.press("button:not(.quiet)")
		b.visit("/.auth/login?rd=" + url.QueryEscape(rd))
		b.shows(b.signIn("emil", password), 200, "X-User-Id")
		b.at("/")
	}
}

// TestIdle: a user who is idle for the idle timeout must sign in again, and then
// arrives at the page that was asked for.
func TestIdle(t *testing.T) {
	const idle = 6 * time.Second
	b := open(t, start(t, "--session-idle-timeout", idle.String()))
	b.visit("/orders")
	b.shows(b.signIn("fay", password), 200, "X-User-Id")
	for range 4 { // use keeps it alive for longer than the timeout
		time.Sleep(idle / 3)
		b.shows(b.visit("/orders"), 200, "X-User-Id")
	}
	time.Sleep(idle + idle/5) // a step of a tenth may come on top
	b.shows(b.visit("/orders?page=2"), 200, "Username")
	b.shows(b.signIn("fay", password), 200, "X-User-Id")
	b.at("/orders?page=2")
}

// TestOutage: without Redis no user can sign in or out, and the cookie stays.
func TestOutage(t *testing.T) {
	s := start(t)
	b, late := open(t, s), open(t, s)
	b.visit("/orders")
	b.shows(b.signIn("gus", password), 200, "X-User-Id")
	late.visit("/orders")
	b.visit("/.auth/logout")
	s.Redis.Kill()
	late.shows(late.signIn("gus", password), 503, "Sign-in is unavailable.")
	late.look("unavailable-503")
	if got := late.cookies(); len(got) > 0 {
		t.Errorf("a failed login left %+v", got[0])
	}
	b.shows(b.press("button:not(.quiet)"), 503, "Sign-in is unavailable.")
	b.visit("/orders")
	if got := b.cookies(); len(got) != 1 {
		t.Errorf("a failed logout left %d cookies", len(got))
	}
}

// TestWithoutScript: no page needs JavaScript.
func TestWithoutScript(t *testing.T) {
	b := open(t, shop(t))
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.visit("/orders")
	b.shows(b.signIn("hal", "wrong"), 401, "Wrong username or password.")
	b.shows(b.signIn("hal", password), 200, "X-User-Id")
	signInElsewhere(t, shop(t), "hal", firefox)
	b.visit("/.auth/sessions")
	b.shows(b.press(theOther), 200, "That browser is signed out.")
	b.press(`a[href="/.auth/logout"]`)
	b.shows(b.press("button:not(.quiet)"), 200, "You are signed out.")
}
