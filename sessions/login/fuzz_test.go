package login

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/sessions"
)

// FuzzClientAddress: of X-Forwarded-For only what trusted proxies have appended counts.
// So a client changes nothing by what it sends itself, which stands further left, and a
// peer that is no trusted proxy changes nothing at all.
func FuzzClientAddress(f *testing.F) {
	for _, seed := range []string{"", "203.0.113.9", "203.0.113.9, 10.0.0.1", "[2001:db8::1%eth0]:443", "::ffff:203.0.113.9", "unknown", " , ,", "203.0.113.9:1", "0x7f.1", "\x00", "10.0.0.1,10.0.0.1,10.0.0.1"} {
		f.Add("10.0.0.1:5", seed, "198.51.100.7")
		f.Add("192.0.2.1:5", seed, "10.0.0.1")
	}
	f.Fuzz(func(t *testing.T, peer, forwarded, made string) {
		h := &Handler{config: Config{TrustedHops: 2, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
		ask := func(lines ...string) netip.Addr {
			return h.clientAddress(&http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": lines}})
		}
		got := ask(forwarded)
		if got.IsValid() && (got.Is4In6() || got.Zone() != "") {
			t.Fatalf("%q is not in its shortest form", got)
		}
		if want := forwardedPlainly(h, peer, forwarded); got != want {
			t.Fatalf("%q from %q: %v, want %v", forwarded, peer, got, want)
		}
		// Entries that the client has made up stand before those of two proxies.
		behind := "203.0.113.9, 10.0.0.7"
		if a, b := ask(behind), ask(made, forwarded, behind); a != b && !strings.Contains(made+forwarded, "\n") {
			t.Fatalf("%q before %q makes %v of %v", made, behind, b, a)
		}
		if strangers := (&http.Request{RemoteAddr: "192.0.2.1:5", Header: http.Header{"X-Forwarded-For": {forwarded}}}); h.clientAddress(strangers) != netip.MustParseAddr("192.0.2.1") {
			t.Fatalf("a stranger becomes %v by %q", h.clientAddress(strangers), forwarded)
		}
	})
}

// forwardedPlainly goes from the peer to the left, proxy by proxy.
func forwardedPlainly(h *Handler, peer, forwarded string) netip.Addr {
	at := parseAddress(peer)
	entries := strings.Split(forwarded, ",")
	slices.Reverse(entries)
	for i, entry := range entries {
		next := parseAddress(strings.TrimSpace(entry))
		if i == h.config.TrustedHops || !at.IsValid() || !h.config.TrustedProxies[0].Contains(at) || !next.IsValid() {
			break
		}
		at = next
	}
	return at
}

// FuzzAttempt: a body is refused, or it is an attempt with the values that the standard
// library reads there; its way back stays on this host, and an attempt that is worth the
// work has a name and a password of the allowed kinds.
func FuzzAttempt(f *testing.F) {
	for _, seed := range []string{
		"username=ada&password=x&rd=/app", "username=ada&username=bob&password=", "%zz", "a;b", "", "password=x", "username=a%00b&password=%ff", "rd=//evil.example&username=a&password=b",
		`{"username":"ada","password":"x"}`, `{"username":"ada","password":"x","return":"//evil.example"}`, `{"Username":"ada"}`, `{"username":"a","username":"b"}`, `{} {}`, `{"x":1}`, `[`, `null`, `{"bearer":true}`,
		`{"username":"` + strings.Repeat("a", 300) + `","password":"` + strings.Repeat("b", MaxPassword+1) + `"}`, `{"username":"\ud800","password":"x"}`,
	} {
		f.Add(seed, "application/x-www-form-urlencoded")
		f.Add(seed, "application/json; charset=utf-8")
		f.Add(seed, "text/plain")
	}
	h := returning()
	f.Fuzz(func(t *testing.T, body, kind string) {
		r := httptest.NewRequest(http.MethodPost, "/.auth/login?username=query&password=query", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		a, p := h.readAttempt(r)
		if (a == nil) == (p == nil) {
			t.Fatalf("%q: %v and %v", body, a, p)
		}
		if p != nil {
			return
		}
		username, password, ok := typedPlainly(body, a.json)
		if !ok || a.username != username || a.password != password {
			t.Fatalf("%q: %q %q, want %q %q, %v", body, a.username, a.password, username, password, ok)
		}
		if !strings.HasPrefix(a.location, "/") && !strings.HasPrefix(a.location, "http") || a.bearer {
			t.Fatalf("%q leads to %q", body, a.location)
		}
		if a.plausible() && (a.username == "" || len(a.username) > maxUsername || !utf8.ValidString(a.username) || a.password == "" ||
			len(a.password) > MaxPassword || strings.ContainsFunc(a.username, unicode.IsControl)) {
			t.Fatalf("%q is plausible", body)
		}
	})
}

// typedPlainly is what a client typed: of a form, or of JSON without unknown members.
func typedPlainly(body string, isJSON bool) (username, password string, ok bool) {
	if !isJSON {
		form, err := url.ParseQuery(body)
		return form.Get("username"), form.Get("password"), err == nil
	}
	var typed struct{ Username, Password string }
	err := json.Unmarshal([]byte(body), &typed) // which takes nothing behind it
	return typed.Username, typed.Password, err == nil
}

// FuzzEnding: a body names the sessions to be ended by one handle, or all others, and never
// both, in the values that the standard library reads there; a form that does so is taken.
func FuzzEnding(f *testing.F) {
	for _, seed := range []string{
		"handle=3fK9aBcDeFgH", "others=1", "others=", "handle=a&others=1", "handle=&others=1", "handle=a&handle=b", "", "%zz", "a;b", "handle=%ff", "handle=a&others=%00",
		`{"handle":"3fK9aBcDeFgH"}`, `{"others":true}`, `{"handle":"a","others":true}`, `{"others":false}`, `{"others":1}`, `{"Handle":"a"}`, `{"handle":"a"} {}`, `{"handle":"a","x":1}`, `null`, `[`, `{"handle":"a","handle":""}`,
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, body string, isJSON bool) {
		r := httptest.NewRequest(http.MethodPost, "/.auth/sessions?handle=query&others=1", strings.NewReader(body))
		r.Header.Set("Content-Type", map[bool]string{false: "application/x-www-form-urlencoded", true: "application/json"}[isJSON])
		handle, others, p := readEnding(r)
		wantHandle, wantOthers, ok := namedPlainly(body, isJSON)
		if p != nil {
			if handle != "" || others || ok && !isJSON && (wantHandle != "") != wantOthers {
				t.Fatalf("%q: %q %v with %v", body, handle, others, p)
			}
			return
		}
		if !ok || handle != wantHandle || others != wantOthers || (handle == "") != others {
			t.Fatalf("%q: %q %v, want %q %v, %v", body, handle, others, wantHandle, wantOthers, ok)
		}
		other := httptest.NewRequest(http.MethodPost, "/.auth/sessions", strings.NewReader(body))
		other.Header.Set("Content-Type", "text/plain")
		if _, _, p := readEnding(other); p == nil {
			t.Fatalf("%q is read as text", body)
		}
	})
}

// namedPlainly is what a body of the page of sessions names, as [typedPlainly] is for login.
func namedPlainly(body string, isJSON bool) (handle string, others, ok bool) {
	if !isJSON {
		form, err := url.ParseQuery(body)
		return form.Get("handle"), form.Get("others") != "", err == nil
	}
	var named struct {
		Handle string
		Others bool
	}
	err := json.Unmarshal([]byte(body), &named)
	return named.Handle, named.Others, err == nil
}

// FuzzOrigin: a post that a browser sends for another site is refused, with any headers; a
// port is said to be hidden only of a page of this very host; and what is logged of a host
// can hold neither an ID nor a line.
func FuzzOrigin(f *testing.F) {
	for _, seed := range [][3]string{
		{"shop.example", "https://shop.example", ""}, {"shop.example", "https://shop.example:8443", ""}, {"shop.example:80", "http://shop.example", ""}, {"shop.example", "http://shop.example", "same-origin"},
		{"shop.example", "null", ""}, {"shop.example", "https://evil.example", "cross-site"}, {"localhost:8080", "http://localhost:8080", ""}, {"[::1]:80", "http://[::1]:81", ""}, {"SHOP.example", "https://shop.example:1", ""},
		{"shop.example", "https://shop.example@evil.example", ""}, {"shop.example", "https://evil.example/shop.example:1", ""}, {"a b\n", "http://%41:1", "none"}, {"", "https://:8443", ""}, {"shop.example", "", "same-site"},
		{sessions.NewID().Reveal() + ".example", "http://x", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, host, origin, site string) {
		h := &Handler{config: Config{Logger: slog.New(slog.DiscardHandler)}, crossOrigin: http.NewCrossOriginProtection()}
		r := &http.Request{Method: http.MethodPost, Host: host, Header: http.Header{}, URL: new(url.URL)}
		for name, value := range map[string]string{"Origin": origin, "Sec-Fetch-Site": site} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		page, err := url.Parse(origin)
		p := h.checkOrigin(r)
		switch {
		case p == nil && (site != "" && site != "same-origin" && site != "none" || site == "" && origin != "" && (err != nil || page.Host != host)):
			t.Fatalf("%q from %q (%q) passes", host, origin, site)
		case p != nil && p.code == hiddenPort && (site != "" || err != nil || page.Port() == "" || !strings.EqualFold(page.Host, host+":"+page.Port()) && !strings.Contains(host, ":")):
			t.Fatalf("%q from %q (%q) is said to have a hidden port", host, origin, site)
		}
		if p := h.checkScheme(r); p != nil && !strings.HasPrefix(strings.ToLower(origin), "http:") {
			t.Fatalf("%q is plain http", origin)
		}
		said := hostText(host)
		if strings.ContainsFunc(said, func(r rune) bool { return r <= ' ' && said != "(not a host name)" || r > '~' }) || regexp.MustCompile(`[A-Za-z0-9_-]{43}`).MatchString(said) {
			t.Fatalf("%q is logged as %q", host, said)
		}
	})
}

// FuzzBrowserName: what the page of sessions calls a browser is short, on one line, and
// made of plain words, for any User-Agent.
func FuzzBrowserName(f *testing.F) {
	for _, seed := range []string{
		"", "curl/8.5", "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0", "okhttp/5.1", "<b>x</b>", "Firefox/99999999999999999999999999999999999999999999", "\u202eexe.txt", "Version/1 Safari/", "Edg/\n", "iPhone Chrome/",
	} {
		f.Add(seed)
	}
	pages, _, err := newPages(Config{}.withDefaults())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, userAgent string) {
		if len(userAgent) > sessions.MaxUserAgent {
			userAgent = userAgent[:sessions.MaxUserAgent] // as in a record
		}
		for language, p := range pages {
			name := p.browserName(userAgent)
			if name == "" || len(name) > 3*sessions.MaxUserAgent || strings.ContainsAny(name, "<>&\"\n\r\x00\u202e") || !utf8.ValidString(name) {
				t.Fatalf("%s: %q is called %q", language, userAgent, name)
			}
		}
	})
}
