package browser_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// TestPages looks at every page in every state.
func TestPages(t *testing.T) {
	b := open(t, shop(t))
	b.visit("/.auth/login")
	b.look("login")
	b.kept("login", "light", 1280)
	b.shows(b.signIn("ida", "wrong"), 401, "Wrong username or password.")
	b.look("login-error")
	for range 4 {
		b.signIn("ida", "wrong")
	}
	b.shows(b.signIn("ida", password), 429, "Too many attempts")
	b.look("login-throttled")
	b.shows(b.visit("/.auth/nothing"), 404, "no such page")
	b.look("missing-404")

	b.visit("/.auth/login")
	b.signIn("ben", password)
	b.visit("/.auth/login?rd=/orders")
	b.look("account")
	b.kept("account", "light", 390)
	b.visit("/.auth/sessions")
	b.look("sessions-1")
	signInElsewhere(t, shop(t), "ben", firefox)
	signInElsewhere(t, shop(t), "ben", safari)
	signInElsewhere(t, shop(t), "ben", strings.Repeat("Unheard-of/1.0", 10))
	b.visit("/.auth/sessions")
	b.look("sessions-4")
	b.kept("sessions", "dark", 390)
	b.press(theOther)
	b.look("sessions-ended-one")
	b.press(`button[name="others"]`)
	b.look("sessions-ended-others")
	b.visit("/.auth/logout")
	b.look("logout")
	b.press("button:not(.quiet)")
	b.look("signed-out")
}

// look takes pictures of the page, and checks what holds for every page: on a
// phone it fits and fingers hit, text can be read in light and dark, and axe-core finds
// no barrier.
func (b *browser) look(name string) {
	b.Helper()
	backgrounds := make(map[string]string)
	for _, scheme := range []string{"light", "dark"} {
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		backgrounds[scheme] = value[string](b, "getComputedStyle(document.body).backgroundColor")
		if faint := value[[]string](b, faintText); len(faint) > 0 {
			b.Errorf("%s, %s: text that is hard to read: %q", name, scheme, faint)
		}
		act(b, chromedp.EmulateViewport(1280, 800))
		b.picture(name + "-1280-" + scheme)
		b.accessible(name + ", 1280 wide, " + scheme)
		act(b, chromedp.EmulateViewport(390, 740, chromedp.EmulateMobile, chromedp.EmulateTouch))
		b.picture(name + "-390-" + scheme)
		b.accessible(name + ", 390 wide, " + scheme)
	}
	if backgrounds["light"] == backgrounds["dark"] {
		b.Errorf("%s: light and dark are both %s", name, backgrounds["dark"])
	}
	act(b, chromedp.EmulateViewport(320, 640, chromedp.EmulateMobile, chromedp.EmulateTouch))
	if wrong := value[[]string](b, unfitForPhones); len(wrong) > 0 {
		b.Errorf("%s, on a phone: %q", name, wrong)
	}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
	act(b, chromedp.EmulateViewport(1280, 800))
}

// picture is of the whole page, as far as it goes down.
func (b *browser) picture(name string) { b.Helper(); b.shoot(pictures, name) }

func (b *browser) shoot(folder, name string) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(folder, name+".png"), act(b, chromedp.FullScreenshot(100)), 0o644); err != nil {
		b.Fatal(err)
	}
}

var keep = flag.Bool("keep", false, "write the pictures in kept, which are part of the repository, anew")

// kept shows a page as the repository keeps it: on a phone and on a desk, light or dark.
func (b *browser) kept(name, scheme string, width int64) {
	b.Helper()
	if !*keep {
		return
	}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	if width < 500 {
		act(b, chromedp.EmulateViewport(width, 760, chromedp.EmulateMobile, chromedp.EmulateTouch))
	} else {
		act(b, chromedp.EmulateViewport(width, 720))
	}
	b.shoot("kept", fmt.Sprintf("%s-%d-%s", name, width, scheme))
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
	act(b, chromedp.EmulateViewport(1280, 800))
}

// unfitForPhones lists what has to be scrolled sideways, what iOS zooms into
// when it gets the focus, and what is too small for a finger.
const unfitForPhones = `(() => {
	const wrong = []
	const width = document.documentElement.scrollWidth
	if (innerWidth !== 320 || width > innerWidth) wrong.push("it is " + width + " of " + innerWidth + " wide")
	for (const e of document.querySelectorAll("a, button, input:not([type=hidden])")) {
		const box = e.getBoundingClientRect(), what = e.id || e.textContent.trim()
		if (box.height < 40) wrong.push(what + " is " + box.height + " high")
		if (box.left < 0 || box.right > innerWidth) wrong.push(what + " is cut off")
		if (e.tagName === "INPUT" && parseFloat(getComputedStyle(e).fontSize) < 16) wrong.push(what + " is in small type")
	}
	return wrong
})()`

// faintText lists what has less contrast than WCAG 2.2 wants of text, 4.5 to 1.
const faintText = `(() => {
	const parse = s => s.match(/[\d.]+/g).map(Number)
	const light = c => c.slice(0, 3).map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0)
	const behind = e => { const c = parse(getComputedStyle(e).backgroundColor); return c[3] === 0 ? behind(e.parentElement) : c }
	const faint = []
	for (const e of document.querySelectorAll("body *")) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue
		const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x)
		const contrast = (a + .05) / (b + .05)
		if (contrast < 4.5) faint.push(e.textContent.trim() + ": " + contrast.toFixed(1))
	}
	return faint
})()`

// focused names what has the focus, and says if it cannot be seen that it has.
const focused = `(() => {
	const e = document.activeElement, style = getComputedStyle(e)
	const seen = e.matches(":focus-visible") && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2
	return (e.textContent.trim() || e.id) + (seen ? "" : ", which cannot be seen")
})()`

// TestKeyboard goes through everything without a mouse.
func TestKeyboard(t *testing.T) {
	b := open(t, shop(t))
	signInElsewhere(t, shop(t), "jo", firefox)
	b.visit("/orders")
	b.focus("username")
	b.keys("jo")
	b.tab("password")
	b.keys("wrong")
	b.enter()
	b.shows(401, 401, "Wrong username or password.")
	b.focus("password") // the name is there already
	b.keys(password)
	b.tab("Sign in")
	b.enter()
	b.at("/orders")

	b.visit("/.auth/login?rd=/orders?page=2")
	b.focus("Continue")
	b.enter()
	b.at("/orders?page=2")
	b.visit("/.auth/login")
	b.focus("Continue")
	b.tab("Sign out")
	b.tab("Where you are signed in")
	b.enter()
	b.at("/.auth/sessions")
	b.tab("Sign out here")
	b.tab("Sign out")
	b.tab("Continue")
	b.tab("Sign out everywhere else")
	b.enter()
	b.shows(200, 200, "All other browsers are signed out.")
	b.tab("Sign out here")
	b.tab("Continue")
	b.tab("Sign out this browser")
	b.enter()
	b.focus("Sign out this browser")
	b.enter()
	b.shows(200, 200, "You are signed out.")
	b.focus("username")
}

func (b *browser) keys(text string) { b.Helper(); act(b, chromedp.KeyEvent(text)) }

// enter presses the key where it leads to another page.
func (b *browser) enter() { b.Helper(); b.leads(chromedp.KeyEvent(kb.Enter)) }

// tab presses the key, which must lead there.
func (b *browser) tab(want string) { b.Helper(); b.keys(kb.Tab); b.focus(want) }

func (b *browser) focus(want string) {
	b.Helper()
	// autofocus takes effect when the page is painted.
	eventually(b.T, "the focus is not on "+want, func() bool { return value[string](b, focused) == want })
}

// TestAccessibility: what a screen reader is told.
func TestAccessibility(t *testing.T) {
	b := open(t, shop(t))
	b.visit("/.auth/login?rd=/orders")
	b.announces("RootWebArea: Sign in · Coatcheck", "main", "heading: Sign in", "link: Trouble signing in?", "textbox: Username", "textbox: Password", "button: Sign in")
	const wrong = "Wrong username or password."
	b.signIn("kim", "wrong")
	b.announces("RootWebArea: Wrong password · Sign in · Coatcheck", "alert", "textbox: Username ("+wrong+")", "textbox: Password ("+wrong+")")
	b.signIn("kim", password)
	signInElsewhere(t, shop(t), "kim", firefox)
	b.visit("/.auth/sessions")
	b.announces("heading: Where you are signed in", "list", "listitem", "button: Sign out Firefox 151 on Windows", "heading: Firefox 151 on Windows", "link: Change password")
	b.press(theOther)
	b.announces("status")
	if lang := value[string](b, "document.documentElement.lang"); lang != "en" {
		t.Errorf("the language is %q", lang)
	}
}

// announces fails the test unless the accessibility tree holds all of these:
// role, name and, in brackets, description.
func (b *browser) announces(want ...string) {
	b.Helper()
	call(b, accessibility.Enable, cdp.Empty{})
	var found []string
	for _, node := range call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if node.Ignored {
			continue
		}
		text := said(node.Role)
		if name := said(node.Name); name != "" {
			text += ": " + name
		}
		if description := said(node.Description); description != "" {
			text += " (" + description + ")"
		}
		found = append(found, text)
	}
	for _, want := range want {
		if !slices.Contains(found, want) {
			b.Errorf("at %s nothing is %q:\n%s", b.where(), want, strings.Join(found, "\n"))
		}
	}
}

func said(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	var text string
	_ = json.Unmarshal(v.Value, &text)
	return text
}

// TestKept: the pictures of the repository stay small.
func TestKept(t *testing.T) {
	files, err := filepath.Glob("kept/*.png")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d pictures, %v", len(files), err)
	}
	size := int64(0)
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > 1<<20 {
		t.Errorf("%d pictures have %d bytes", len(files), size)
	}
}
