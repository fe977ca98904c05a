package login_test

import (
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/sessions/login"
)

// title is of the window.
func title(a answer) string {
	_, rest, _ := strings.Cut(a.body, "<title>")
	text, _, _ := strings.Cut(rest, "</title>")
	return text
}

func (a answer) has(t *testing.T, what string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			t.Errorf("%s: no %s in %s", what, text, a.body[max(0, strings.Index(a.body, "<body>")):])
		}
	}
}

// TestBasePath: the address that people type leads to the login page.
func TestBasePath(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/.auth", "/.auth/"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			a := r.at(path, request{method: method})
			r.want(path, a, http.StatusSeeOther)
			if a.Header.Get("Location") != "/.auth/login" {
				t.Errorf("%s leads to %q", path, a.Header.Get("Location"))
			}
		}
		r.want("POST "+path, r.at(path, request{method: http.MethodPost}), http.StatusMethodNotAllowed)
	}
	for _, path := range []string{"/", "/.auth//", "/.authx", "/x"} {
		r.want(path, r.at(path, request{}), http.StatusNotFound)
	}
}

// TestTitles: the title of the window says what has happened.
func TestTitles(t *testing.T) {
	r := newRig(t)
	id := r.signIn("ada", "")
	r.signIn("ada", "")
	for want, a := range map[string]answer{
		"Sign in · Coatcheck":                                      r.send("login", request{}),
		"Wrong password · Sign in · Coatcheck":                     r.send("login", request{form: credentials("eve", "x")}),
		"Signed out · Sign in · Coatcheck":                         r.send("login?signed_out=1", request{}),
		"Signed in as Ada · Coatcheck":                             r.send("login", request{id: id}),
		"Where you are signed in · Coatcheck":                      r.send("sessions", request{id: id}),
		"Browser signed out · Where you are signed in · Coatcheck": r.send("sessions?ended=one", request{id: id}),
		"Page not found · That did not work · Coatcheck":           r.send("nothing", request{}),
		"Falsches Passwort · Anmelden · Coatcheck":                 r.send("login", request{form: credentials("eve", "x"), header: http.Header{"Accept-Language": {"de"}}}),
	} {
		if got := title(a); got != want {
			t.Errorf("the title is %q, want %q", got, want)
		}
	}
	for range 5 {
		r.wrong("bob", "192.0.2.4")
	}
	a := r.send("login", request{form: credentials("bob", "x"), from: "192.0.2.4"})
	if got := title(a); got != "Too many attempts · Sign in · Coatcheck" || strings.Contains(a.body, `aria-invalid="true"`) {
		t.Errorf("an attempt too many: %s", a.body)
	}
}

// TestInvalid: a screen reader is told of both fields, and not of which is wrong.
func TestInvalid(t *testing.T) {
	r := newRig(t)
	for name := range map[string]bool{"ada": true, "eve": true} {
		a := r.send("login", request{form: credentials(name, "x")})
		if n := strings.Count(a.body, `aria-describedby="alert" aria-invalid="true"`); n != 2 {
			t.Errorf("%s: %d fields are invalid: %s", name, n, a.body)
		}
	}
	if a := r.send("login", request{}); strings.Contains(a.body, `aria-invalid="true"`) {
		t.Error("a form that is new is invalid")
	}
}

// TestAccount: who, what they may do and until when, each once.
func TestAccount(t *testing.T) {
	r := newRig(t)
	a := r.send("login", request{id: r.signIn("ada", "")})
	a.has(t, "ada", "<dt>Roles</dt><dd>staff, ops</dd>")
	if !regexp.MustCompile(`<dt>Until</dt><dd>(\d+ \w+ \d+, )?\d\d:\d\d UTC, or 30 minutes without use</dd>`).MatchString(a.body) {
		t.Errorf("no end: %s", a.body)
	}
	if n := strings.Count(a.body, "Signed in as Ada"); n != 2 { // title and heading
		t.Errorf("it says who %d times: %s", n, a.body)
	}
	r.users.users["eve"] = login.User{ID: "44", Username: "eve", Roles: strings.Split(strings.Repeat("r,", 30)+"last", ",")}
	if a := r.send("login", request{id: r.signIn("eve", "")}); !strings.Contains(a.body, "r, …</dd>") || strings.Contains(a.body, "last") {
		t.Errorf("of many roles: %s", a.body)
	}
	if a := r.send("login", request{id: r.signIn("bob", "")}); strings.Contains(a.body, "Roles") {
		t.Error("no roles are a row")
	}
	own := newRig(t, func(c *login.Config) { c.Texts = map[string]string{"title_account": "You are in"} })
	own.send("login", request{id: own.signIn("ada", "")}).has(t, "a heading of one's own", "<h1>You are in</h1>", "<p>Signed in as Ada</p>")
}

// TestButtons: no two buttons of the list are called the same, and none that signs out
// is the main one.
func TestButtons(t *testing.T) {
	r := newRig(t)
	id := r.signIn("ada", "")
	for range 3 {
		r.signIn("ada", "")
	}
	a := r.send("sessions", request{id: id})
	if quiet, all := strings.Count(a.body, `<button type="submit" class="quiet"`), strings.Count(a.body, "<button"); quiet != all || all != 5 {
		t.Errorf("%d of %d buttons are quiet", quiet, all)
	}
	a.has(t, "sessions", `<a class="button" href="/">Continue</a>`, ">Sign out here</button>", ">Firefox 143 on Linux</span>", ">Firefox 143 on Linux (2)<", ">Firefox 143 on Linux (4)<")
	names := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?s)<span id="s-([^"]+)">([^<]*)<.*?id="b-([^"]+)" aria-labelledby="b-([^"]+) s-([^"]+)">([^<]*)<`).FindAllStringSubmatch(a.body, -1) {
		if m[1] != m[3] || m[1] != m[4] || m[1] != m[5] {
			t.Errorf("a button is called by another: %q", m[1:])
		}
		names[m[6]+" "+m[2]] = true
	}
	if len(names) != 4 {
		t.Errorf("the buttons are called %v", names)
	}
	if a := r.send("sessions", request{id: id, header: http.Header{"Accept": {"application/json"}}}); strings.Contains(a.body, "(2)") || !strings.Contains(a.body, `"browser":"Firefox 143 on Linux"`) {
		t.Errorf("programs are told %s", a.body)
	}
}

// TestPlaceOnPage: the form says where one goes, also after a mistake.
func TestPlaceOnPage(t *testing.T) {
	r := newRig(t)
	r.send("login?rd=/reports%3Fq=1", request{}).has(t, "the form", ">To continue to /reports<", `value="/reports?q=1"`)
	form := credentials("ada", "x")
	form.Set("rd", "/reports")
	r.send("login", request{form: form}).has(t, "after a mistake", ">To continue to /reports<")
	for _, rd := range []string{"/", "//evil.example", "https://evil.example/reports", "/call-us-0800-1234567"} {
		if a := r.send("login?rd="+url.QueryEscape(rd), request{}); strings.Contains(a.body, "To continue") {
			t.Errorf("%s: %s", rd, a.body)
		}
	}
}

// TestLinks: to help, and to where passwords are changed.
func TestLinks(t *testing.T) {
	r := newRig(t, func(c *login.Config) {
		c.HelpURL, c.PasswordURL = "https://help.example.com/a?b=c&d", "/account/pass wört"
	})
	id := r.signIn("ada", "")
	const help, change = `<a href="https://help.example.com/a?b=c&amp;d">Trouble signing in?</a>`, `>Change password</a>`
	r.send("login", request{}).has(t, "login", help)
	r.send("x", request{}).has(t, "404", help)
	r.send("login", request{id: id}).has(t, "account", change)
	r.send("sessions", request{id: id}).has(t, "sessions", change)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		a := r.at("/.well-known/change-password", request{method: method})
		r.want("well-known", a, http.StatusSeeOther)
		if a.Header.Get("Location") != "/account/pass%20w%C3%B6rt" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("it leads to %v", a.Header)
		}
	}
	r.want("POST", r.at("/.well-known/change-password", request{method: http.MethodPost}), http.StatusMethodNotAllowed)
	without := newRig(t)
	r.want("without", without.at("/.well-known/change-password", request{}), http.StatusNotFound)
	if a := without.send("login", request{}); strings.Contains(a.body, "Trouble") {
		t.Error("a link that leads nowhere")
	}
}

// TestLinksRefused: what is no page, or would show a password to all.
func TestLinksRefused(t *testing.T) {
	r := newRig(t)
	for _, link := range []string{
		"javascript:alert(1)", "data:text/html,x", "mailto:help@example.com", "help", "//evil.example/x", `/\evil.example`, "https://", "https:/x", "https:x",
		"https://ada:canary@example.com/", "https://example.com/\n", "/a\nb", "ftp://example.com/", " /x", "https://exa mple.com/", "/.well-known/change-password", "/.well-known/change-password?x",
	} {
		c := r.config
		c.Metrics = nil
		c.PasswordURL = link
		_, err := login.New(c)
		if err == nil || !strings.Contains(err.Error(), "password URL: ") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", link, err)
		}
		c.PasswordURL, c.HelpURL = "", link
		if _, err := login.New(c); err == nil || !strings.Contains(err.Error(), "help URL: ") {
			t.Errorf("%q: %v", link, err)
		}
	}
	for _, link := range []string{"/", "/help", "/help?a=b#c", "http://localhost:8000/x", "https://[::1]/x", "https://example.com", "/hilfe-für-alle", "https://other.example/.well-known/change-password"} {
		c := r.config
		c.Metrics, c.PasswordURL, c.HelpURL = nil, link, link
		if _, err := login.New(c); err != nil {
			t.Errorf("%q: %v", link, err)
		}
	}
}

// TestProblemLanguage: the text of a refusal for programs is in their language, and what
// programs go by is not.
func TestProblemLanguage(t *testing.T) {
	r := newRig(t)
	for accept, want := range map[string]string{"": "You are not signed in.", "fr-CA": "Aucune session n’est ouverte."} {
		a := r.send("session", request{header: http.Header{"Accept-Language": {accept}}})
		a.has(t, accept, `"detail":"`+want+`","code":"not_signed_in"`, `"title":"Unauthorized"`)
		if a.Header.Get("Vary") != "Accept-Language" || a.Header.Get("Content-Language") == "" {
			t.Errorf("%s: %v", accept, a.Header)
		}
	}
	id := r.signIn("ada", "")
	if a := r.send("session", request{id: id, header: http.Header{"Accept-Language": {"fr"}}}); a.Header.Get("Content-Language") != "" {
		t.Errorf("an answer without texts is in %s", a.Header.Get("Content-Language"))
	}
}

// TestMarkupInEachLanguage parses every page in every language.
func TestMarkupInEachLanguage(t *testing.T) {
	r := newRig(t, func(c *login.Config) { c.HelpURL, c.PasswordURL = "/help", "/password" })
	id := r.signIn("ada", "")
	r.signIn("ada", "")
	for _, tag := range []string{"en", "de", "pt", "es", "fr"} {
		in := http.Header{"Accept-Language": {tag}}
		for name, a := range map[string]answer{
			"login": r.send("login?rd=/x", request{header: in}), "wrong": r.send("login", request{form: credentials("zoe", "x"), header: in}), "account": r.send("login", request{id: id, header: in}),
			"logout": r.send("logout", request{id: id, header: in}), "sessions": r.send("sessions", request{id: id, header: in}), "404": r.send("x", request{header: in}), "signed out": r.send("login?signed_out=1", request{header: in}),
		} {
			t.Run(tag+"/"+name, func(t *testing.T) {
				a.has(t, name, `<html lang="`+tag+`">`)
				if strings.ContainsAny(a.body[strings.Index(a.body, "</style>"):], "{}") {
					t.Errorf("a value is missing: %s", a.body)
				}
				checkMarkup(t, a)
			})
		}
	}
}

// TestOldTemplates: templates that operators wrote for the pages as they were, with all
// their names, in testdata, still show every page.
func TestOldTemplates(t *testing.T) {
	r := newRig(t, func(c *login.Config) { c.Templates = os.DirFS("testdata/templates") })
	id := r.signIn("ada", "")
	r.signIn("ada", "")
	for want, a := range map[string]answer{
		"<title>Sign in · Coatcheck</title>":              r.send("login?rd=/reports", request{}),
		">Wrong username or password.</p>":                r.send("login", request{form: credentials("eve", "x")}),
		"<p>Signed in as Ada</p>":                         r.send("login", request{id: id}),
		">Sign out this browser</button>":                 r.send("logout", request{id: id}),
		`aria-describedby="s-` + id.Key().Handle() + `">`: r.send("sessions", request{id: id}),
		">There is no such page.</p>":                     r.send("x", request{}),
		">Passwort</label>":                               r.send("login", request{header: http.Header{"Accept-Language": {"de"}}}),
	} {
		a.has(t, want, want)
		checkMarkup(t, a)
	}
}
