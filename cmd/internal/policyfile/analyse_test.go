package policyfile

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz"
)

// reference is the first rule that matches, from 1, or 0: written anew, as the
// documentation says it, to hold the server and the analysis to.
func reference(rules []extauthz.Rule, host, method, path string) int {
	below := func(path, prefix string) bool {
		return path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
	}
	fits := func(template string) bool {
		want, got := strings.Split(template, "/"), strings.Split(path, "/")
		for i, segment := range want {
			switch {
			case strings.HasSuffix(segment, "...}"):
				return len(got) > i
			case i >= len(got), strings.HasPrefix(segment, "{") && got[i] == "", !strings.HasPrefix(segment, "{") && segment != got[i]:
				return false
			}
		}
		return len(got) == len(want)
	}
	for i, r := range rules {
		hosts := len(r.Hosts) == 0 || slices.ContainsFunc(r.Hosts, func(h string) bool {
			below, wild := strings.CutPrefix(h, "*")
			return h == host || wild && strings.HasSuffix(host, below)
		})
		methods := len(r.Methods) == 0 || slices.Contains(r.Methods, method)
		paths := (r.Path == "" || r.Path == path) && (r.PathPrefix == "" || below(path, r.PathPrefix)) && (r.PathTemplate == "" || fits(r.PathTemplate))
		if hosts && methods && paths {
			return i + 1
		}
	}
	return 0
}

// The universe in which rules are made up, and all requests that there are.
var (
	someHosts   = []string{"a.example", "b.example", "x.b.example", "c.example"}
	hostLists   = [][]string{nil, nil, {"a.example"}, {"b.example", "a.example"}, {"*.b.example"}, {"*.example"}}
	someMethods = []string{"GET", "POST", "HEAD", "PUT"}
	methodLists = [][]string{nil, nil, {"GET"}, {"GET", "HEAD"}, {"POST", "GET"}}
	somePaths   = []string{"/", "/a", "/a/", "/a/b", "/a/b/", "/b", "/b/a", "/b/b", "/ab", "/a/b/c", "/c", "/c/"}
	pathKinds   = []extauthz.Rule{
		{}, {Path: "/"}, {Path: "/a"}, {Path: "/a/"}, {Path: "/a/b"}, {PathPrefix: "/"}, {PathPrefix: "/a"}, {PathPrefix: "/a/"}, {PathPrefix: "/a/b"},
		{PathTemplate: "/{x}"}, {PathTemplate: "/a/{x}"}, {PathTemplate: "/{x}/b"}, {PathTemplate: "/{x}/{y}"}, {PathTemplate: "/a/{rest...}"}, {PathTemplate: "/{rest...}"},
	}
)

// A dice falls the same way in each run (Knuth's MMIX generator).
type dice uint64

func (d *dice) below(n int) int {
	*d = *d*6364136223846793005 + 1442695040888963407
	return int(*d>>33) % n
}

func pick[T any](d *dice, from []T) T { return from[d.below(len(from))] }

func someRules(random *dice) []extauthz.Rule {
	var rules []extauthz.Rule
	for range 2 + random.below(4) {
		r := pick(random, pathKinds)
		r.Hosts, r.Methods = pick(random, hostLists), pick(random, methodLists)
		r.Policy = pick(random, []string{"p", "q"})
		rules = append(rules, r)
	}
	return rules
}

// TestUnreachable compares, for thousands of lists of rules, the server with the
// reference on every request of the universe, and the analysis with what the
// requests have shown: a rule that some request reaches is never called
// unreachable.
func TestUnreachable(t *testing.T) {
	random := new(dice)
	base := extauthz.Policies{Policies: []extauthz.Policy{{Name: "p"}, {Name: "q"}, {Name: "rest"}}, Default: "rest"}
	named, missed, unreached := 0, 0, 0
	for range 1000 {
		f := &File{Policies: base}
		f.Policies.Rules = someRules(random)
		server, err := f.server()
		if err != nil {
			t.Fatal(err)
		}
		reached := make([]bool, len(f.Policies.Rules)+1)
		for _, host := range someHosts {
			for _, method := range someMethods {
				for _, path := range somePaths {
					want := reference(f.Policies.Rules, host, method, path)
					reached[want] = true
					if got := f.chosen(server, Request{Host: host, Method: method, Path: path}).rule; got != want {
						t.Fatalf("%s %s%s: rule %d, and by the reference %d: %+v", method, host, path, got, want, f.Policies.Rules)
					}
				}
			}
		}
		d, s := new(decoder), new(source)
		for i, r := range f.Policies.Rules {
			s.rules = append(s.rules, ruleSource{r, i + 1})
		}
		d.unreachable(s, f)
		said := fmt.Sprint(d.mistakes, f.Warnings)
		for i := range f.Policies.Rules {
			never := strings.Contains(said, fmt.Sprintf("{%d this rule is never", i+1)) || strings.Contains(said, fmt.Sprintf("line %d: this rule changes nothing", i+1))
			switch {
			case never && reached[i+1]:
				t.Fatalf("rule %d is reached, and is said not to be: %s: %+v", i+1, said, f.Policies.Rules)
			case never:
				named, unreached = named+1, unreached+1
			case !reached[i+1]:
				missed, unreached = missed+1, unreached+1
			}
		}
	}
	t.Logf("of %d rules that no request reaches, %d are named, and %d are reached by no request of this universe", unreached, named, missed)
	if named < 300 || missed > named/5 {
		t.Errorf("%d named, %d missed", named, missed)
	}
}

// TestWarnings: what could be meant, but probably is not.
func TestWarnings(t *testing.T) {
	const head = "default_policy: public\npolicies:\n- {name: public, session: none}\n- name: users\n- {name: admins, any_role: [admin]}\nrules:\n"
	const all = "\ntests:\n- {name: x, request: {host: a, path: /}, route: {policy: %s}, expect: {verdict: deny}}"
	for _, test := range []struct {
		rules string
		want  []string
	}{
		{"- {path_prefix: /admin, policy: admins}\n- {path_prefix: /me, policy: users}", nil},
		{"- {path_prefix: /admin, policy: admins}", []string{"line 4: no rule, default_policy or test names policy users"}},
		{"- {path_prefix: /admin, policy: admins}" + fmt.Sprintf(all, "users"), nil},
		{"- {path: /admin, policy: admins}\n- {path_prefix: /me, policy: users}",
			[]string{"line 7: this rule lets GET /admin/ past, to policy public: many upstreams take it for GET /admin"}},
		{"- {path: /admin/, policy: admins}\n- {path_prefix: /me, policy: users}", []string{"line 7: this rule lets GET /admin past"}},
		{"- {path_prefix: /admin/, policy: admins}\n- {path_prefix: /me, policy: users}", []string{"line 7: this rule lets GET /admin past"}},
		{"- {path_template: '/admin/{x}', policy: admins}\n- {path_prefix: /me, policy: users}", []string{"line 7: this rule lets GET /admin/0/ past"}},
		{"- {path_template: '/admin/{x}', policy: admins}\n- {path_prefix: /admin, policy: users}", []string{"line 7: this rule lets GET /admin/0/ past, to policy users"}},
		{"- {path_template: '/admin/{x...}', policy: admins}\n- {path: /admin, policy: admins}\n- {path_prefix: /me, policy: users}", nil},
		{"- {path_prefix: /admin, methods: [GET], policy: admins}\n- {path_prefix: /me, policy: users}",
			[]string{"line 7: this rule lets HEAD /admin past, to policy public: many upstreams take it for GET /admin"}},
		{"- {path_prefix: /admin, methods: [GET, HEAD], policy: admins}\n- {path_prefix: /me, policy: users}", nil},
		{"- {path: /in, policy: public}\n- {path_prefix: /, policy: users}" + fmt.Sprintf(all, "admins"), nil}, // the twin is asked for more
		{"- {path_prefix: /a, policy: users}\n- {path: /a/b, policy: users}" + fmt.Sprintf(all, "admins"), []string{"line 8: this rule changes nothing: the one on line 7"}},
		{"- {hosts: [a.example], path_prefix: /a, policy: users}\n- {hosts: [a.example, b.example], path_prefix: /a, policy: admins}",
			[]string{"line 8: for a part of its hosts and methods this rule is never asked: the one on line 7"}},
	} {
		f, err := Parse([]byte(head+test.rules), extauthz.Config{})
		if err != nil {
			t.Errorf("%s: %v", test.rules, err)
			continue
		}
		if !slices.EqualFunc(f.Warnings, test.want, strings.HasPrefix) {
			t.Errorf("%s:\n%q, want\n%q", test.rules, f.Warnings, test.want)
		}
	}
}
