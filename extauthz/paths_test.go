package extauthz

import (
	"context"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical"
	"github.com/coatcheck/coatcheck/extauthz/internal/canonical/canonicaltest"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// TestPaths: each setting takes what it says, and none takes all.
func TestPaths(t *testing.T) {
	for _, paths := range append([]Paths{""}, pathsNames...) {
		for target, want := range expected(paths) {
			if got := paths.admit(target); got != want {
				t.Errorf("%q admits %q: %v", paths, target, got)
			}
		}
	}
}

func expected(paths Paths) map[string]bool {
	want := make(map[string]bool)
	for _, target := range canonicaltest.Safe {
		_, canonical := canonical.Path(target)
		want[target] = paths != PathsStrict || canonical
	}
	for _, target := range canonicaltest.Parameters {
		want[target] = paths == PathsParameters
	}
	for _, target := range canonicaltest.Refused {
		want[target] = false
	}
	delete(want, "/a;..=1")
	return want
}

// TestEveryRouteLooksAtThePath: with every route, policy and client, a
// path of two readings is 400 before any lookup.
func TestEveryRouteLooksAtThePath(t *testing.T) {
	routes := []map[string]string{
		nil, {"coatcheck.session": "none"}, {"coatcheck.session": "optional"}, {"coatcheck.roles": "staff"}, {"coatcheck.policy": "open"}, {"coatcheck.policy": "shadow"},
		{"coatcheck.paths": "safe"}, {"coatcheck.paths": "parameters"}, {"coatcheck.paths": "strict", "coatcheck.session": "none"}, {"coatcheck.paths": "parameters", "coatcheck.session": "none"},
	}
	open := PolicySet{Policies: []Policy{{Name: "open", Session: "none"}, {Name: "shadow", Shadow: true}, {Name: "let", Session: "none", Preflight: true}}}
	ruled, defaulted := open, open
	ruled.Rules, ruled.Default = []Rule{{PathPrefix: "/public", Policy: "open"}}, "open"
	defaulted.Default = "let"
	for name, policies := range map[string]*PolicySet{"none": nil, "named": &open, "default": &defaulted, "ruled": &ruled} {
		for _, paths := range append([]Paths{""}, pathsNames...) {
			server, err := New(oneSession{fuzzID}, Config{Paths: paths})
			if err == nil && policies != nil {
				err = server.SetPolicies(*policies)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, route := range routes {
				if policies == nil && route["coatcheck.policy"] != "" {
					continue
				}
				set := paths
				if key, ok := route["coatcheck.paths"]; ok {
					set = Paths(key)
				}
				for target, taken := range expected(set) {
					status, reason := askPath(t, server, target, route)
					if want := strings.HasPrefix(target, "/") && !strings.ContainsAny(target, "\t\x00\x7f"); !taken && (status != 400 || want && reason != "noncanonical_path") {
						t.Errorf("%s, %q, %v: %q is %d %s", name, paths, route, target, status, reason)
					}
					if rules := name == "ruled" && route["coatcheck.policy"] == ""; taken && !rules && status == 400 {
						t.Errorf("%s, %q, %v: %q is %d %s", name, paths, route, target, status, reason)
					}
				}
			}
		}
	}
}

func askPath(t *testing.T, server *Server, target string, route map[string]string) (status int, reason string) {
	t.Helper()
	response, err := server.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: route,
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "OPTIONS", Host: "shop.example", Path: target,
			Headers: map[string]string{"origin": "https://a.example", "access-control-request-method": "PUT"},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return int(response.GetDeniedResponse().GetStatus().GetCode()), response.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
}

// TestMethodsAreCapitals: everything but 1 to 32 of A-Z and "-" is 400, on every
// route.
func TestMethodsAreCapitals(t *testing.T) {
	for method, ok := range map[string]bool{
		"GET": true, "M-SEARCH": true, "VERSION-CONTROL": true, strings.Repeat("A", 32): true, "-": true,
		"": false, "get": false, "Post": false, "PoST": false, "POST ": false, " POST": false, "PO\x00ST": false, "POST\n": false, "P\u014cST": false, "GET1": false, "GET_": false, "GET,POST": false, "\uff27ET": false, strings.Repeat("A", 33): false,
	} {
		for _, route := range []map[string]string{nil, {"coatcheck.session": "none"}, {"coatcheck.session": "optional"}} {
			server, err := New(oneSession{fuzzID}, Config{})
			if err != nil {
				t.Fatal(err)
			}
			r := &request{http: true, method: method, path: "/x", extensions: route}
			if d := server.decide(context.Background(), server.bare, r); (d.reason == BadRequest) == ok {
				t.Errorf("%q, %v: %s", method, route, d.reason)
			}
		}
	}
}

// TestUnknownPaths: New takes no other setting, and no key of ours to ignore.
func TestUnknownPaths(t *testing.T) {
	for _, c := range []Config{
		{Paths: "any"}, {Paths: "Safe"}, {Paths: " "}, {IgnoreKeys: []string{""}}, {IgnoreKeys: []string{"a", "\xff"}}, {IgnoreKeys: []string{"coatcheck.roles"}}, {IgnoreKeys: []string{"Coatcheck.x"}},
	} {
		if _, err := New(oneSession{fuzzID}, c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// TestMatchingAllocatesNothing, unless the path is percent-encoded.
func TestMatchingAllocatesNothing(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	policies, err := manyRules(100).compile(server.bare)
	if err != nil {
		t.Fatal(err)
	}
	r := request{http: true, method: "GET", host: "shop.example", path: "/api/items?page=2"}
	if n := testing.AllocsPerRun(100, func() { policies.choose(&r, "", PathsSafe) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
