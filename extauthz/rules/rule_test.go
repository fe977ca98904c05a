package rules

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	for _, test := range []struct {
		rule    Rule
		matches []string // "METHOD host path"
		misses  []string
	}{
		{Rule{}, []string{"GET a /", "X b /x/y"}, nil},
		{Rule{Path: "/a"}, []string{"GET h /a"}, []string{"GET h /a/", "GET h /A", "GET h /ab", "GET h /", "GET h /a/b"}},
		{Rule{Path: "/a/"}, []string{"GET h /a/"}, []string{"GET h /a", "GET h /a/b"}},
		{Rule{Path: "/Ada Löwe"}, []string{"GET h /Ada Löwe"}, nil},
		{Rule{Path: "/Ada%20L%C3%B6we"}, []string{"GET h /Ada Löwe"}, []string{"GET h /Ada%20L%C3%B6we"}},
		{Rule{PathPrefix: "/a"}, []string{"GET h /a", "GET h /a/", "GET h /a/b/c"}, []string{"GET h /ab", "GET h /", "GET h /A/b"}},
		{Rule{PathPrefix: "/a/"}, []string{"GET h /a/", "GET h /a/b/c"}, []string{"GET h /a", "GET h /ab/"}},
		{Rule{PathPrefix: "/"}, []string{"GET h /", "GET h /a"}, nil},
		{Rule{PathTemplate: "/users/{id}/orders"}, []string{"GET h /users/7/orders", "GET h /users/{id}/orders"},
			[]string{"GET h /users//orders", "GET h /users/7/orders/", "GET h /users/7/8/orders", "GET h /users/7", "GET h /users/7/order", "GET h /users/7/orders2"}},
		{Rule{PathTemplate: "/{a}"}, []string{"GET h /x"}, []string{"GET h /", "GET h /x/"}},
		{Rule{PathTemplate: "/a/{b}/"}, []string{"GET h /a/x/"}, []string{"GET h /a/x", "GET h /a//", "GET h /a/x/y"}},
		{Rule{PathTemplate: "/files/{rest...}"}, []string{"GET h /files", "GET h /files/", "GET h /files/a/b"}, []string{"GET h /filesx/a", "GET h /"}},
		{Rule{PathTemplate: "/files/{name}/{rest...}"}, []string{"GET h /files/a", "GET h /files/a/", "GET h /files/a/b"}, []string{"GET h /files", "GET h /files/"}},
		{Rule{PathTemplate: "/{rest...}"}, []string{"GET h /", "GET h /a/b/"}, nil},
		{Rule{Path: "/a", OptionalSlash: true}, []string{"GET h /a", "GET h /a/"}, []string{"GET h /", "GET h /a/b", "GET h /ab", "GET h /A"}},
		{Rule{Path: "/a/", OptionalSlash: true}, []string{"GET h /a", "GET h /a/"}, []string{"GET h /a/b"}},
		{Rule{Path: "/", OptionalSlash: true}, []string{"GET h /"}, []string{"GET h /a"}},
		{Rule{PathPrefix: "/a/", OptionalSlash: true}, []string{"GET h /a", "GET h /a/", "GET h /a/b"}, []string{"GET h /ab", "GET h /"}},
		{Rule{PathPrefix: "/", OptionalSlash: true}, []string{"GET h /", "GET h /a"}, nil},
		{Rule{PathTemplate: "/a/{b}/", OptionalSlash: true}, []string{"GET h /a/x", "GET h /a/x/"}, []string{"GET h /a", "GET h /a/", "GET h /a/x/y"}},
		{Rule{PathTemplate: "/{a}", OptionalSlash: true}, []string{"GET h /x", "GET h /x/"}, []string{"GET h /"}},
		{Rule{Path: "/Admin", CaseInsensitive: true}, []string{"GET h /Admin", "GET h /admin", "GET h /ADMIN"}, []string{"GET h /admin/", "GET h /adm\u0131n"}},
		{Rule{PathPrefix: "/a", CaseInsensitive: true}, []string{"GET h /A", "GET h /A/x"}, []string{"GET h /AB"}},
		{Rule{PathTemplate: "/Users/{id}/Orders", CaseInsensitive: true}, []string{"GET h /users/Ada/ORDERS"}, []string{"GET h /users//orders"}},
		{Rule{Path: "/a", CaseInsensitive: true, OptionalSlash: true}, []string{"GET h /A/", "GET h /A"}, []string{"GET h /A/b"}},
		{Rule{PathTemplate: "/a b/{x}"}, []string{"GET h /a b/1"}, []string{"GET h /a/1"}},
		{Rule{Hosts: []string{"a.example", "*.b.example"}}, []string{"GET a.example /", "GET x.b.example /", "GET y.x.b.example /"},
			[]string{"GET b.example /", "GET xb.example /", "GET a.example.b /", "GET evil-a.example /"}},
		{Rule{Hosts: []string{"[::1]", "127.0.0.1"}}, []string{"GET [::1] /", "GET 127.0.0.1 /"}, []string{"GET 127.0.0.2 /"}},
		{Rule{Methods: []string{"GET", "HEAD"}}, []string{"GET h /", "HEAD h /"}, []string{"POST h /", "get h /", "GETX h /"}},
		{Rule{Hosts: []string{"h"}, Path: "/a", Methods: []string{"GET"}}, []string{"GET h /a"}, []string{"GET i /a", "POST h /a", "GET h /b"}},
	} {
		compiled, err := test.rule.compile()
		if err != nil {
			t.Fatalf("%v: %v", test.rule, err)
		}
		for want, list := range map[bool][]string{true: test.matches, false: test.misses} {
			for _, request := range list {
				part := strings.SplitN(request, " ", 3)
				if why := compiled.mismatch(part[0], part[1], part[2], foldNarrow(part[2])); (why == "") != want {
					t.Errorf("%v: %q: mismatch %q, want a match: %v", test.rule, request, why, want)
				}
			}
		}
	}
}

func TestRulesThatCannotMatch(t *testing.T) {
	for _, r := range []Rule{
		{Path: "a"}, {Path: "/a?b"}, {Path: "/a#b"}, {Path: "/a//b"}, {Path: "/a/../b"}, {Path: "/%61"}, {Path: "/a%2Fb"}, {Path: "/a;b"}, {Path: "/a%c3%b6"}, {Path: "//"}, {Path: "/\xff"},
		{PathPrefix: "a"}, {PathPrefix: "/a/./b"}, {PathPrefix: "/a?"}, {PathTemplate: "users/{id}"}, {PathTemplate: "/{}"}, {PathTemplate: "/{a b}"}, {PathTemplate: "/a{b}"},
		{PathTemplate: "/{a}{b}"}, {PathTemplate: "/{a...}/b"}, {PathTemplate: "/a//{b}"}, {PathTemplate: "/./{b}"}, {PathTemplate: "/{...}"}, {PathTemplate: "//{rest...}"}, {PathTemplate: "/a{"},
		{Path: "/a", PathPrefix: "/b"}, {Path: "/a", PathTemplate: "/b"},
		{Hosts: []string{""}}, {Hosts: []string{"*"}}, {Hosts: []string{"*."}}, {Hosts: []string{"a.*"}}, {Hosts: []string{"A"}}, {Hosts: []string{"a:80"}}, {Hosts: []string{"a."}}, {Hosts: []string{"bücher"}},
		{Hosts: []string{"*.127.0.0.1"}}, {Hosts: []string{"*.[::1]"}}, {Hosts: []string{"https://a"}}, {Hosts: []string{"a,b"}}, {Methods: []string{""}}, {Methods: []string{"get"}}, {Methods: []string{"GET,HEAD"}}, {Methods: []string{"*"}},
	} {
		if err := r.Validate(); err == nil {
			t.Errorf("%+v: no error", r)
		}
	}
}

// Pieces that random rules and requests are made of, few enough to meet.
var (
	someMethods  = []string{"GET", "POST"}
	someHosts    = []string{"a.example", "b.a.example", "c.example"}
	somePatterns = []string{"a.example", "*.a.example", "*.example", "c.example"}
	someSegments = []string{"a", "b", "ab", "A", "ſ", "s"}
)

// dice fall the same way in every run (Vigna's splitmix64).
type dice uint64

func (d *dice) IntN(n int) int {
	*d += 0x9e3779b97f4a7c15
	z := uint64(*d)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) % uint64(n))
}

func pick[T any](r *dice, list []T) T { return list[r.IntN(len(list))] }

func randomPath(r *dice) string {
	var path strings.Builder
	for range r.IntN(4) {
		path.WriteString("/" + pick(r, someSegments))
	}
	if path.Len() == 0 || r.IntN(3) == 0 {
		path.WriteString("/")
	}
	return path.String()
}

func randomRule(r *dice) Rule {
	var rule Rule
	switch r.IntN(4) {
	case 0:
		rule.Path = randomPath(r)
	case 1:
		rule.PathPrefix = randomPath(r)
	case 2:
		for range r.IntN(3) {
			rule.PathTemplate += "/" + pick(r, []string{"a", "b", "S", "{x}"})
		}
		rule.PathTemplate += "/" + pick(r, []string{"a", "{x}", "{rest...}"})
	}
	rule.CaseInsensitive, rule.OptionalSlash = r.IntN(3) == 0, r.IntN(4) == 0
	if r.IntN(2) == 0 {
		rule.Hosts = []string{pick(r, somePatterns), pick(r, somePatterns)}[:1+r.IntN(2)]
	}
	if r.IntN(3) == 0 {
		rule.Methods = []string{pick(r, someMethods)}
	}
	return rule
}

// matchesSimply is a rule as its documentation has it, in as few words as can be.
// Fold is what its letter case is ignored by.
func matchesSimply(rule Rule, fold func(string) string, method, host, path string) bool {
	if rule.CaseInsensitive {
		rule.Path, rule.PathPrefix, path = fold(rule.Path), fold(rule.PathPrefix), fold(path)
		rule.PathTemplate = fold(rule.PathTemplate)
	}
	hostOK := len(rule.Hosts) == 0 || slices.ContainsFunc(rule.Hosts, func(p string) bool {
		return p == host || p[0] == '*' && strings.HasSuffix(host, p[1:])
	})
	pathOK := pathMatchesSimply(rule, path)
	if rule.OptionalSlash && path != "/" {
		other, cut := strings.CutSuffix(path, "/")
		if !cut {
			other = path + "/"
		}
		pathOK = pathOK || pathMatchesSimply(rule, other)
	}
	return hostOK && pathOK && (len(rule.Methods) == 0 || slices.Contains(rule.Methods, method))
}

func pathMatchesSimply(rule Rule, path string) bool {
	switch {
	case rule.Path != "":
		return path == rule.Path
	case strings.HasSuffix(rule.PathPrefix, "/"):
		return strings.HasPrefix(path, rule.PathPrefix)
	case rule.PathPrefix != "":
		return strings.HasPrefix(path+"/", rule.PathPrefix+"/")
	case rule.PathTemplate != "":
		pattern, parts := strings.Split(rule.PathTemplate, "/"), strings.Split(path, "/")
		if last := len(pattern) - 1; pattern[last] == "{rest...}" && len(parts) >= last {
			pattern, parts = pattern[:last], parts[:last]
		}
		return slices.EqualFunc(pattern, parts, func(p, s string) bool { return p == s || p == "{x}" && s != "" })
	}
	return true
}

// The foldings, for the letters that the tests have.
var wideSimply = strings.NewReplacer("A", "a", "B", "b", "S", "s", "\u017f", "s").Replace

var narrowSimply = strings.NewReplacer("A", "a", "B", "b", "S", "s").Replace

// firstSimply is the number of the first rule of the list that matches, from 1, or
// 0, and whether it is the same for every upstream.
func firstSimply(rules []Rule, method, host, path string) (number int, once bool) {
	first := func(fold func(string) string) int {
		return 1 + slices.IndexFunc(rules, func(rule Rule) bool { return matchesSimply(rule, fold, method, host, path) })
	}
	number = first(narrowSimply)
	return number, number == first(wideSimply)
}

// TestRandomRules compares lists of rules, found by their index, with the first
// that matches in few words; and where one rule covers another, every request
// that the other matches is matched by the first.
func TestRandomRules(t *testing.T) {
	r := new(dice)
	rounds := 300
	if os.Getenv("COATCHECK_FULL") != "" {
		rounds = 10_000
	}
	covered, doubtful := 0, 0
	for range rounds {
		var rules []Rule
		for range 1 + r.IntN(8) {
			rules = append(rules, randomRule(r))
		}
		list, err := Compile(rules)
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			method, host, path := pick(r, someMethods), pick(r, someHosts), randomPath(r)
			want, once := firstSimply(rules, method, host, path)
			got, sure := list.Find(method, host, path)
			if sure != once || sure && got != want {
				t.Fatalf("%s %s %s: rule %d, %v, want %d, %v, of %+v", method, host, path, got, sure, want, once, rules)
			}
			if !once {
				doubtful++
				continue
			}
			for _, a := range rules {
				for _, b := range rules {
					if matchesSimply(b, narrowSimply, method, host, path) && a.Covers(b) {
						covered++
						if !matchesSimply(a, narrowSimply, method, host, path) {
							t.Fatalf("%+v covers %+v, but not for %s %s %s", a, b, method, host, path)
						}
					}
				}
			}
		}
	}
	if covered < 4*rounds || doubtful < rounds/10 {
		t.Errorf("only %d cases of a covered rule, %d of a path that can be read in two ways: the test shows little", covered, doubtful)
	}
}

func TestCovers(t *testing.T) {
	for _, test := range []struct {
		a, b Rule
		want bool
	}{
		{Rule{}, Rule{Path: "/a"}, true},
		{Rule{PathPrefix: "/"}, Rule{}, true},
		{Rule{PathPrefix: "/a"}, Rule{Path: "/a"}, true},
		{Rule{PathPrefix: "/a"}, Rule{PathTemplate: "/a/{b}"}, true},
		{Rule{PathPrefix: "/a/"}, Rule{PathPrefix: "/a"}, false},
		{Rule{PathTemplate: "/{a}/b"}, Rule{Path: "/x/b"}, true},
		{Rule{PathTemplate: "/{a}"}, Rule{PathPrefix: "/x"}, false},
		{Rule{PathTemplate: "/x/{rest...}"}, Rule{PathPrefix: "/x/"}, true},
		{Rule{PathTemplate: "/x/{rest...}"}, Rule{PathPrefix: "/x"}, true},
		{Rule{PathTemplate: "/x/{rest...}"}, Rule{Path: "/x"}, true},
		{Rule{PathPrefix: "/x/"}, Rule{PathTemplate: "/x/{rest...}"}, false},
		{Rule{Path: "/x", CaseInsensitive: true}, Rule{Path: "/X"}, true},
		{Rule{Path: "/x"}, Rule{Path: "/x", CaseInsensitive: true}, false},
		{Rule{Path: "/1"}, Rule{Path: "/1", CaseInsensitive: true}, true},
		{Rule{PathPrefix: "/x"}, Rule{Path: "/x/y", CaseInsensitive: true}, false},
		{Rule{PathTemplate: "/{a}"}, Rule{Path: "/x", CaseInsensitive: true}, true},
		{Rule{Path: "/x", OptionalSlash: true}, Rule{Path: "/x/"}, true},
		{Rule{Path: "/x"}, Rule{Path: "/x", OptionalSlash: true}, false},
		{Rule{Path: "/x/", OptionalSlash: true}, Rule{Path: "/x", OptionalSlash: true}, true},
		{Rule{PathPrefix: "/x/", OptionalSlash: true}, Rule{PathPrefix: "/x"}, true},
		{Rule{PathPrefix: "/x/"}, Rule{Path: "/x", OptionalSlash: true}, false},
		{Rule{Methods: []string{"GET"}}, Rule{}, false},
		{Rule{Hosts: []string{"*.example"}}, Rule{Hosts: []string{"*.a.example", "b.example"}}, true},
		{Rule{Hosts: []string{"a.example"}}, Rule{Hosts: []string{"*.a.example"}}, false},
		{Rule{Path: "a"}, Rule{Path: "a"}, false},
	} {
		if got := test.a.Covers(test.b); got != test.want {
			t.Errorf("%v covers %v: %v", test.a, test.b, got)
		}
	}
}
