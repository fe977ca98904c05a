package extauthz_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/page"
)

// What browsers send with a navigation: over https or to localhost, and over plain http.
var (
	navigation = []string{"accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "sec-fetch-site: none", "sec-fetch-mode: navigate", "sec-fetch-dest: document"}
	plainHTTP  = navigation[:1]
)

// refused are servers and requests that are refused, by the status.
func refused(t *testing.T, config extauthz.Config, withPolicies bool) map[int]func(request string, lines ...string) answer {
	t.Helper()
	ask := func(s extauthz.Sessions, path string, extensions map[string]string, own ...string) func(string, ...string) answer {
		server, err := extauthz.New(s, config)
		if err == nil && withPolicies {
			err = server.SetPolicies(extauthz.PolicySet{})
		}
		if err != nil {
			t.Fatal(err)
		}
		return func(method string, lines ...string) answer {
			return ask(t, server, check{request: method + " " + path, lines: slices.Concat(own, lines), extensions: extensions})
		}
	}
	return map[int]func(string, ...string) answer{
		400: ask(&fake{}, "/a;b", nil),
		401: ask(&fake{}, "/a?b=1", nil),
		403: ask(&fake{session: ada}, "/a?b=1", map[string]string{"coatcheck.roles": "auditor"}, signedIn...),
		503: ask(&fake{err: errors.New("no route to host")}, "/a?b=1", nil, signedIn...),
	}
}

// TestPage: a person who is refused sees a page of the product, with or without
// policies, in the language of the browser; it does not say why, or who is signed in.
func TestPage(t *testing.T) {
	titles := make(map[string]bool)
	for _, policies := range []bool{false, true} {
		for status, ask := range refused(t, extauthz.Config{}, policies) {
			for _, lang := range page.Languages {
				for _, lines := range [][]string{navigation, plainHTTP} {
					for _, method := range []string{"GET", "HEAD", "POST"} {
						a := ask(method, append([]string{"accept-language: " + lang + "-XX," + lang + ";q=0.9,en;q=0.8", "x-request-id: 1-2-3"}, lines...)...)
						titles[look(t, a, status, lang)] = true
						if want := fmt.Sprintf(" <code>1-2-3</code></p>\n<p class=\"status\" lang=\"en\">%d ", status); !strings.Contains(a.body, want) {
							t.Errorf("%d %s: no %q", status, lang, want)
						}
					}
				}
			}
		}
	}
	if len(titles) != 4*len(page.Languages) {
		t.Errorf("%d titles: %v", len(titles), titles)
	}
}

var titled = regexp.MustCompile(`<title>(.*) · Coatcheck</title>[^$]*<main>[^$]*<h1>(.*)</h1>\n<p>(.+)</p>`)

// look holds a page to what holds for all, and returns its title.
func look(t *testing.T, a answer, status int, lang string) string {
	t.Helper()
	parts := titled.FindStringSubmatch(a.body)
	if a.status != status || parts == nil || parts[1] != parts[2] || !strings.HasPrefix(a.body, "<!doctype html>\n<html lang=\""+lang+"\">") {
		t.Fatalf("%d %s: %d %s", status, lang, a.status, a.body)
	}
	_, style, _ := strings.Cut(a.body, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
	for name, want := range map[string]string{
		"content-type": htmlType, "content-language": lang, "content-security-policy": policy, "x-content-type-options": "nosniff",
		"vary": "accept, accept-language, cookie, sec-fetch-dest, sec-fetch-mode", "cache-control": "no-store",
		"retry-after": map[int]string{503: "1"}[status], "www-authenticate": map[int]string{401: "Session"}[status],
	} {
		if a.set[name] != want {
			t.Errorf("%d %s: %s is %q, want %q", status, lang, name, a.set[name], want)
		}
	}
	for _, no := range []string{"<script", "style=", "Ada", "Löwe", "42", "auditor", "no route", a.reason, liveID.Reveal(), liveID.Key().Handle()} {
		if strings.Contains(a.body, no) && no != "" {
			t.Errorf("%d %s: the page says %q", status, lang, no)
		}
	}
	if !utf8.ValidString(a.body) || len(a.body) > 8<<10 {
		t.Errorf("%d %s: %d bytes", status, lang, len(a.body))
	}
	return parts[1]
}

// TestPagesAreForPeople: programs get a text, as they always did.
func TestPagesAreForPeople(t *testing.T) {
	for status, ask := range refused(t, extauthz.Config{}, false) {
		for name, lines := range map[string][]string{
			"curl": {"accept: */*"}, "bare": nil, "fetch": {"accept: */*", "sec-fetch-mode: cors", "sec-fetch-dest: empty"},
			"fetch of HTML": {"accept: text/html", "sec-fetch-mode: cors", "sec-fetch-dest: empty"}, "an image": {"accept: image/png,*/*;q=0.8", "sec-fetch-mode: no-cors", "sec-fetch-dest: image"},
			"a frame, in which the page would not show": {navigation[0], "sec-fetch-mode: navigate", "sec-fetch-dest: iframe"}, "JSON": {"accept: application/json"}, "no HTML": {"accept: text/html;q=0, */*"},
		} {
			a := ask("GET", append([]string{"accept-language: de"}, lines...)...)
			want := map[int]string{400: "The request makes no sense.\n", 401: "Sign in to continue.\n", 403: "You may not do this.\n", 503: "Try again in a moment.\n"}[status]
			if a.status != status || a.body != want || a.set["content-type"] != plainType || a.set["content-language"]+a.set["vary"] != "" {
				t.Errorf("%s: %d %q %v", name, a.status, a.body, a.set)
			}
		}
		if a := ask("POST", append([]string{"content-type: application/grpc"}, navigation...)...); a.status != status || a.body != "" || a.set["content-type"] != "" {
			t.Errorf("gRPC: %d %q", a.status, a.body)
		}
	}
}

// TestPageLinks: each leads to this host or to the login URL, and only where it helps.
func TestPageLinks(t *testing.T) {
	const back, again = "<Back to the start page /> ", "<Try again > "
	servers := map[string]*extauthz.Server{
		"":          policed(t, &fake{session: ada}, extauthz.Config{}, extauthz.PolicySet{}),
		"login":     policed(t, &fake{session: ada}, extauthz.Config{LoginURL: "/in?x=\"'&y"}, extauthz.PolicySet{Policies: []extauthz.Policy{{Name: "own", Origins: []string{}}}}),
		"elsewhere": policed(t, &fake{session: ada}, extauthz.Config{LoginURL: "https://id.example/in"}, extauthz.PolicySet{}),
		"down":      policed(t, &fake{err: errors.New("down")}, extauthz.Config{LoginURL: "/in"}, extauthz.PolicySet{}),
	}
	admin := map[string]string{"coatcheck.roles": "admin"}
	for _, test := range []struct {
		server, request string
		extensions      map[string]string
		lines           []string
		status          int
		want            string
	}{
		{"", "GET /a", nil, nil, 401, back}, {"", "GET /", nil, nil, 401, ""}, {"", "GET /?a", nil, nil, 401, ""}, {"", "GET /a", admin, signedIn, 403, back},
		{"login", "POST /a", nil, nil, 401, `<Sign in /in?x="'&y&rd=%2F> ` + back},
		{"login", "GET /a?b=%22", admin, signedIn, 403, back + `<Use another account /in?x="'&y&rd=%2Fa%3Fb%3D%2522> `},
		{"login", "GET /", admin, signedIn, 403, `<Use another account /in?x="'&y&rd=%2F> `}, {"login", "POST /a", admin, signedIn, 403, back + `<Use another account /in?x="'&y&rd=%2F> `},
		{"login", "GET //evil.example/", admin, signedIn, 400, back}, {"login", "GET /a\\b", nil, signedIn, 400, back},
		{"login", "GET /a", map[string]string{"coatcheck.role": "admin"}, signedIn, 403, back},                                  // a fault of the route, for all accounts
		{"login", "POST /a", map[string]string{"coatcheck.policy": "own"}, []string{"origin: https://evil.example"}, 403, back}, // before any lookup
		{"elsewhere", "GET /a", admin, signedIn, 403, back + "<Use another account https://id.example/in?rd=%2Fa> "},
		{"down", "GET /a", nil, signedIn, 503, again + back}, {"down", "POST /a", nil, signedIn, 503, back}, {"down", "GET /", nil, signedIn, 503, again},
	} {
		a := ask(t, servers[test.server], check{request: test.request, extensions: test.extensions, lines: slices.Concat(navigation, test.lines)})
		var got strings.Builder
		for _, l := range regexp.MustCompile(`<a [^>]*href="([^"]*)">([^<]*)</a>`).FindAllStringSubmatch(a.body, -1) {
			fmt.Fprintf(&got, "<%s %s> ", l[2], html.UnescapeString(l[1]))
		}
		if a.status != test.status || got.String() != test.want || strings.Count(a.body, "<a ") != strings.Count(test.want, "> ") {
			t.Errorf("%s %s: %d %s, want %s", test.server, test.request, a.status, got.String(), test.want)
		}
	}
}

// TestPageConfig: name and colour are the operator's, and so is the language for
// browsers that ask for none of ours.
func TestPageConfig(t *testing.T) {
	only := []string{"de", "fr"}
	for _, test := range []struct {
		lang         string
		languages    []string
		accept, want string
	}{
		{"pt", nil, "", "pt"}, {"pt", nil, "it", "pt"}, {"pt", nil, "en", "en"}, {"pt-BR", nil, "it", "pt"}, {"DE-at", nil, "", "de"}, {"", nil, "nl,fr;q=0.1", "fr"},
		{"nl", nil, "", "en"}, {"nl", nil, "de", "en"}, {"nl", only, "de", "de"}, {"", only, "fr", "fr"}, {"", only, "pt", "en"}, {"fr", only, "en", "fr"},
	} {
		config := extauthz.Config{Page: extauthz.PageConfig{Name: "R & <D>", Accent: "#ffffff", Lang: test.lang, Languages: test.languages}}
		a := refused(t, config, false)[401]("GET", append([]string{"accept-language: " + test.accept}, navigation...)...)
		if a.set["content-language"] != test.want || !strings.Contains(a.body, " · R &amp; &lt;D&gt;</title>") || !strings.Contains(a.body, "--accent:#ffffff;--on-accent:#000000") {
			t.Errorf("%+v: %s %.400s", test, a.set["content-language"], a.body)
		}
	}
	for _, c := range []extauthz.PageConfig{{Accent: "green"}, {Name: strings.Repeat("a", 2000)}, {Languages: []string{"en", "it"}}, {Languages: []string{"pt-BR"}}} {
		if _, err := extauthz.New(&fake{}, extauthz.Config{Page: c}); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	a := refused(t, extauthz.Config{Page: extauthz.PageConfig{Name: "a\xff"}}, false)[403]("GET", navigation...)
	if _, err := proto.Marshal(a.response); err != nil || !utf8.ValidString(a.body) {
		t.Errorf("a name that is not UTF-8: %v", err)
	}
}

// TestPageSentences: a policy's sentence stands in for ours in every language.
func TestPageSentences(t *testing.T) {
	server := policed(t, &fake{session: ada}, extauthz.Config{}, extauthz.PolicySet{Refusal: extauthz.Refusal{Forbidden: "Ask <Ada>."}})
	a := ask(t, server, check{request: "GET /", extensions: map[string]string{"coatcheck.roles": "x"}, lines: slices.Concat(navigation, signedIn, []string{"accept-language: de"})})
	if !strings.Contains(a.body, "<h1>Zugriff verweigert</h1>\n<p>Ask &lt;Ada&gt;.</p>") {
		t.Error(a.body)
	}
}

// TestLongLanguages: a long header is read as far as it is kept, and a range that is
// cut off does not count.
func TestLongLanguages(t *testing.T) {
	ask := refused(t, extauthz.Config{}, false)[401]
	for _, test := range []struct {
		lines []string
		want  string
	}{
		{[]string{strings.Repeat("x", 125) + ",de"}, "en"}, {[]string{strings.Repeat("xxxxxxx,", 14) + "de;q=0.1,fr;q=0.01"}, "de"}, {[]string{strings.Repeat("xxxxxxx,", 15) + "de;q=0.5"}, "en"},
		{[]string{"xx", "de"}, "de"}, {[]string{"xx" + strings.Repeat(",", 200), "de"}, "en"}, {[]string{strings.Repeat("\xff", 300)}, "en"}, {[]string{strings.Repeat("x", 127), "", "de"}, "en"},
	} {
		lines := slices.Clone(navigation)
		for _, l := range test.lines {
			lines = append(lines, "accept-language: "+l)
		}
		if a := ask("GET", lines...); a.set["content-language"] != test.want {
			t.Errorf("%.80q: %s, want %s", test.lines, a.set["content-language"], test.want)
		}
	}
}

// TestLanguagesCostNothing: a check that passes does not pay for the language.
func TestLanguagesCostNothing(t *testing.T) {
	server := policed(t, &fake{session: ada}, extauthz.Config{}, extauthz.PolicySet{})
	allocations := func(lines ...string) float64 {
		m := check{request: "GET /", lines: slices.Concat(signedIn, lines)}.message()
		least := math.Inf(1)
		for range 5 { // pools forget, with the race detector at random
			least = min(least, testing.AllocsPerRun(50, func() { _, _ = server.Check(context.Background(), m) }))
		}
		return least
	}
	// The name of a header becomes bytes in this way of reading.
	with, without := allocations("accept-language: pt-BR,pt;q=0.9,en-US;q=0.8,en;q=0.7"), allocations("sec-fetch-user: ?1")
	if with > without {
		t.Errorf("%v allocations, %v without it", with, without)
	}
}

var (
	tag      = regexp.MustCompile(`<[^<>]*>`)
	ourWords = regexp.MustCompile(`href="[^"<>]*"|lang="(en|de|pt|es|fr)"`)
)

// FuzzPage: whatever a client sends, the page is UTF-8, short, and of the elements that
// it always has.
func FuzzPage(f *testing.F) {
	server, err := extauthz.New(&fake{session: ada}, extauthz.Config{LoginURL: "/login"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("GET", "/a", "1", "de", true)
	f.Add("POST", "/?\"><script>", "</code><script>\xff", "\xff;q=1,fr", true)
	f.Add("x", "//evil", strings.Repeat("'", 3000), strings.Repeat("a,", 300), false)
	shape := func(b string) string {
		_, b, _ = strings.Cut(b, "</style>")
		return strings.Join(tag.FindAllString(ourWords.ReplaceAllString(b, ""), -1), "")
	}
	known := make(map[string]bool)
	for _, request := range []string{"GET /", "GET /a", "POST /", "POST /a", "\x00 a", "\x00 /"} {
		for _, id := range []string{"", "1"} {
			for _, session := range [][]string{nil, signedIn} {
				c := check{request: request, lines: slices.Concat(navigation, session, []string{"x-request-id: " + id}), extensions: map[string]string{"coatcheck.roles": "x"}}
				known[shape(bodyOf(server, c))] = true
			}
		}
	}
	f.Fuzz(func(t *testing.T, method, path, id, languages string, session bool) {
		c := check{request: method + " " + path, lines: slices.Concat(navigation, []string{"x-request-id: " + id, "accept-language: " + languages}), extensions: map[string]string{"coatcheck.roles": "x"}}
		if session {
			c.lines = append(c.lines, signedIn...)
		}
		b := bodyOf(server, c)
		if b == "" { // a redirect
			return
		}
		if !utf8.ValidString(b) || len(b) > 32<<10 || !known[shape(b)] {
			t.Fatalf("%+v: %s", c, b)
		}
	})
}

func bodyOf(s *extauthz.Server, c check) string {
	response, _ := s.Check(context.Background(), c.message())
	return response.GetDeniedResponse().GetBody()
}
