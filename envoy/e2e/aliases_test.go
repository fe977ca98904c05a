package e2e_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// aliases are names, no two alike, that some upstream could take for a managed
// header: every pair of the characters that a name can hold beside letters and
// digits (RFC 9110, section 5.6.2), before many endings, in changing case.
func aliases() []string {
	const separators = "!#$%&'*+-.^_`|~"
	endings := []string{
		"id", "name", "roles", "session", "tenant", "email", "admin", "groups", "is-admin", "id-", "-id", "id-2", "_", "a", "0",
		"role", "scope", "sub", "uid", "user", "x-user-id", "impersonate", "token", "agentx",
	}
	var names []string
	for _, ending := range endings {
		for _, first := range separators {
			for _, second := range separators {
				name := "x" + string(first) + "user" + string(second) + ending
				switch len(names) % 4 {
				case 1:
					name = strings.ToUpper(name)
				case 2:
					name = "X" + name[1:]
				case 3:
					name = name[:2] + "User" + name[6:]
				}
				names = append(names, name)
			}
		}
	}
	return names
}

// TestAliases sends 5,000 aliases, or a seventh of them, on every kind of route:
// the upstream sees Coatcheck's headers, or no identity header at all. The seventh
// holds every pair of separators and every ending.
func TestAliases(t *testing.T) {
	t.Parallel()
	names := aliases()
	if len(names) < 5000 {
		t.Fatalf("only %d names", len(names))
	}
	names = sample(names, 7)
	policies := extauthz.PolicySet{
		Policies: []extauthz.Policy{
			{Name: "required"}, {Name: "optional", Session: "optional"}, {Name: "none", Session: "none"}, {Name: "withheld", Headers: []string{}},
			{Name: "preflight", Preflight: true}, {Name: "shadow", Shadow: true, AnyRole: []string{"x"}}, {Name: "condition", Condition: cel(t, `request.method == "GET"`)},
		},
		Rules: []extauthz.Rule{{PathPrefix: "/ruled", Policy: "optional"}}, Default: "none",
	}
	for name, change := range map[string]func(*bootstrapv3.Bootstrap){
		"envoy.yaml":           func(*bootstrapv3.Bootstrap) {},
		"without Envoy's help": withoutEnvoysHelp,
		"without raw headers": func(b *bootstrapv3.Bootstrap) {
			withoutEnvoysHelp(b)
			rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) { f.EncodeRawHeaders = false })
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDeciding(t, policies, policyRoutes("required", "optional", "none", "withheld", "preflight", "shadow", "condition"), change)
			cookie, key := login(t, d.manager, sessions.NewSession{UserID: "42"})
			live, identity := []string{"Cookie: " + cookie}, map[string]string{"X-User-Id": "42", "X-User-Session": string(key)}
			names := names
			if name == "envoy.yaml" { // which answers 400 to an underscore
				names = slices.DeleteFunc(slices.Clone(names), func(s string) bool { return strings.Contains(s, "_") })
			}
			for _, route := range []struct {
				request string
				lines   []string
				want    map[string]string
			}{
				{"GET /p/required", live, identity}, {"GET /p/optional", live, identity}, {"GET /p/optional", nil, nil}, {"GET /p/none", live, nil}, {"GET /p/withheld", live, nil},
				{"OPTIONS /p/preflight", []string{"Origin: https://a.example", "Access-Control-Request-Method: GET"}, nil},
				{"GET /p/shadow", live, identity}, {"GET /p/shadow", nil, nil}, {"GET /p/condition", live, identity}, {"GET /ruled", nil, nil}, {"GET /ruled", live, identity}, {"GET /x", nil, nil},
			} {
				for batch := range slices.Chunk(names, 80) { // Envoy takes 100 headers
					lines := slices.Clone(route.lines)
					for _, name := range batch {
						lines = append(lines, name+": admin")
					}
					got := send(t, d.Stack, route.request, lines...)
					if got.status != 200 || !maps.Equal(got.identity(), route.want) {
						t.Fatalf("%s %q: status %d (%s), the upstream was sent %v, want %v", route.request, batch, got.status, got.body, got.identity(), route.want)
					}
				}
			}
			t.Logf("%d names on 12 kinds of request", len(names))
		})
	}
}
