package rules

import (
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical"
	"github.com/coatcheck/coatcheck/extauthz/internal/canonical/canonicaltest"
)

// FuzzRule: a rule is compiled or refused; what is compiled matches as the words of
// its documentation have it, in each folding; and every path that it matches is one
// that the patterns which cover it match, too.
func FuzzRule(f *testing.F) {
	for _, seed := range []struct{ path, prefix, template, other, request string }{
		{"/admin", "", "", "/ADMIN", "/admin/"}, {"", "/a/", "", "/a", "/a/"}, {"", "", "/users/{id}/{rest...}", "/users", "/users/7"},
		{"/Ada Löwe", "", "", "/ada löwe", "/ADA LÖWE"}, {"", "", "/{a}/{b...}", "/x/y", "/x"}, {"", "/", "", "/", "/"}, {"", "", "//{rest...}", "/{", "//"},
		{"/\u017f", "", "", "/s", "/S"}, {"/%C3%B6", "", "", "/ö", "/Ö"}, {"", "", "/a b/{x}/", "/a%20b", "/a b/c/"},
	} {
		for options := range byte(16) {
			f.Add(seed.path, seed.prefix, seed.template, seed.other, seed.request, options)
		}
	}
	f.Fuzz(func(t *testing.T, path, prefix, template, other, request string, options byte) {
		r := Rule{Path: path, PathPrefix: prefix, PathTemplate: template, CaseInsensitive: options&1 != 0, OptionalSlash: options&2 != 0}
		if r.Validate() != nil {
			return
		}
		request, ok := canonical.Path(canonicaltest.Encode(request))
		if !ok {
			return
		}
		compiled, _ := r.compile()
		want := matchesInWords(r, foldNarrow, request)
		if got := compiled.path.matches(folded(r, foldNarrow, request)); got != want {
			t.Fatalf("%+v, %q: %v, want %v", r, request, got, want)
		}
		if r.CaseInsensitive {
			if got, want := compiled.wide.matches(foldWide(request)), matchesInWords(r, foldWide, request); got != want {
				t.Fatalf("%+v, %q, folded widely: %v, want %v", r, request, got, want)
			}
		}
		for _, q := range []Rule{{Path: other}, {PathPrefix: other}, {PathTemplate: other}} {
			q.CaseInsensitive, q.OptionalSlash = options&4 != 0, options&8 != 0
			if want && q.Covers(r) && !matchesInWords(q, foldNarrow, request) {
				t.Fatalf("%+v covers %+v, but not for %q", q, r, request)
			}
			if q.Validate() == nil && matchesInWords(q, foldNarrow, request) && r.Covers(q) && !want {
				t.Fatalf("%+v covers %+v, but not for %q", r, q, request)
			}
		}
	})
}

func folded(r Rule, fold folding, text string) string {
	if r.CaseInsensitive {
		return fold(text)
	}
	return text
}

// matchesInWords is a valid rule by segments, written for reading alone.
func matchesInWords(r Rule, fold folding, path string) bool {
	text := r.Path + r.PathPrefix + r.PathTemplate
	if text == "" {
		return true
	}
	readings := []string{path}
	if r.OptionalSlash && path != "/" {
		other, cut := strings.CutSuffix(path, "/")
		if !cut {
			other = path + "/"
		}
		readings = append(readings, other)
	}
	return slices.ContainsFunc(readings, func(path string) bool {
		want, got := strings.Split(text, "/")[1:], strings.Split(path, "/")[1:]
		for i, segment := range want {
			last := i == len(want)-1
			switch {
			case r.PathTemplate != "" && last && strings.HasSuffix(segment, "...}"):
				return true
			case r.PathPrefix != "" && last && segment == "":
				return i < len(got)
			case i >= len(got):
				return false
			case r.PathTemplate != "" && strings.HasPrefix(segment, "{"):
				if got[i] == "" {
					return false
				}
			case folded(r, fold, decodedSimply(segment)) != folded(r, fold, got[i]):
				return false
			}
		}
		return r.PathPrefix != "" || len(got) == len(want)
	})
}

// decodedSimply decodes what a valid rule has encoded.
func decodedSimply(text string) string {
	parts := strings.Split(text, "%")
	for i, part := range parts[1:] {
		high, low := strings.IndexByte("0123456789ABCDEF", part[0]), strings.IndexByte("0123456789ABCDEF", part[1])
		parts[i+1] = string([]byte{byte(high<<4 | low)}) + part[2:]
	}
	return strings.Join(parts, "")
}

// FuzzRules: of a list that a few bytes make up the index finds the rule that a
// plain search in words finds, and refuses the paths that letters beyond ASCII
// would lead to two of them.
func FuzzRules(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, "/a/b", "a.example")
	f.Add([]byte{0, 1, 255, 3, 128, 64, 32, 16, 8, 4, 2, 1}, "/S/\u017f", "b.a.example")
	f.Add([]byte{7, 7, 7, 9, 9, 9, 200, 100, 50}, "/", "c.example")
	f.Fuzz(func(t *testing.T, list []byte, path, host string) {
		path, ok := canonical.Path(canonicaltest.Encode(path))
		host, known := canonical.Host(host)
		if !ok || !known || len(list) > 64 {
			return
		}
		r := dice(0)
		for _, b := range list {
			r = r*31 + dice(b)
		}
		var rules []Rule
		for range list {
			rules = append(rules, randomRule(&r))
		}
		found, err := Compile(rules)
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range someMethods {
			search := func(fold folding) int {
				return 1 + slices.IndexFunc(rules, func(rule Rule) bool {
					paths := rule
					paths.Hosts, paths.Methods = nil, nil
					hosts := len(rule.Hosts) == 0 || slices.ContainsFunc(rule.Hosts, func(p string) bool {
						return p == host || p[0] == '*' && strings.HasSuffix(host, p[1:])
					})
					return hosts && (rule.Methods == nil || slices.Contains(rule.Methods, method)) && matchesInWords(paths, fold, path)
				})
			}
			want := search(foldNarrow)
			once := want == search(foldWide)
			got, sure := found.Find(method, host, path)
			if sure != once || sure && got != want {
				t.Fatalf("%s %s %q: rule %d, %v, want %d, %v, of %+v", method, host, path, got, sure, want, once, rules)
			}
		}
	})
}
