package policyfile

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/extauthz/rules"
)

// reference is the first rule that matches, from 1, or 0: written anew, as the
// documentation says it, to hold the server and the analysis to.
func reference(rules []extauthz.Rule, host, method, path string) int {
	for i, r := range rules {
		hosts := len(r.Hosts) == 0 || slices.ContainsFunc(r.Hosts, func(h string) bool {
			below, wild := strings.CutPrefix(h, "*")
			return h == host || wild && strings.HasSuffix(host, below)
		})
		methods := len(r.Methods) == 0 || slices.Contains(r.Methods, method)
		if hosts && methods && (referencePath(r, path) || r.OptionalSlash && path != "/" && referencePath(r, toggled(path))) {
			return i + 1
		}
	}
	return 0
}

// toggled is the path with a slash more or less at its end.
func toggled(path string) string {
	if shorter, cut := strings.CutSuffix(path, "/"); cut {
		return shorter
	}
	return path + "/"
}

func referencePath(r extauthz.Rule, path string) bool {
	if r.CaseInsensitive { // parameters are a small x, y and rest
		r.Path, r.PathPrefix, r.PathTemplate, path = strings.ToLower(r.Path), strings.ToLower(r.PathPrefix), strings.ToLower(r.PathTemplate), strings.ToLower(path)
	}
	below := func(path, prefix string) bool {
		return path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
	}
	fits := func(template string) bool {
		want, got := strings.Split(template, "/"), strings.Split(path, "/")
		for i, segment := range want {
			switch {
			case strings.HasSuffix(segment, "...}"):
				return true
			case i >= len(got), strings.HasPrefix(segment, "{") && got[i] == "", !strings.HasPrefix(segment, "{") && segment != got[i]:
				return false
			}
		}
		return len(got) == len(want)
	}
	return (r.Path == "" || r.Path == path) && (r.PathPrefix == "" || below(path, r.PathPrefix)) && (r.PathTemplate == "" || fits(r.PathTemplate))
}

// chosen is the rule, from 1, or 0, that a server with the file's policies decides by.
func chosen(t *testing.T, server *extauthz.Server, host, method, path string) int {
	t.Helper()
	r := Request{Host: host, Method: method, Path: path}
	explanation, err := server.Explain(t.Context(), r.CheckRequest(nil), extauthz.WithSession(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if explanation.Rule == nil {
		return 0
	}
	return explanation.Rule.Number
}

// The universe in which rules are made up, and all requests that there are.
var (
	someHosts   = []string{"a.example", "b.example", "x.b.example", "c.example"}
	hostLists   = [][]string{nil, nil, {"a.example"}, {"b.example", "a.example"}, {"*.b.example"}, {"*.example"}}
	someMethods = []string{"GET", "POST", "HEAD", "PUT"}
	methodLists = [][]string{nil, nil, {"GET"}, {"GET", "HEAD"}, {"POST", "GET"}}
	somePaths   = []string{"/", "/a", "/a/", "/a/b", "/a/b/", "/b", "/b/a", "/b/b", "/ab", "/a/b/c", "/c", "/c/", "/A", "/A/b", "/A/"}
	pathKinds   = []extauthz.Rule{
		{}, {Path: "/"}, {Path: "/a"}, {Path: "/a/"}, {Path: "/a/b"}, {PathPrefix: "/"}, {PathPrefix: "/a"}, {PathPrefix: "/a/"}, {PathPrefix: "/a/b"},
		{PathTemplate: "/{x}"}, {PathTemplate: "/a/{x}"}, {PathTemplate: "/{x}/b"}, {PathTemplate: "/{x}/{y}"}, {PathTemplate: "/a/{rest...}"}, {PathTemplate: "/{rest...}"},
		{Path: "/A"}, {PathPrefix: "/A/b"},
	}
)

// A dice falls the same way in each run (Knuth's MMIX generator).
type dice uint64

func (d *dice) below(n int) int {
	*d = *d*6364136223846793005 + 1442695040888963407
	return int(*d>>33) % n
}

// rounds are n, or a tenth of it where time is short.
func rounds(n int) int {
	if os.Getenv("COATCHECK_FULL") == "" {
		return n / 10
	}
	return n
}

func pick[T any](d *dice, from []T) T { return from[d.below(len(from))] }

func someRules(random *dice) []extauthz.Rule {
	var rules []extauthz.Rule
	for range 2 + random.below(4) {
		r := pick(random, pathKinds)
		r.Hosts, r.Methods = pick(random, hostLists), pick(random, methodLists)
		r.CaseInsensitive, r.OptionalSlash = random.below(4) == 0, random.below(4) == 0
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
	base := extauthz.PolicySet{Policies: []extauthz.Policy{{Name: "p"}, {Name: "q"}, {Name: "rest"}}, Default: "rest"}
	named, missed, unreached := 0, 0, 0
	for range rounds(1000) {
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
					if got := chosen(t, server, host, method, path); got != want {
						t.Fatalf("%s %s%s: rule %d, and by the reference %d: %+v", method, host, path, got, want, f.Policies.Rules)
					}
				}
			}
		}
		d, s := new(decoder), new(source)
		for i, r := range f.Policies.Rules {
			s.rules = append(s.rules, ruleSource{Rule: r, line: i + 1})
		}
		d.unreachable(s, f)
		said := fmt.Sprint(d.Err(), f.Warnings)
		for i := range f.Policies.Rules {
			never := strings.Contains(said, fmt.Sprintf("line %d: this rule is never", i+1)) || strings.Contains(said, fmt.Sprintf("line %d: this rule changes nothing", i+1))
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
	if named < rounds(300) || missed > named/5 {
		t.Errorf("%d named, %d missed", named, missed)
	}
}

// TestBypasses compares, for thousands of lists of rules, the slips that the analysis
// names with what the reference says of the same requests, and looks among all
// requests of the universe for slips that it does not name.
func TestBypasses(t *testing.T) {
	random := new(dice)
	named := []policySource{
		{Policy: extauthz.Policy{Name: "p", AnyRole: []string{"p"}}}, {Policy: extauthz.Policy{Name: "q"}}, {Policy: extauthz.Policy{Name: "rest", Session: "none"}},
		{Policy: extauthz.Policy{Name: "nobody", AllRoles: []string{"p", "q"}}},
	}
	found, missed := 0, 0
	for range rounds(1000) {
		s := &source{named: named, defaultPolicy: pick(random, []string{"rest", "q", "nobody"})}
		some := someRules(random)
		for i, r := range some {
			s.rules = append(s.rules, ruleSource{Rule: r, line: i + 1, caseInsensitive: said{r.CaseInsensitive, random.below(2) == 0}, optionalSlash: said{r.OptionalSlash, random.below(2) == 0}})
		}
		list, err := rules.Compile(some)
		if err != nil {
			t.Fatal(err)
		}
		look := newSearch(s, list)
		policyOf := func(number int) extauthz.Policy {
			if number == 0 {
				return look.policies[s.defaultPolicy]
			}
			return look.policies[some[number-1].Policy]
		}
		for i, r := range s.rules {
			for _, b := range bypasses {
				slips := func(q probe) bool {
					return slices.ContainsFunc(b.twins(r, q), func(twin probe) bool {
						to := reference(some, twin.host, twin.method, twin.path)
						meant := to > 0 && b.meant != nil && b.meant(some[to-1], twin)
						exception := 0 < to && to <= i && q.path != pathSamples(r.Rule)[0]
						return !meant && !exception && !policyOf(to).AtLeast(policyOf(i+1))
					})
				}
				sample, twin, to, ok := look.slip(b, r, i+1, look.samples(r, i+1))
				if ok {
					found++
					if reference(some, sample.host, sample.method, sample.path) != i+1 || !slips(sample) || reference(some, twin.host, twin.method, twin.path) != to.line {
						t.Fatalf("%v slips as %v past rule %d, to %v: %+v", sample, twin, i+1, to, some)
					}
					continue
				}
				for _, q := range universe() {
					if reference(some, q.host, q.method, q.path) == i+1 && slips(q) {
						missed++
						break
					}
				}
			}
		}
	}
	t.Logf("%d slips named, %d not", found, missed)
	if found < rounds(2000) || missed > found/20 {
		t.Errorf("%d slips named, %d not", found, missed)
	}
}

func universe() []probe {
	var all []probe
	for _, host := range someHosts {
		for _, method := range someMethods {
			for _, path := range somePaths {
				all = append(all, probe{method, host, path})
			}
		}
	}
	return all
}

// TestWarnings: what could be meant, but probably is not. Each warning names the
// rule, the request that gets around it, what it falls to, and the cure.
func TestWarnings(t *testing.T) {
	const head = "%sdefault_policy: public\npolicies:\n- {name: public, session: none}\n- name: users\n- {name: admins, any_role: [admin]}\nrules:\n"
	const told = "case_insensitive: false\n"
	const all = "\ntests:\n- {name: x, request: {host: a, path: /}, route: {policy: %s}, expect: {verdict: deny}}"
	const me = "\n- {path_prefix: /me, policy: users}"
	const slashes = "; write path_prefix, or optional_slash: true (false says that the upstreams tell the two apart)"
	const letters = "; write case_insensitive: true (false says that the upstreams tell the two apart)"
	const others = "; name the methods that need less in a rule before this one, and leave methods out of this one"
	const hosts = "; set a strict default_policy, and name the hosts that need less in rules"
	for _, test := range []struct {
		head, rules string
		want        []string
	}{
		{told, "- {path_prefix: /admin, policy: admins}" + me, nil},
		{told, "- {path_prefix: /admin, policy: admins}", []string{"line 5: no rule, default_policy or test names policy users"}},
		{told, "- {path_prefix: /admin, policy: admins}" + fmt.Sprintf(all, "users"), nil},

		// Slashes.
		{told, "- {path: /admin, policy: admins}" + me,
			[]string{"line 8: this rule lets GET /admin/ past, to policy public by default_policy: many upstreams take it for GET /admin" + slashes}},
		{told, "- {path: /admin/, policy: admins}" + me, []string{"line 8: this rule lets GET /admin past"}},
		{told, "- {path_prefix: /admin/, policy: admins}" + me, []string{"line 8: this rule lets GET /admin past, to policy public by default_policy: many upstreams take it for GET /admin/" + slashes}},
		{told, "- {path_template: '/admin/{x}', policy: admins}" + me, []string{"line 8: this rule lets GET /admin/0/ past"}},
		{told, "- {path_template: '/admin/{x}', policy: admins}\n- {path_prefix: /admin, policy: users}",
			[]string{"line 8: this rule lets GET /admin/0/ past, to policy users by the rule on line 9: many upstreams take it for GET /admin/0" + slashes}},
		{told, "- {path_template: '/admin/{x...}', policy: admins}" + me, nil},
		{told, "- {path: /admin, policy: admins, optional_slash: true}" + me, nil},
		{told, "- {path: /admin, policy: admins, optional_slash: false}" + me, nil},
		{told + "optional_slash: true\n", "- {path: /admin, policy: admins}" + me, nil},
		{told + "optional_slash: true\n", "- {path: /admin, policy: admins, optional_slash: false}" + me, nil},
		{told, "- {path: /in, policy: public}\n- {path_prefix: /, policy: users}" + fmt.Sprintf(all, "admins"), nil}, // an exception
		{told, "- {path_prefix: /admin/, policy: public}\n- {path: /admin, policy: admins}" + me, []string{"line 9: this rule lets GET /admin/ past, to policy public by the rule on line 8"}},

		// Letters.
		{"", "- {path_prefix: /admin, policy: admins}" + fmt.Sprintf(all, "users"),
			[]string{"line 7: this rule lets GET /ADMIN past, to policy public by default_policy: upstreams that ignore letter case take it for GET /admin" + letters}},
		{"", "- {path_prefix: /ADMIN, policy: admins}" + fmt.Sprintf(all, "users"), []string{"line 7: this rule lets GET /admin past"}},
		{"", "- {path_template: '/büro/{x}/', policy: admins, optional_slash: true}" + fmt.Sprintf(all, "users"), []string{"line 7: this rule lets GET /BÜRO/0"}},
		{"", "- {path_prefix: /42, policy: admins}" + fmt.Sprintf(all, "users"), nil},
		{"", "- {path_prefix: /admin, policy: admins, case_insensitive: true}" + fmt.Sprintf(all, "users"), nil},
		{"", "- {path_prefix: /admin, policy: admins, case_insensitive: false}" + fmt.Sprintf(all, "users"), nil},
		{"case_insensitive: true\n", "- {path_prefix: /admin, policy: admins}" + me, nil},
		{"case_insensitive: true\n", "- {path_prefix: /admin, policy: admins}\n- {path: /Admin/x, policy: users}" + me, []string{"never"}},

		// Methods.
		{told, "- {path_prefix: /admin, methods: [GET], policy: admins}" + me, []string{
			"line 8: this rule lets HEAD /admin past, to policy public by default_policy: upstreams answer it as GET /admin; add HEAD to the methods",
			"line 8: this rule lets POST /admin past, to policy public by default_policy: an upstream may answer it as GET /admin" + others}},
		{told, "- {path_prefix: /admin, methods: [GET, HEAD], policy: admins}" + me, []string{"line 8: this rule lets POST /admin past"}},
		{told, "- {path_prefix: /admin, methods: [GET, HEAD, POST, PUT, PATCH, DELETE], policy: admins}" + me, []string{"line 8: this rule lets OPTIONS /admin past"}},
		{told, "- {path_prefix: /admin, methods: [POST, PUT], policy: admins}" + me, []string{"line 8: this rule lets PATCH /admin past, to policy public by default_policy: an upstream may answer it as POST /admin" + others}},
		{told, "- {path_prefix: /admin, methods: [POST, PUT, PATCH, DELETE], policy: admins}" + me, nil},
		{told, "- {path_prefix: /admin, methods: [DELETE], policy: admins}\n- {path_prefix: /admin, methods: [GET, HEAD, POST, PUT, PATCH], policy: users}\n- {path_prefix: /admin, policy: admins}", nil},
		{told, "- {path_prefix: /admin, methods: [GET, HEAD], policy: users}\n- {path_prefix: /admin, policy: admins}", nil},

		// Hosts.
		{told, "- {hosts: [a.example], path_prefix: /admin, policy: admins}" + me,
			[]string{"line 8: this rule lets GET other.invalid/admin past, to policy public by default_policy: where Envoy leads other hosts to this upstream, it is GET a.example/admin" + hosts}},
		{told, "- {hosts: ['*.a.example'], path_prefix: /admin, policy: admins}\n- {path_prefix: /admin, hosts: [a.example], policy: users}\n- {path_prefix: /admin, policy: admins}", nil},
		{told, "- {hosts: ['*.a.example'], path_prefix: /admin, policy: admins}\n- {path_prefix: /, policy: users}", []string{"line 8: this rule lets GET other.invalid/admin past, to policy users by the rule on line 9"}},
		{told, "- {hosts: ['*.a.example', a.example], policy: admins}\n- {hosts: [b.example], policy: public}\n- {policy: admins}" + fmt.Sprintf(all, "users"), nil},
		{told, "- {hosts: [a.example, b.example], path: /admin, policy: admins}\n- {hosts: [a.example], path: /admin/, policy: admins}\n- {hosts: [b.example, a.example], policy: users}\n- {policy: admins}",
			[]string{"line 8: this rule lets GET b.example/admin/ past, to policy users by the rule on line 10"}},

		// Rules that do nothing.
		{told, "- {path_prefix: /a, policy: users}\n- {path: /a/b, policy: users}" + fmt.Sprintf(all, "admins"), []string{"line 9: this rule changes nothing: the one on line 8"}},
		{told, "- {path_template: '/a/{x...}', policy: users}\n- {path: /a, policy: users}" + fmt.Sprintf(all, "admins"), []string{"line 9: this rule changes nothing: the one on line 8"}},
		{told, "- {hosts: [a.example], path_prefix: /a, policy: users}\n- {hosts: [a.example, b.example], path_prefix: /a, policy: admins}\n- {path_prefix: /a, policy: admins}",
			[]string{"line 9: for a part of its hosts and methods this rule is never asked: the one on line 8"}},
	} {
		f, err := Parse(fmt.Appendf(nil, head+test.rules, test.head), extauthz.Config{})
		if err != nil {
			if len(test.want) != 1 || !strings.Contains(err.Error(), test.want[0]) {
				t.Errorf("%s: %v", test.rules, err)
			}
			continue
		}
		if !slices.EqualFunc(f.Warnings, test.want, strings.HasPrefix) {
			t.Errorf("%s%s:\n%s\nwant\n%s", test.head, test.rules, strings.Join(f.Warnings, "\n"), strings.Join(test.want, "\n"))
		}
	}
}

// TestHidden: a condition that holds because a header is absent is named.
func TestHidden(t *testing.T) {
	const text = "default_policy: a\npolicies:\n- {name: a, condition: '!(\"x-flag\" in request.headers)'}\n- {name: b, condition: 'has(request.headers.x)', origins: []}\n" +
		"rules:\n- {path: /42, policy: b, optional_slash: true}\n"
	f, err := Parse([]byte(text), extauthz.Config{Bearer: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Warnings) < 1 || !strings.HasPrefix(f.Warnings[0], "line 3: the condition of policy a can hold because header x-flag is absent") {
		t.Errorf("%q", f.Warnings)
	}
	want := []string{"accept", "accept-language", "authorization", "connection", "content-type", "cookie", "origin", "sec-fetch-*", "traceparent", "upgrade", "x", "x-flag", "x-request-id"}
	if got := f.RequestHeaders(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
