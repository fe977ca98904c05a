package login

import (
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions"
)

const ownOrigin = "https://login.example"

func returning() *Handler {
	return &Handler{config: Config{BasePath: "/.auth/", ReturnOrigins: []string{"https://app.example.com", "http://localhost:3000", "http://[::1]:8080"}}}
}

func TestReturn(t *testing.T) {
	h := returning()
	for rd, want := range map[string]string{
		"/": "/", "/a": "/a", "/a/b?c=d&e=%2f#f": "/a/b?c=d&e=%2f#f", "/@evil.example": "/@evil.example", "/a//b": "/a//b",
		"/a?next=https://evil.example/": "/a?next=https://evil.example/", "/%2f/evil.example": "/%2f/evil.example",
		"/a b": "/a%20b", "/ö": "/%C3%B6", "/\xff": "/%FF", "/.auth/sessions": "/.auth/sessions", "/.auth/logout": "/.auth/logout", "/.auth/logins": "/.auth/logins",
		"https://app.example.com": "https://app.example.com", "https://app.example.com/": "https://app.example.com/",
		"https://app.example.com//evil.example/x?y": "https://app.example.com//evil.example/x?y",
		"http://localhost:3000/x":                   "http://localhost:3000/x", "http://[::1]:8080/x": "http://[::1]:8080/x",
	} {
		if got := h.returnTo(rd); got != want {
			t.Errorf("%q leads to %q, want %q", rd, got, want)
		}
	}
	for _, rd := range append(evilReturns(),
		"/.auth/login", "/.auth/login?rd=/x", "/.auth/login#x", "/.auth/./login", "/x/../.auth/login", "/.auth//login", "/.auth/%6cogin", "/.auth/login/", "/.AUTH/Login",
	) {
		if got := h.returnTo(rd); got != "/" {
			t.Errorf("%q leads to %q, want /", rd, got)
		}
	}
	if got := h.returnTo("/" + strings.Repeat("a", sessions.MaxReturn-1)); len(got) != sessions.MaxReturn {
		t.Error("an address of 2 KiB is too long")
	}
}

// evilReturns are what has led elsewhere in other programs.
func evilReturns() []string {
	evil := []string{
		"", "x", "x/y", "?x", "#x", ".", "..", "login", "javascript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd",
		"https:evil.example", "https:/evil.example", "https:///evil.example", "HTTPS://evil.example", "//evil.example", "///evil.example", "////evil.example",
		`/\evil.example`, `\\evil.example`, `\/evil.example`, `/\/evil.example`, `/a\b`, "/\t/evil.example", "/\n/evil.example", "/\r/evil.example", "\t//evil.example",
		" //evil.example", " /a", "\x00/a", "/a\x00", "/a\r\nSet-Cookie: x=y", "/\x7f", "/" + strings.Repeat("a", sessions.MaxReturn),
		"https://login.example/", "https://evil.example", "https://evil.example/https://app.example.com/",
		"https://app.example.com.evil.example", "https://app.example.com.evil.example/", "https://app.example.com@evil.example/", "https://app.example.com:443@evil.example/",
		"https://app.example.com:8443/", "https://app.example.com:/", "https://app.example.com%2eevil.example/", "https://app.example.comx/",
		"https://user@app.example.com/", "http://app.example.com/", "//app.example.com/", "https://APP.example.com/", "https://xapp.example.com/",
		"https://app.example.com?x", "https://app.example.com#x", `https://app.example.com\@evil.example`, `https://app.example.com/\`, "https://app.example.com\t/", "https://app.example.com./",
		"http://localhost:30000/", "http://localhost/", "http://localhost:3000@evil.example/", " https://app.example.com/", "https://app.example.com /",
	}
	for _, host := range []string{"evil.example", "app.example.com", "login.example", "[::1]", "%65vil.example", "evil。example", "login.example@evil.example", "127.1", "0x7f000001"} {
		for _, start := range []string{"//", "///", `/\`, `\\`, "/\t/", "\n//", " //", "http:", "http:/", `https:\\`, "https:///", "ftp://", "ws://", "blob:https://", "view-source:https://", "intent://"} {
			for _, end := range []string{"", "/", "/..", "?", "#", ":443", "/%2e%2e"} {
				evil = append(evil, start+host+end)
			}
		}
	}
	return evil
}

func FuzzReturn(f *testing.F) {
	h := returning()
	for _, rd := range evilReturns() {
		f.Add(rd)
	}
	for _, rd := range []string{"/", "/a?b#c", "https://app.example.com/x", "http://[::1]:8080//x", "/.auth/%6Cogin", "/.//x", "/..//x", "/%09/x"} {
		f.Add(rd)
	}
	f.Fuzz(func(t *testing.T, rd string) {
		got := h.returnTo(rd)
		for i := range len(got) {
			if got[i] <= ' ' || got[i] >= 0x7f || got[i] == '\\' {
				t.Fatalf("%q leads to %q, which is not fit for a header", rd, got)
			}
		}
		if len(rd) > sessions.MaxReturn && got != "/" || len(got) > 3*sessions.MaxReturn {
			t.Fatalf("%d bytes lead to %d", len(rd), len(got))
		}
		for what, origin := range map[string]string{"net/url": netURLOrigin(t, got), "a browser": testtools.BrowserOrigin(ownOrigin, got), "a browser, as it came": testtools.BrowserOrigin(ownOrigin, rd)} {
			if what == "a browser, as it came" && got == "/" {
				continue // it was ignored
			}
			if origin != ownOrigin && origin != "https://app.example.com" && origin != "http://localhost:3000" && origin != "http://[::1]:8080" {
				t.Fatalf("%q leads to %q, which %s takes for %q", rd, got, what, origin)
			}
		}
		if len(got) <= sessions.MaxReturn && h.returnTo(got) != got {
			t.Fatalf("%q leads to %q, and that to %q", rd, got, h.returnTo(got))
		}
		if u, err := url.Parse(got); err == nil && u.Host == "" && u.Path == "/.auth/login" {
			t.Fatalf("%q leads to the login page", rd)
		}
	})
}

// netURLOrigin is where net/url resolves a Location from the login page.
func netURLOrigin(t *testing.T, location string) string {
	base, _ := url.Parse(ownOrigin + "/.auth/login")
	u, err := base.Parse(location)
	if err != nil {
		if strings.Contains(err.Error(), "invalid URL escape") {
			return ownOrigin // of a path; browsers take it as it stands
		}
		t.Fatalf("%q: %v", location, err)
	}
	if u.User != nil || u.Opaque != "" {
		return "a user or an opaque part"
	}
	return u.Scheme + "://" + u.Host
}

func TestValidateOrigin(t *testing.T) {
	for origin, good := range map[string]bool{
		"https://app.example.com": true, "http://localhost:3000": true, "http://127.0.0.1:8080": true, "http://[::1]:8080": true, "https://[2001:db8::1]": true, "https://xn--ls8h.example": true,
		"": false, "app.example.com": false, "https://": false, "https://App.example.com": false, "https://app.example.com/": false, "https://app.example.com/x": false,
		"https://*.example.com": false, "https://user@app.example.com": false, "https://app.example.com:": false, "https://app.example.com:0": false, "https://app.example.com:08": false,
		"https://app.example.com:70000": false, "ftp://app.example.com": false, "https://ö.example": false, "https://a b": false, "https://[::1": false, "https://[0:0::1]": false,
		"https://[fe80::1%25eth0]": false, "https://a;b": false, "https://a'": false, "https://a?x": false, "https://a#x": false, "null": false,
	} {
		if err := validateOrigin(origin); (err == nil) != good {
			t.Errorf("%q: %v", origin, err)
		}
	}
}
