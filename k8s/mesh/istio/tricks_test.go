package mesh_test

import (
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// aliases are 500 names and more that some upstream could take for an identity header:
// every pair of the characters that a name can hold beside letters and digits, in
// changing case. With an underscore or without, because Envoy refuses the former.
func aliases() (names []string) {
	const separators = "!#$%&'*+-.^_`|~"
	for _, ending := range []string{"id", "roles", "session", "anything"} {
		for _, first := range separators {
			for _, second := range separators {
				name := "x" + string(first) + "user" + string(second) + ending
				switch len(names) % 3 {
				case 1:
					name = strings.ToUpper(name)
				case 2:
					name = "X" + name[1:2] + "User" + name[6:]
				}
				names = append(names, name)
			}
		}
	}
	return names
}

// TestAliases sends them on a checked route, on a public one, and to the login pages,
// which are not checked: none gets past.
func TestAliases(t *testing.T) {
	all := aliases()
	if len(all) < 500 {
		t.Fatalf("only %d names", len(all))
	}
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			m := f.start(t, rig.Options{Patient: true})
			cookie, key := m.session(t, sessions.NewSession{UserID: "42"})
			signedIn := map[string]string{"X-User-Id": "42", "X-User-Session": string(key)}
			sent := 0
			for _, route := range []struct {
				path, cookie string
				want         map[string]string
			}{{"/x", cookie, signedIn}, {"/public/x", cookie, nil}, {"/public/x", "none=1", nil}} {
				for batch := range slices.Chunk(all, 60) { // Envoy takes 100 headers
					var lines []string
					for _, name := range batch {
						if strings.Contains(name, "_") {
							sent++
							m.send(t, "GET "+route.path, "Cookie: "+route.cookie, name+": 1").is(t, 400)
							continue
						}
						lines = append(lines, name+": 1")
					}
					sent += len(lines)
					got := m.send(t, "GET "+route.path, append(lines, "Cookie: "+route.cookie)...).is(t, 200)
					if !maps.Equal(got.identity(), route.want) && len(got.identity())+len(route.want) > 0 {
						t.Fatalf("%s %q: the upstream was sent %v, want %v", route.path, lines, got.identity(), route.want)
					}
				}
			}
			t.Logf("%d names, %d headers: none got past", len(all), sent)
		})
	}
}

// TestAliasesUnchecked: on a route that is not checked, as the one to the login pages,
// Envoy alone removes them. Here the application stands in the place of login.
func TestAliasesUnchecked(t *testing.T) {
	for name, want := range map[string]bool{"with headers.yaml": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			m := forms[0].start(t, rig.Options{Patient: true}, func(manifests string) string {
				if want {
					manifests = without(t, manifests, "EnvoyFilter", "coatcheck-headers")
				}
				return replaced(t, manifests, "host: coatcheck-login.coatcheck.svc", "host: shop.shop.svc")
			})
			past := 0
			for _, name := range aliases() {
				if got := m.send(t, "GET /.auth/x", name+": 1"); len(got.identity()) > 0 {
					past++
				}
			}
			if (past > 0) != want {
				t.Errorf("%d of %d names got past", past, len(aliases()))
			}
		})
	}
}

// pathTricks turn an open path P and a closed one Q, which begins with /q..., into
// request targets that some program reads as Q.
var pathTricks = []string{
	"Q", "Q/", "Q//", "Q/.", "/Q", "//Q", "/./q", "/x/../q", "/x/%2e%2e/q", "/x/.%2E/q", "/x/..%2fq", "/x%2f..%2fq",
	"P/..Q", "P/../q", "P/%2e%2eQ", "P/.%2E/q", "P/..%2fq", "P/..%5cq", `P/..\q`, `P\..\q`, "P%2f..Q", "P%5c..%5cq", "P//..Q", "P/x/../..Q",
	"P/..;Q", "P/;/..Q", "P;/..Q", "P;x=1/..Q", "Q;", "Q;x=1", "/;Q", "/;x/q", "Q%3B", "Q%00", "P%00Q", "P/%00/..Q", "Q%20", "Q%09", "Q%2e", "Q.", "Q%2f", "Q%5c",
	"Q?P", "Q?x=P", "P?Q", "P?/..Q", "P%3fQ", "P%3F/..Q", "Q%3f", "Q#P", "P#Q", "P#/..Q", "Q%23P", "P%23/..Q",
	"P/%252e%252eQ", "P/%252e%252e%252fq", "P/..%252fq", "Q%252f", "P/%c0%ae%c0%aeQ", "P/..%c0%afq", "P/%u002e%u002eQ", "P/..%EF%BC%8Fq", "Q%FF", "Q%C3%B6",
	"%2fq", "/%2fq", "/%5cq", `/\q`, "/%2e/q", "//evil.exampleQ", "http://shop.example.comQ", "http://evil.exampleQ", "Q%E2%80%8B", "Q|", "Q:", "Q@x", "Q~", "PQ", "P/.Q", "P/...Q", "P/..a/..Q",
}

// targets are 200 request targets and more.
func targets() (list []string) {
	for _, pair := range [][2]string{{"/public", "/staff"}, {"/public/x", "/admin"}, {"/public", "/orders"}} {
		replace := strings.NewReplacer("P", pair[0], "Q", pair[1], "q", pair[1][1:])
		for _, trick := range pathTricks {
			if target := replace.Replace(trick); !slices.Contains(list, target) {
				list = append(list, target)
			}
		}
	}
	return list
}

// readings are the paths that programs could take this target for.
func readings(target string) []string {
	target, _, _ = strings.Cut(target, "?")
	list := []string{target}
	for range 2 { // some decode twice
		if decoded, err := url.PathUnescape(list[len(list)-1]); err == nil {
			list = append(list, decoded)
		}
	}
	for _, p := range slices.Clone(list) {
		p = strings.ReplaceAll(p, `\`, "/")
		var segments []string
		for segment := range strings.SplitSeq(p, "/") {
			segment, _, _ = strings.Cut(segment, ";")
			segments = append(segments, segment)
		}
		cut, _, _ := strings.Cut(strings.Join(segments, "/"), "\x00")
		list = append(list, path.Clean("/"+p), path.Clean("/"+cut))
	}
	return list
}

// below reports whether a path is this one, or below it.
func below(p, prefix string) bool { return p == prefix || strings.HasPrefix(p, prefix+"/") }

// TestPaths sends them without a session: what reaches the upstream is public in each way
// that a program could read it. And as Bob, who may see all but the pages that ask for a
// role: by a rule, and at the gateway by a route. Without the policy some get past: so the
// test would see a way in.
func TestPaths(t *testing.T) {
	list := targets()
	if len(list) < 200 {
		t.Fatalf("only %d targets", len(list))
	}
	past := func(t *testing.T, m *mesh, cookie string, closed func(string) bool) (past []string, passed int) {
		for _, target := range list {
			got, err := m.try("GET "+target, "Cookie: "+cookie)
			if err != nil || got.sent == nil {
				continue
			}
			if passed++; slices.ContainsFunc(readings(got.sent.Path), closed) {
				past = append(past, target+" as "+got.sent.Path)
			}
		}
		return past, passed
	}
	private := func(p string) bool { return !below(p, "/public") }
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			m := f.start(t, rig.Options{Patient: true})
			ways, passed := past(t, m, "none=1", private)
			if len(ways) > 0 || passed == 0 {
				t.Errorf("without a session %d passed, and these got past: %q", passed, ways)
			}
			bob, _ := m.session(t, sessions.NewSession{UserID: "7", Roles: []string{"staff"}})
			ways, asBob := past(t, m, bob, func(p string) bool { return below(p, "/staff") || f.name == "gateway" && below(p, "/admin") })
			if len(ways) > 0 || asBob <= passed {
				t.Errorf("without a role %d passed, and these got past: %q", asBob, ways)
			}
			t.Logf("%d targets: %d passed without a session, %d with one, and none that should not", len(list), passed, asBob)
		})
	}
	t.Run("without the check", func(t *testing.T) {
		m := forms[0].start(t, rig.Options{Patient: true}, func(manifests string) string {
			return without(t, manifests, "AuthorizationPolicy", "coatcheck")
		})
		ways, _ := past(t, m, "none=1", private)
		if len(ways) < len(list)/4 {
			t.Errorf("only %d of %d got past: the test would not see a way in", len(ways), len(list))
		}
		t.Logf("%d of %d got past", len(ways), len(list))
	})
}

// TestCookies: Istio shows Coatcheck the Cookie lines joined by commas. A session cookie
// that may be another cookie's value signs no client in, and is not passed on.
func TestCookies(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			m := f.start(t, rig.Options{Patient: true})
			ada, _ := m.session(t, sessions.NewSession{UserID: "42"})
			eve, _ := m.session(t, sessions.NewSession{UserID: "666"})
			for _, lines := range [][]string{
				{"Cookie: " + ada + "; " + eve}, {"Cookie: " + ada, "Cookie: " + eve}, {"Cookie: " + ada, "Cookie: " + ada}, {"Cookie: " + ada + "; " + ada},
				{"Cookie: a=1", "Cookie: " + eve}, {"Cookie: a=1," + eve}, {"Cookie: a=1," + eve + "; " + ada}, {"Cookie: " + ada + "; a=1," + eve}, {"Cookie: a=," + eve},
				{"Cookie: " + ada, "Cookie: a=1"}, // its value is now the ID, a comma and more
			} {
				m.send(t, "GET /x", lines...).is(t, 401)
				if got := m.send(t, "GET /public/x", lines...).is(t, 200); strings.Contains(strings.Join(got.sent.Headers["Cookie"], ","), sessions.DefaultCookieName+"=") {
					t.Errorf("%q: the upstream was sent %q", lines, got.sent.Headers["Cookie"])
				}
			}
			for _, lines := range [][]string{
				{"Cookie: a=1; " + ada}, {"Cookie: " + ada + "; a=1,2"}, {"Cookie: a=1", "Cookie: b=2; " + ada}, {"Cookie: a=1, " + eve + "; " + ada},
				{"Cookie: " + strings.Replace(eve, "=", " =", 1) + "; " + ada},
			} {
				if got := m.send(t, "GET /x", lines...).is(t, 200).identity()["X-User-Id"]; got != "42" {
					t.Errorf("%q: it signs %s in", lines, got)
				}
			}
		})
	}
}

// TestRawHeaders: with what README.md advises, lines are not joined, and another line than
// that of the session cookie keeps no client out.
func TestRawHeaders(t *testing.T) {
	m := forms[0].start(t, rig.Options{Patient: true}, func(manifests string) string {
		return replaced(t, manifests, "validate_mutations: true", "validate_mutations: true\n          encode_raw_headers: true")
	})
	ada, _ := m.session(t, sessions.NewSession{UserID: "42"})
	m.send(t, "GET /x", "Cookie: a=1", "Cookie: "+ada).is(t, 200)
	m.send(t, "GET /x", "Cookie: "+ada, "Cookie: "+ada).is(t, 401)
}
