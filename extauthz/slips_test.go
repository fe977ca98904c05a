package extauthz

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
)

// slips are all strings that one slip makes of s: a letter too many, one missing,
// another one, two the wrong way round, one in the other case, and blanks around.
func slips(s string) []string {
	letters := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:, \t\x00\xff"
	made := map[string]bool{s + s: true, strings.ToUpper(s): true, "": true}
	for i := range len(s) + 1 {
		for _, c := range []byte(letters) {
			made[s[:i]+string([]byte{c})+s[i:]] = true
			if i < len(s) {
				made[s[:i]+string([]byte{c})+s[i+1:]] = true
			}
		}
		if i < len(s) {
			made[s[:i]+s[i+1:]] = true
			made[s[:i]+string(unicode.ToUpper(rune(s[i])))+s[i+1:]] = true
		}
		if i+1 < len(s) {
			made[s[:i]+string(s[i+1])+string(s[i])+s[i+2:]] = true
		}
	}
	delete(made, s)
	return slices.Sorted(maps.Keys(made))
}

// ourKeys are the keys of context_extensions, each with a value that asks for
// more than nothing does.
var ourKeys = map[string]string{"coatcheck.session": "optional", "coatcheck.roles": "x", "coatcheck.policy": "gold", "coatcheck.paths": "strict"}

// TestSlipsInKeys: no slip in a key, alone or beside the other keys, opens a route
// or is passed over.
func TestSlipsInKeys(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err == nil {
		err = server.SetPolicies(fuzzPolicies)
	}
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for key, value := range ourKeys {
		for _, slip := range append(slips(key), strings.TrimPrefix(key, extensionPrefix), "coatcheck", "x", "coatcheck_"+key[10:], "coatcheck/"+key[10:], key+".", "."+key) {
			if _, ours := ourKeys[slip]; ours {
				continue
			}
			for _, extensions := range []map[string]string{{slip: value}, {slip: ""}, {slip: value, key: value}, {slip: value, "coatcheck.session": "none"}} {
				tried++
				if status, reason := askExtensions(server, extensions); status != 403 || reason != string(BadRoute) {
					t.Fatalf("%q: %d %s", extensions, status, reason)
				}
			}
		}
	}
	t.Logf("%d maps", tried)
}

// TestSlipsInValues: no slip in a value is taken for another one than the value
// that it is.
func TestSlipsInValues(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{"coatcheck.session": needNames, "coatcheck.paths": {"safe", "parameters", "strict"}, "coatcheck.policy": {"gold"}}
	for key, list := range values {
		for _, value := range list {
			for _, slip := range slips(value) {
				if slices.Contains(list, slip) {
					continue
				}
				if status, reason := askExtensions(server, map[string]string{key: slip}); status != 403 || reason != string(BadRoute) && reason != string(UnknownPolicy) {
					t.Fatalf("%s: %q: %d %s", key, slip, status, reason)
				}
			}
		}
	}
	// A slip in a role is another role, which the user has not.
	for _, slip := range slips("staff") {
		if strings.Trim(slip, " ,\t") == "staff" || slices.Contains(strings.Split(slip, ","), "staff") {
			continue
		}
		response := live(server, map[string]string{"coatcheck.roles": slip})
		if response.GetOkResponse() != nil {
			t.Fatalf("%q is taken for staff", slip)
		}
	}
}

// live is the answer to a request with the one live session.
func live(server *Server, extensions map[string]string) *authv3.CheckResponse {
	p := server.policies.Load()
	r := &reader{wanted: &p.wanted}
	r.http, r.method, r.path, r.host = true, "GET", "/x", "a"
	for key, value := range extensions {
		r.extension([]byte(key), []byte(value))
	}
	r.cookies.Lines = []string{"__Host-session=" + fuzzID.Reveal()}
	return server.check(context.Background(), p, &r.request).Message()
}

func askExtensions(server *Server, extensions map[string]string) (status int, reason string) {
	response := live(server, extensions)
	return int(response.GetDeniedResponse().GetStatus().GetCode()), response.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
}

// TestIgnoredKeys: a key that is named is another reader's, in its own spelling
// alone.
func TestIgnoredKeys(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{IgnoreKeys: []string{"tenant", "virtual_host"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		extensions map[string]string
		ok         bool
	}{
		{map[string]string{"tenant": "x"}, true}, {map[string]string{"tenant": "", "virtual_host": "\xff", "coatcheck.roles": "staff"}, true},
		{map[string]string{"tenant": "x", "coatcheck.roles": "admin"}, false}, {map[string]string{"Tenant": "x"}, false}, {map[string]string{"tenant ": "x"}, false}, {map[string]string{"tenants": "x"}, false}, {map[string]string{"roles": "staff"}, false},
	} {
		if ok := live(server, test.extensions).GetOkResponse() != nil; ok != test.ok {
			t.Errorf("%q: %v", test.extensions, ok)
		}
	}
}

// TestRepeatedKeys: of a key that comes twice on the wire the last counts, as in
// every protobuf map, and a wrong one beside it still denies.
func TestRepeatedKeys(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		pairs []string
		want  Reason
	}{
		{[]string{"coatcheck.session", "none", "coatcheck.session", "required"}, NoCookie},
		{[]string{"coatcheck.session", "required", "coatcheck.session", "none"}, Public},
		{[]string{"coatcheck.session", "none", "coatcheck.sessions", "required"}, BadRoute},
		{[]string{"coatcheck.session", "bogus", "coatcheck.session", "none"}, Public},
		{[]string{"", "", "coatcheck.session", "none"}, BadRoute},
		{[]string{"\xff", "x"}, BadRoute},
	} {
		m := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/", Host: "a"}}}}
		wire, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(test.pairs); i += 2 {
			wire = append(wire, extensionOnWire(test.pairs[i], test.pairs[i+1])...)
		}
		if d := server.decide(t.Context(), server.bare, readWire(server.bare, wire)); d.reason != test.want {
			t.Errorf("%q: %s, want %s", test.pairs, d.reason, test.want)
		}
	}
}

// TestBadRouteIsToldAlike: of several wrong keys, in any order, the log
// names the same one.
func TestBadRouteIsToldAlike(t *testing.T) {
	extensions := map[string]string{"b": "", "a": "", "coatcheck.session": "x", "coatcheck.roles": ""}
	_, first := routeOf(extensions, nil)
	for range 50 {
		if _, err := routeOf(extensions, nil); fmt.Sprint(err) != fmt.Sprint(first) {
			t.Fatalf("%v, and %v", err, first)
		}
	}
}
