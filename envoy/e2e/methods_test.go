package e2e_test

import (
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// spelled are all spellings of a word in upper and lower case.
func spelled(word string) []string {
	list := []string{""}
	for _, letter := range word {
		var longer []string
		for _, s := range list {
			longer = append(longer, s+strings.ToUpper(string(letter)))
			if lower := strings.ToLower(string(letter)); lower != string(letter) {
				longer = append(longer, s+lower)
			}
		}
		list = longer
	}
	return list
}

// TestMethods sends methods in every spelling over HTTP/2, which carries them all.
// Only the one in capitals reaches an upstream: on every kind of route, with rules
// that name methods and without rules.
func TestMethods(t *testing.T) {
	t.Parallel()
	ruled := extauthz.PolicySet{
		Policies: []extauthz.Policy{{Name: "admin", AnyRole: []string{"admin"}}, {Name: "signed-in"}, {Name: "open", Session: "none"}},
		Rules:    []extauthz.Rule{{PathPrefix: "/api", Methods: []string{"POST", "PUT", "PATCH", "DELETE"}, Policy: "admin"}, {PathPrefix: "/public", Policy: "open"}},
		Default:  "signed-in",
	}
	odd := []string{"", " ", "POST ", " POST", "PO ST", "P\u00d6ST", "POST\x00", "POST/1", "POST_", "GET,POST", "P0ST", "\u212a", strings.Repeat("A", 33), strings.Repeat("A", 5000)}
	for name, policies := range map[string]extauthz.PolicySet{"rules": ruled, "none": {}} {
		t.Run(name, func(t *testing.T) {
			d := startDeciding(t, policies, closingAtOnce, func(b *bootstrapv3.Bootstrap) {
				rig.AddRoute(b, prefix("/named"), map[string]string{"coatcheck.session": "none"})
			})
			cookie, _ := login(t, d.manager, sessions.NewSession{UserID: "42", Roles: []string{"staff"}})
			client := newH2(t, d.URL)
			try := func(method, target string) answer {
				t.Helper()
				got := client.send(t, method, "shop.example", target, []string{"cookie: " + cookie}, nil)
				if got.status == 0 {
					client = newH2(t, d.URL)
				}
				return got
			}
			for _, word := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
				for _, method := range sample(spelled(word), 1+len(word)/5*2) { // the first is in capitals
					for _, target := range []string{"/api/x", "/x", "/public", "/optional", "/named"} {
						got := try(method, target)
						if method != word && (got.sent != nil || got.status != 400) {
							t.Errorf("%s %s: %d, the upstream was sent %+v", method, target, got.status, got.sent)
						}
						if method == word && target == "/x" && (got.sent == nil || got.sent.Method != word) {
							t.Errorf("%s %s: %d, the upstream was sent %+v", method, target, got.status, got.sent)
						}
					}
				}
			}
			for _, method := range odd {
				for _, target := range []string{"/api/x", "/public"} {
					if got := try(method, target); got.sent != nil {
						t.Errorf("%q %s: %d, the upstream was sent %+v", method, target, got.status, got.sent)
					}
				}
			}
			if got := try("M-SEARCH", "/public"); got.sent == nil || got.sent.Method != "M-SEARCH" {
				t.Errorf("M-SEARCH: %d", got.status)
			}
		})
	}
}
