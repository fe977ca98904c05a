package extauthz

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/text/unicode/norm"
)

// open are targets that have one reading, with refused ones beside them.
var (
	safeTargets = []string{
		"/", "/a", "/a/", "/a/b?x=/c", "/a?b;c", "/a?", "/?..;/#%00%zz", "/.well-known/x", "/..a", "/a..", "/a..b/.c", "/A", "/Inc.", "/a%20b", "/%C3%B6", "/%c3%b6", "/%F0%9f%A7%a5",
		"/a|b", "/a[b]", "/a^b", "/a`b", `/a"b`, "/a<b>", "/a{b}", "/%7c%5b", "/@me", "/%40me", "/a:b,c=d+e!$&'()*~-_", "/%3A%2b%26", "/%EF%BC%9F", "/%E2%80%A6a", "/a%E2%80%8Cb", "/a%C2%AD-b",
	}
	parameterTargets = []string{"/a;x=1", "/a;x=1;y=2/b", "/a;jsessionid=1F.node-1", "/a;x=", "/a;x=%C3%b6,2", "/a/b;v=1.2/"}
	refusedTargets   = []string{
		"", "a", "*", "?", "http://h/a", "//", "//a", "/a//b", "/a//", "/.", "/..", "/./a", "/../a", "/a/.", "/a/..", "/a/../b", "/...", "/a/..../b",
		"/%2e", "/%2E%2e/a", "/.%2e", "/%2e./a", "/a%2ejs", "/%61", "/%7e", "/%2D", "/a%2fb", "/a%2Fb", "/a%5cb", `/a\b`, `/\a`, "/a%00", "/%00", "/a%0a", "/a%09", "/a%7f", "/a%1b", "/%25", "/a%252e", "/%252F", "/a%3f", "/a%3Fb", "/a%23", "/a#b", "/#",
		"/a%", "/a%2", "/a%zz", "/%u002e", "/%%32%65", "/a b", "/a\tb", "/a\x00", "/a\x7f", "/\u00f6", "/\xff", "/%FF", "/%C3", "/%C3/%B6", "/%c0%ae", "/%C0%AF", "/%e0%80%af", "/%ed%a0%80", "/%f8%80%80%80%ae", "/%C2%85", "/%C2%9B2J",
		"/%EF%BC%8E", "/%ef%bc%8e%EF%BC%8E/a", "/%E2%80%A5", "/.%e2%80%a4/a", "/a%EF%BC%8Fb", "/a%ef%bc%bcb", "/a%E2%88%95b", "/a%E2%81%84b", "/%e3%80%82%E3%80%82", "/%E2%84%80", "/..%C2%A5a", "/a%c2%a5b", "/a%E2%82%A9b", "/%EF%B8%B0", "/%ef%b8%b0/a",
		"/%20", "/a/%20/b", "/%20..", "/..%20/a", "/.%20.", "/a%20", "/%20a", "/a%C2%A0", "/%E2%80%8B", "/.%E2%80%8C./a", "/a%EF%BB%BF", "/..%C2%AD",
		"/..;", "/..;/a", "/..;x=1/a", "/.;x=1/a", "/;", "/;x=1", "/;x=1/a", "/a/;x=1", "/a;", "/a;x", "/a;=1", "/a;x=1;", "/a;;x=1", "/a;x=1=2", "/a;x/b", "/a%3b", "/a%3Bx=1", "/a;x%3d1", "/a;x=%2f", "/a;x=%00", `/a;x=\`, "/a;x=%25", "/a;x=#", "/%2e%2e;/a", "/%2e%2e;x=1/a", "/a;x=\xff", "/%20;x=1", "/..%20;x=1/a", "/a;..=1", "/%EF%BC%8E.;x=1",
	}
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

// TestNormalisedPaths: no character becomes a slash, and no segment of it one of dots, by
// the compatible forms of Unicode (NFKC).
func TestNormalisedPaths(t *testing.T) {
	for r := rune(utf8.RuneSelf); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		encoded, normalised := url.PathEscape(string(r)), norm.NFKC.String(string(r))
		for _, paths := range pathsNames {
			if strings.ContainsAny(normalised, `/\`) && paths.admit("/a"+encoded+"b") {
				t.Errorf("%s admits %U, which may become %q", paths, r, normalised)
			}
			if strings.Trim(normalised, ". ") == "" && (paths.admit("/"+encoded) || paths.admit("/."+encoded+"/a")) {
				t.Errorf("%s admits a segment of %U, which may become %q", paths, r, normalised)
			}
		}
	}
}

func expected(paths Paths) map[string]bool {
	want := make(map[string]bool)
	for _, target := range safeTargets {
		_, canonical := canonicalPath(target)
		want[target] = paths != PathsStrict || canonical
	}
	for _, target := range parameterTargets {
		want[target] = paths == PathsParameters
	}
	for _, target := range refusedTargets {
		want[target] = false
	}
	delete(want, "/a;..=1")
	return want
}

// TestEveryRouteLooksAtThePath: whatever the route, the policies and the client, a
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

// readers are slow readings of a path by programs of other origin: what each makes
// of it, segment by segment, after resolving dots.
var readers = map[string]func(string) string{
	"net/url":        lenientDecode,
	"twice":          func(p string) string { return lenientDecode(lenientDecode(p)) },
	"servlet":        func(p string) string { return lenientDecode(cutParameters(p)) },
	"decodes, cuts":  func(p string) string { return cutParameters(lenientDecode(p)) },
	"cuts, twice":    func(p string) string { return cutParameters(lenientDecode(cutParameters(lenientDecode(p)))) },
	"Express":        func(p string) string { before, _, _ := strings.Cut(p, "?"); return lenientDecode(before) },
	"URL of decoded": func(p string) string { before, _, _ := strings.Cut(lenientDecode(p), "?"); return before },
	"fragment":       func(p string) string { before, _, _ := strings.Cut(lenientDecode(p), "#"); return before },
	"C string":       func(p string) string { before, _, _ := strings.Cut(lenientDecode(p), "\x00"); return before },
	"Windows":        func(p string) string { return strings.ReplaceAll(lenientDecode(p), `\`, "/") },
	"WHATWG": func(p string) string {
		return lenientDecode(strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(p))
	},
	"trims":            func(p string) string { return eachSegment(lenientDecode(p), strings.TrimSpace) },
	"lenient UTF-8":    func(p string) string { return overlong.Replace(lenientDecode(p)) },
	"Unicode":          func(p string) string { return compatible.Replace(lenientDecode(p)) },
	"merges, resolves": func(p string) string { return eachSegment(lenientDecode(p), func(s string) string { return s }) },
}

var (
	overlong   = strings.NewReplacer("\xc0\xae", ".", "\xc0\xaf", "/", "\xe0\x80\xae", ".", "\xe0\x80\xaf", "/", "\xc1\x9c", `\`)
	compatible = strings.NewReplacer("\uff0e", ".", "\u2024", ".", "\u2025", "..", "\ufe52", ".", "\uff0f", "/", "\uff3c", "/", "\u00a5", "/", "\u20a9", "/", "\ufe30", "..", "\u2215", "/", "\u2044", "/")
)

// lenientDecode decodes what can be decoded, and leaves the rest.
func lenientDecode(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if text, err := url.PathUnescape(p[i:min(i+3, len(p))]); p[i] == '%' && err == nil {
			b.WriteString(text)
			i += 2
		} else {
			b.WriteByte(p[i])
		}
	}
	return b.String()
}

func cutParameters(p string) string {
	return eachSegment(p, func(s string) string { before, _, _ := strings.Cut(s, ";"); return before })
}

func eachSegment(p string, change func(string) string) string {
	segments := strings.Split(p, "/")
	for i, s := range segments {
		segments[i] = change(s)
	}
	return strings.Join(segments, "/")
}

// FuzzPaths: of what a setting takes, every reader makes the same segments, but
// that some cut the parameters off where they are permitted; no reader finds dots
// to resolve or slashes to merge; and what is taken strictly is taken by all.
func FuzzPaths(f *testing.F) {
	for _, target := range slices.Concat(safeTargets, parameterTargets, refusedTargets) {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		safe, parameters, strict := PathsSafe.admit(target), PathsParameters.admit(target), PathsStrict.admit(target)
		if strict && !safe || safe && !parameters {
			t.Fatalf("%q: safe %v, parameters %v, strict %v", target, safe, parameters, strict)
		}
		if !parameters {
			return
		}
		raw, _, _ := strings.Cut(target, "?")
		if err := readAlike(raw); err != nil {
			t.Fatal(err)
		}
		if safe && strings.ContainsAny(lenientDecode(raw), ";\\#?%\x00") || !utf8.ValidString(lenientDecode(raw)) {
			t.Fatalf("%q: decoded to %q", target, lenientDecode(raw))
		}
	})
}

// readAlike compares the readings of a path that has been taken.
func readAlike(raw string) error {
	want := lenientDecode(cutParameters(raw))
	if clean := path.Clean(cutParameters(raw)); clean != cutParameters(raw) && clean+"/" != cutParameters(raw) {
		return fmt.Errorf("%q: resolved to %q before it is decoded", raw, clean)
	}
	for name, read := range readers {
		got := read(raw)
		bare := cutParameters(got)
		if strings.Count(got, "/") != strings.Count(want, "/") || compatible.Replace(bare) != compatible.Replace(want) {
			return fmt.Errorf("%q: %s reads %q, others %q", raw, name, got, want)
		}
		if clean := path.Clean(bare); clean != bare && clean+"/" != bare {
			return fmt.Errorf("%q: %s resolves %q to %q", raw, name, bare, clean)
		}
	}
	return nil
}
