package browser_test

import (
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// theOther is the button that signs the other browser out.
const theOther = "li:not(:has(.badge)) button"

// address is some address: Envoy calls a client on its own machine by the
// machine's.
var address = regexp.MustCompile(`(?m)^Address\s+[0-9a-f]+[.:]`)

// TestStory: protected page, login page, wrong password, right password, back on
// the page; two browsers, of which one signs the other out; logout.
func TestStory(t *testing.T) {
	b := open(t, shop(t))
	b.shows(b.visit("/orders"), 200, "Sign in")
	b.at("/.auth/login?rd=%2Forders")
	b.shows(b.signIn("ada löwe", "wrong"), 401, "Wrong username or password.")
	if name, secret := act(b, chromedp.Value(chromedp.CSS("#username"))), act(b, chromedp.Value(chromedp.CSS("#password"))); name != "ada löwe" || secret != "" {
		t.Errorf("after a wrong password the form holds %q and %q", name, secret)
	}
	b.shows(b.signIn("ada löwe", password), 200, `"path": "/orders"`)
	b.at("/orders")
	want := map[string]string{"X-User-Id": "42", "X-User-Name": "Ada%20L%C3%B6we", "X-User-Roles": "admin,staff", "X-User-Tenant": "acme"}
	if got := b.identity(); !maps.Equal(got, want) {
		t.Errorf("the upstream was sent %v, want %v", got, want)
	}
	if sent := b.sent().Headers["Cookie"]; sent != nil {
		t.Errorf("the upstream was sent the cookies %q", sent)
	}

	other := open(t, shop(t), chromedp.UserAgent(firefox))
	other.visit("/orders")
	other.shows(other.signIn("Ada Löwe", password), 200, "X-User-Id")

	list := b.visit("/.auth/sessions")
	b.shows(list, 200, "Firefox 151 on Windows")
	if rows := value[int](b, `document.querySelectorAll("li").length`); rows != 2 {
		t.Errorf("the list has %d browsers", rows)
	}
	if own := b.reads("li:has(.badge)"); !strings.Contains(own, "Chrome") || !strings.Contains(own, "Linux") || !address.MatchString(own) {
		t.Errorf("this browser is %q", own)
	}
	b.shows(b.press(theOther), 200, "That browser is signed out.")

	if status := value[int](other, `fetch("/orders").then(r => r.status)`, chromedp.EvalAwaitPromise); status != 401 {
		t.Errorf("the browser that was signed out got %d", status)
	}
	other.shows(other.visit("/orders"), 200, "Sign in")
	if status := b.visit("/orders"); status != 200 || b.identity()["X-User-Id"] != "42" {
		t.Errorf("the browser that signed the other out got %d", status)
	}

	b.visit("/.auth/sessions")
	b.press(`a[href="/.auth/logout"]`)
	b.shows(b.press("button:not(.quiet)"), 200, "You are signed out.")
	if left := b.cookies(); len(left) > 0 {
		t.Errorf("after the logout the browser holds %+v", left[0])
	}
	// Neither of the pages before comes out of a cache.
	for range 2 {
		b.back()
		b.shows(200, 200, "Username")
	}
	b.shows(b.visit("/orders"), 200, "Sign in")
}
