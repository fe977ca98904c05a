package e2e_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestRefusalPages: through Envoy, which lets Accept-Language through, a person gets a
// page, a HEAD its headers alone, a program a line, and gRPC no body.
func TestRefusalPages(t *testing.T) {
	s := pages(t, rig.Options{})
	cookie, _ := login(t, manager(t, s, sessions.Config{}), ada)
	live, person, german := "Cookie: "+cookie, "Accept: text/html,*/*;q=0.8", "Accept-Language: de-CH, en;q=0.5"
	got := send(t, s, "GET /admin/a?b=1", live, person, german).is(t, 403)
	for _, want := range []string{`<html lang="de">`, "<h1>Zugriff verweigert</h1>", `href="/.auth/login?rd=%2Fadmin%2Fa%3Fb%3D1"`, "<code>"} {
		if !strings.Contains(got.body, want) {
			t.Errorf("the page lacks %s:\n%s", want, got.body)
		}
	}
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Content-Language": "de", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
		"Vary": "accept, accept-language, cookie, sec-fetch-dest, sec-fetch-mode",
	} {
		if values := got.header.Values(name); len(values) != 1 || values[0] != want {
			t.Errorf("%s: %q, want %q", name, values, want)
		}
	}
	head := send(t, s, "HEAD /admin/a?b=1", live, person, german).is(t, 403)
	if head.body != "" || head.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("HEAD: %q %v", head.body, head.header)
	}
	post := send(t, s, "POST /orders", "Content-Length: 0", person).is(t, 401)
	if !strings.Contains(post.body, `<a class="button" href="/.auth/login?rd=%2F">Sign in</a>`) || post.header.Get("WWW-Authenticate") != "Session" {
		t.Errorf("POST: %s", post.body)
	}
	if curl := send(t, s, "GET /admin", live, "Accept: */*", german).is(t, 403); curl.body != "You may not do this.\n" || curl.header.Get("Content-Length") != strconv.Itoa(len(curl.body)) {
		t.Errorf("curl: %q", curl.body)
	}
	if call := send(t, s, "POST /admin", live, person, "Content-Type: application/grpc", "Content-Length: 0"); call.body != "" {
		t.Errorf("gRPC: %q", call.body)
	}
}
