package sessions_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions"
)

func TestIsLocalPath(t *testing.T) {
	for s, want := range map[string]bool{
		"/": true, "/a?b=c#d": true, "/a//b": true, "/@host": true, "/%2f/host": true, "/%5chost": true, "/a b": true, "/ö": true, "/\xff": true, "/a?u=//host": true,
		"": false, "a": false, "?a": false, "//host": false, "///host": false, `/\host`: false, `\/host`: false, `/a\b`: false, `/a?b=\`: false,
		"/\t/host": false, "/\n/host": false, "\t//host": false, " //host": false, "/a\x00": false, "/a\x7f": false, "https://host": false, "javascript:1": false,
	} {
		if got := sessions.IsLocalPath(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// FuzzIsLocalPath: neither a browser nor net/url leaves the origin for a local path.
func FuzzIsLocalPath(f *testing.F) {
	for _, s := range []string{"/", "/a?b#c", "//host", `/\host`, "/\t/host", " //host", "/a/..//host", "/.//host", "https:host", "https:/host", `/a?\\host`, "/\x00/host"} {
		f.Add(s)
	}
	const own = "https://own.example"
	base, err := url.Parse(own + "/page")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !sessions.IsLocalPath(s) {
			return
		}
		if origin := testtools.BrowserOrigin(own, s); origin != own {
			t.Fatalf("a browser takes %q for %s", s, origin)
		}
		if u, err := base.Parse(s); err == nil && u.Scheme+"://"+u.Host != own {
			t.Fatalf("net/url takes %q for %v", s, u)
		}
		if strings.ContainsAny(s, "\r\n") {
			t.Fatalf("%q would end a header", s)
		}
	})
}
