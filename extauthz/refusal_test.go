package extauthz_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz"
)

const (
	plainType = "text/plain; charset=utf-8"
	htmlType  = "text/html; charset=utf-8"
	jsonType  = "application/problem+json"
)

// TestBodies: each client is refused in the type that it names.
func TestBodies(t *testing.T) {
	for accept, want := range map[string]string{
		"": plainType, "*/*": plainType, "image/png": plainType, "text/*": plainType, "text/plain, text/html;q=0.9": plainType, ",;,": plainType, "text/html;q=0": plainType, "text/html;q=x": plainType, "text/html;q=2": plainType,
		"text/html": htmlType, "Text/HTML; charset=utf-8": htmlType, "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": htmlType, "application/xhtml+xml": htmlType, "application/json;q=0.5, text/html": htmlType,
		"application/json": jsonType, "application/problem+json": jsonType, "application/vnd.api+json": jsonType, "application/json, text/plain, */*": jsonType, "text/html;q=0.1,application/json;q=0.2": jsonType,
	} {
		server := policed(t, &fake{session: ada}, extauthz.Config{}, extauthz.PolicySet{})
		lines := []string{"x-request-id: r<1>"}
		if accept != "" {
			lines = append(lines, "accept: "+accept)
		}
		for request, status := range map[string]int{"GET /x": 401, "GET x": 400} {
			a := ask(t, server, check{request: request, lines: lines})
			if a.status != status || a.set["content-type"] != want {
				t.Errorf("%s %q: %d %s, want %s", request, accept, a.status, a.set["content-type"], want)
			}
			if html := strings.Contains(a.set["content-security-policy"], "default-src 'none'"); html != (want == htmlType) || (a.set["x-content-type-options"] == "nosniff") != html {
				t.Errorf("%q: headers are %v", accept, a.set)
			}
			if strings.Contains(a.body, "<1>") {
				t.Errorf("%q: not escaped: %s", accept, a.body)
			}
			if want == jsonType {
				var problem map[string]any
				if err := json.Unmarshal([]byte(a.body), &problem); err != nil || problem["status"] != float64(status) || problem["title"] == "" || problem["detail"] == "" || problem["request_id"] != "r<1>" {
					t.Errorf("%v: %s", err, a.body)
				}
			}
		}
		if a := ask(t, server, check{request: "GET /x", lines: append(lines, "content-type: application/grpc")}); a.status != 401 || a.body != "" || a.set["content-type"] != "" {
			t.Errorf("gRPC %q: %d %q", accept, a.status, a.body)
		}
		server, err := extauthz.New(&fake{}, extauthz.Config{})
		if err != nil {
			t.Fatal(err)
		}
		a := ask(t, server, check{request: "GET /x", lines: lines})
		if want == htmlType { // a browser: TestPage
			if a.set["content-type"] != htmlType || strings.Contains(a.body, "<1>") {
				t.Errorf("without policies %q: %.80q", accept, a.body)
			}
		} else if a.set["content-type"] != plainType || a.body != "Sign in to continue.\n" {
			t.Errorf("without policies %q: %q", accept, a.body)
		}
	}
}

// TestRefusalOverrides: a policy's own, else the policies', else the server's.
func TestRefusalOverrides(t *testing.T) {
	policies := extauthz.PolicySet{
		Refusal: extauthz.Refusal{Unauthenticated: "Please <sign in>.", HTML: "<p>{{.Status}} {{.Title}}: {{.Detail}}|{{.RequestID}}|<a href=\"{{.Login}}\">"},
		Policies: []extauthz.Policy{
			{Name: "plain", AnyRole: []string{"x"}},
			{Name: "own", AnyRole: []string{"x"}, Refusal: extauthz.Refusal{LoginURL: "https://id.example/in", Forbidden: "Ask </p> Ada.", Unauthenticated: "Own."}},
			{Name: "page", AnyRole: []string{"x"}, Refusal: extauthz.Refusal{HTML: "mine {{.Detail}}"}},
			{Name: "broken-page", AnyRole: []string{"x"}, Refusal: extauthz.Refusal{HTML: `{{if eq .Status 403}}{{index .Detail 9999}}{{end}}`}},
		},
	}
	server := policed(t, &fake{session: ada}, extauthz.Config{LoginURL: "/login"}, policies)
	html, navigate := "accept: text/html", "sec-fetch-mode: navigate"
	for _, test := range []struct {
		policy   string
		signedIn bool
		lines    []string
		status   int
		location string
		body     string
	}{
		{"plain", false, []string{navigate}, 302, "/login?rd=%2Fx", ""},
		{"own", false, []string{navigate}, 302, "https://id.example/in?rd=%2Fx", ""},
		{"plain", false, nil, 401, "", "Please <sign in>.\n"},
		{"own", false, nil, 401, "", "Own.\n"},
		{"plain", false, []string{html, "sec-fetch-mode: cors", `x-request-id: "><script>`}, 401, "",
			`<p>401 Unauthorized: Please &lt;sign in&gt;.|&#34;&gt;&lt;script&gt;|<a href="/login">`},
		{"plain", true, []string{html}, 403, "", `<p>403 Forbidden: You may not do this.||<a href="">`},
		{"own", true, []string{html}, 403, "", `<p>403 Forbidden: Ask &lt;/p&gt; Ada.||<a href="">`},
		{"page", true, []string{html}, 403, "", "mine You may not do this."},
		{"page", true, nil, 403, "", "You may not do this.\n"},
	} {
		lines := test.lines
		if test.signedIn {
			lines = append(lines[:len(lines):len(lines)], signedIn...)
		}
		a := ask(t, server, check{request: "GET /x", lines: lines, extensions: map[string]string{"coatcheck.policy": test.policy}})
		if a.status != test.status || a.set["location"] != test.location || a.body != test.body {
			t.Errorf("%+v: %d %q %q", test, a.status, a.set["location"], a.body)
		}
	}
	a := ask(t, server, check{request: "GET /x", lines: append([]string{html}, signedIn...), extensions: map[string]string{"coatcheck.policy": "broken-page"}})
	if a.status != 403 || !strings.HasPrefix(a.body, "<!doctype html>") {
		t.Errorf("a page that fails: %d %q", a.status, a.body)
	}
}
