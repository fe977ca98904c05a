package extauthz_test

import (
	"fmt"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/coatcheck/coatcheck/extauthz"
)

func peer(address, principal string) *authv3.AttributeContext_Peer {
	return &authv3.AttributeContext_Peer{Principal: principal, Address: &corev3.Address{
		Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1234}}},
	}}
}

func TestOrigins(t *testing.T) {
	const ws = "upgrade: WebSocket"
	for _, test := range []struct {
		request, scheme string
		lines           []string
		ok              bool
	}{
		{"GET /x", "https", []string{"origin: https://evil.example"}, true},
		{"HEAD /x", "https", nil, true},
		{"OPTIONS /x", "https", []string{"origin: https://evil.example"}, true},
		{"POST /x", "https", []string{"origin: https://shop.example"}, true},
		{"POST /x", "https", []string{"origin: https://shop.example:8443"}, true},
		{"POST /x", "http", []string{"origin: https://shop.example"}, true},
		{"POST /x", "http", []string{"origin: http://shop.example"}, true},
		{"POST /x", "https", []string{"origin: http://shop.example"}, false},
		{"POST /x", "https", []string{"origin: https://app.example"}, true},
		{"POST /x", "https", []string{"origin: https://app.example:444"}, false},
		{"POST /x", "https", []string{"origin: https://evil.example"}, false},
		{"POST /x", "https", []string{"origin: https://shop.example.evil"}, false},
		{"POST /x", "https", []string{"origin: https://evilshop.example"}, false},
		{"POST /x", "https", []string{"origin: https://shop.example@evil"}, false},
		{"POST /x", "https", []string{"origin: https://shop.example/"}, false},
		{"POST /x", "https", []string{"origin: null"}, false},
		{"POST /x", "http", []string{"origin: null"}, false},
		{"POST /x", "http", []string{"origin: app://shop.example"}, false},
		{"POST /x", "http", []string{"origin: http://shop.example/"}, false},
		{"POST /x", "https", []string{"origin: "}, false},
		{"POST /x", "https", nil, false},
		{"POST /x", "https", []string{"sec-fetch-site: same-origin"}, true},
		{"POST /x", "https", []string{"sec-fetch-site: same-site"}, false},
		{"POST /x", "https", []string{"sec-fetch-site: none"}, false},
		{"POST /x", "https", []string{"origin: https://evil.example", "sec-fetch-site: same-origin"}, false},
		{"POST /x", "https", []string{"origin: https://shop.example", "origin: https://evil.example"}, false},
		{"POST /x", "https", []string{"origin: https://shop.example,https://evil.example"}, false},
		{"DELETE /x", "https", nil, false}, {"PUT /x", "https", nil, false}, {"PATCH /x", "https", nil, false}, {"FOO /x", "https", nil, false},
		{"GET /x", "https", []string{ws, "origin: https://shop.example"}, true},
		{"GET /x", "https", []string{ws, "origin: https://evil.example"}, false},
		{"GET /x", "https", []string{ws}, false},
		{"GET /x", "https", []string{"upgrade: h2c"}, true},
		// Where Envoy hides the Upgrade.
		{"GET /x", "https", []string{"sec-fetch-mode: websocket", "origin: https://evil.example"}, false},
		{"GET /x", "https", []string{"sec-fetch-mode: websocket", "sec-fetch-site: cross-site"}, false},
		{"GET /x", "https", []string{"sec-fetch-mode: websocket"}, false},
		{"GET /x", "https", []string{"sec-fetch-mode: websocket", "origin: https://shop.example"}, true},
		{"GET /x", "https", []string{"sec-fetch-mode: cors", "origin: https://evil.example"}, true},
	} {
		for _, joined := range []bool{false, true} {
			t.Run(fmt.Sprint(test.request, test.scheme, test.lines, joined), func(t *testing.T) {
				f := &fake{session: ada}
				server := policed(t, f, extauthz.Config{}, extauthz.PolicySet{
					Policies: []extauthz.Policy{{Name: "p", Origins: []string{"https://app.example"}}}, Default: "p",
				})
				m := check{request: test.request, lines: append(test.lines[:len(test.lines):len(test.lines)], signedIn...), joined: joined}.message()
				m.Attributes.Request.Http.Scheme = test.scheme
				a := askMessage(t, server, m)
				if ok := a.status == 200; ok != test.ok || !ok && (a.status != 403 || a.reason != "bad_origin" || f.calls > 0) {
					t.Errorf("%d %s, asked %d times, want %v", a.status, a.reason, f.calls, test.ok)
				}
			})
		}
	}
}

// TestPreflight: let through only where the policy says so, and then without
// identity and without a lookup.
func TestPreflight(t *testing.T) {
	preflight := []string{"origin: https://app.example", "access-control-request-method: PUT"}
	for _, test := range []struct {
		request, policy string
		lines           []string
		status          int
		reason          string
	}{
		{"OPTIONS /x", "let", preflight, 200, "preflight"},
		{"OPTIONS /x", "not", preflight, 401, "no_cookie"},
		{"OPTIONS /x", "let", append([]string{"cookie: a=1; " + ours(liveID)}, preflight...), 200, "preflight"},
		{"OPTIONS /x", "let", preflight[:1], 401, "no_cookie"},
		{"OPTIONS /x", "let", preflight[1:], 401, "no_cookie"},
		{"GET /x", "let", preflight, 401, "no_cookie"},
		{"POST /x", "let", preflight, 401, "no_cookie"},
		{"options /x", "let", preflight, 400, "bad_request"},
		{"OPTIONS x", "let", preflight, 400, "bad_request"},
	} {
		f := &fake{session: ada}
		server := policed(t, f, extauthz.Config{}, extauthz.PolicySet{Policies: []extauthz.Policy{{Name: "let", Preflight: true, AnyRole: []string{"x"}}, {Name: "not"}}})
		a := ask(t, server, check{request: test.request, lines: append([]string{"x-user-id: 1", "X_User.Roles: 1"}, test.lines...), extensions: map[string]string{"coatcheck.policy": test.policy}})
		if a.status != test.status || a.reason != test.reason || f.calls > 0 {
			t.Errorf("%s %s %v: %d %s, asked %d times", test.request, test.policy, test.lines, a.status, a.reason, f.calls)
		}
		if a.status == 200 {
			checkIdentity(t, a, false)
		}
	}
	// The route's own requirement holds beside the policy, however that was chosen.
	for _, own := range []map[string]string{
		{"coatcheck.policy": "let", "coatcheck.roles": "admin"}, {"coatcheck.policy": "let", "coatcheck.session": "required"}, {"coatcheck.roles": "admin"},
	} {
		server := policed(t, &fake{session: ada}, extauthz.Config{}, extauthz.PolicySet{Policies: []extauthz.Policy{{Name: "let", Preflight: true}}, Default: "let"})
		if a := ask(t, server, check{request: "OPTIONS /x", lines: preflight, extensions: own}); a.status != 401 {
			t.Errorf("%v: %d %s", own, a.status, a.reason)
		}
	}
}
