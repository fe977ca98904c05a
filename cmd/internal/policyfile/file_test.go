package policyfile

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coatcheck/coatcheck/extauthz"
)

const good = `
default_policy: signed-in
policies:
- name: public
  session: none
- name: signed-in
- name: admins
  any_role: [admin, owner]
  all_roles: [staff]
  condition: session.age < duration("5m")
  headers: [id, roles]
  refusal: {forbidden: Ask an administrator.}
  preflight: true
  origins: [https://app.example]
- name: tenants
  session: required
  condition: request.segments[1] == session.fields["tenant"]
  headers: []
  shadow: true
refusal:
  login_url: /login
case_insensitive: true
rules:
- path_prefix: /assets
  policy: public
  case_insensitive: false
- hosts: [shop.example, "*.shop.example"]
  path_prefix: /admin
  policy: admins
- path_template: /tenants/{tenant}/{rest...}
  policy: tenants
- path: /admin
  optional_slash: true
  policy: admins
- path_prefix: /admin
  policy: admins
tests:
- name: anybody gets the pictures
  request: {host: shop.example, path: /assets/a.png}
  expect: {verdict: allow, reason: public, policy: public, rule: 1, headers: {x-user-id: ""}}
- name: nobody
  request: {host: shop.example, path: /x}
  session: none
  expect: {verdict: deny, status: 401, reason: no_cookie, policy: signed-in}
- name: an administrator
  request: {host: api.shop.example, method: DELETE, path: "/admin/users/1?force", headers: {Origin: https://app.example}, source: 10.0.0.1, principal: web}
  session: {user_id: "42", username: ada, roles: [owner, staff], age: 1m}
  expect: {verdict: allow, reason: ok, policy: admins, rule: 2, headers: {x-user-id: "42", x-user-name: "", X-User-Roles: "owner,staff"}}
- name: long ago
  request: {host: shop.example, path: /admin}
  session: {user_id: "42", roles: [owner, staff], age: 6m}
  expect: {verdict: deny, status: 403}
- name: by the route's own policy
  route: {policy: admins}
  request: {host: shop.example, path: /assets/a.png}
  session: {user_id: "42", roles: [staff]}
  expect: {verdict: deny, status: 403, reason: missing_role, policy: admins}
- name: another tenant, in shadow
  request: {host: shop.example, path: /tenants/acme/x}
  session: {user_id: "42", fields: {tenant: other}}
  expect: {verdict: allow, policy: tenants}
`

func TestGood(t *testing.T) {
	f, err := Parse([]byte(good), extauthz.Config{})
	if err != nil {
		t.Fatal(err)
	}
	failures, err := f.RunTests()
	if err != nil || failures != nil || len(f.Tests) != 6 || len(f.Policies.Policies) != 4 || len(f.Policies.Rules) != 5 {
		t.Errorf("%v, %v, %+v", err, failures, f)
	}
	p := f.Policies.Policies[2]
	if p.Condition.String() != `session.age < duration("5m")` || !p.Preflight || p.Shadow || p.Headers == nil || p.Origins[0] != "https://app.example" {
		t.Errorf("%+v", p)
	}
	if p := f.Policies.Policies[3]; p.Headers == nil || len(p.Headers) != 0 || !p.Shadow {
		t.Errorf("an empty list is not nil: %+v", p)
	}
	if p := f.Policies.Policies[0]; p.Headers != nil || p.Origins != nil || p.Condition != nil {
		t.Errorf("what is left out is nil: %+v", p)
	}
	if s := f.Tests[2].Session; s.Age != time.Minute || s.Username != "ada" {
		t.Errorf("%+v", s)
	}
	if r := f.Policies.Rules; r[0].CaseInsensitive || !r[1].CaseInsensitive || r[1].OptionalSlash || !r[3].CaseInsensitive || !r[3].OptionalSlash {
		t.Errorf("what the file says is for rules that do not say it: %+v", r)
	}
	if len(f.Warnings) != 0 {
		t.Errorf("warnings: %q", f.Warnings)
	}
}

// TestMistakes: each is named with its line.
func TestMistakes(t *testing.T) {
	const head = "default_policy: a\npolicies:\n- name: a\n" // three lines
	for _, test := range []struct{ text, want string }{
		{"", "line 1: it is empty"},
		{"a: b: c", "line 1: it is not YAML"},
		{"\n\tx: y", "it is not YAML"},
		{"- a", "line 1: it is not a file of policies"},
		{head + "rules:\n- {path: /a?b, policy: a}", "line 5: it is not YAML: did not find expected"},
		{"hunter2", "line 1: it is not a file of policies"},
		{"a: *hunter2", "line 1: it is not YAML"},
		{head + "---\na: b", "more than one YAML document"},
		{"polices: []", "line 1: the file has no key polices; did you mean policies?"},
		{head + "rules:\n", "line 4: rules has no value"},
		{head + "rules: {}", "line 4: rules is a list, and not keys with values"},
		{head + "rules: &a []\ntests: *a", "aliases"},
		{head + "rules:\n- &r {path: /a, policy: a}\n- *r", "aliases"},
		{head + "rules:\n- {<<: {path: /a}, policy: a}", "a key of a rule is text, and not <<"},
		{head + "default_policy: a", "line 4: the file has default_policy twice"},
		{head + "  session: never", "line 4: session: never is not one of required, optional, none"},
		{head + "  any_role: admin", "line 4: any_role is a list, and not admin"},
		{head + "  any_role: [1]", "line 4: any_role is text, and not 1; put it in quotes"},
		{head + "  any_role: []", "line 3: policy \"a\": any role: an empty list"},
		{head + "  all_roles: ['']", "line 3: policy \"a\""},
		{head + "  session: none\n  any_role: [b]", "line 3: policy \"a\""},
		{head + "  condition: session.age", "line 4: condition: a condition is true or false"},
		{head + "  condition: sesion.age > duration('5m')", "line 4: condition: column 7: undeclared reference to 'sesion.age' (did you mean 'session.age'?)"},
		{head + "  condition: true", "line 4: condition is text, and not true; put it in quotes"},
		{head + "  condition: 'request.headers[\"x-user-id\"] == \"a\"'", "line 3: policy \"a\": condition"},
		{head + "  headers: [tenant]", "line 3: policy \"a\""},
		{head + "  shadow: yes please", "line 4: shadow is true or false, and not yes please"},
		{head + "  refusal: {login_url: login}", "line 3: policy \"a\": refusal"},
		{head + "  refusal: {html: '{{.Nobody}}'}", "line 3: policy \"a\": refusal"},
		{head + "  refusal: {htm: a}", "line 4: a refusal has no key htm; did you mean html?"},
		{head + "  origins: [app.example]", "line 3: policy \"a\""},
		{head + "- name: a", "line 4: policy a is defined on line 3 already"},
		{head + "- session: none", "line 4: a policy has no name"},
		{head + "- name: a b", "line 4: policy \"a b\": name"},
		{head + "refusal: {login_url: login}", "line 4: refusal"},
		{"default_policy: signd-in\npolicies:\n- name: signed-in", "line 1: there is no policy signd-in; did you mean signed-in?"},
		{head + "rules:\n- path: /a", "line 5: a rule has no policy"},
		{head + "rules:\n- {path: /a, policy: b}", "line 5: there is no policy b"},
		{head + "rules:\n- {path: /a, path_prefix: /b, policy: a}", "line 5: "},
		{head + "rules:\n- {path: '/a?b', policy: a}", "line 5: "},
		{head + "rules:\n- {path: '/a#b', policy: a}", "line 5: "},
		{head + "rules:\n- {path: /a%2fb, policy: a}", "line 5: "},
		{head + "rules:\n- {path: /a/../b, policy: a}", "line 5: "},
		{head + "rules:\n- {path: //a, policy: a}", "line 5: "},
		{head + "rules:\n- {path_template: '/a{b}', policy: a}", "line 5: "},
		{head + "rules:\n- {hosts: [Shop.example], policy: a}", "line 5: host \"Shop.example\": write \"shop.example\""},
		{head + "rules:\n- {hosts: [], policy: a}", "line 5: hosts is an empty list"},
		{head + "rules:\n- {methods: [get], policy: a}", "line 5: method \"get\""},
		{"policies:\n- name: a\nrules:\n- {path: /a, policy: a}", "line 4: rules need a default_policy"},
		{head + "- name: b\nrules:\n- {path_prefix: /a, policy: a}\n- {path: /a/b, policy: b}", "line 7: this rule is never asked: the one on line 6"},
		{head + "tests:\n- name: x", "line 5: a test needs"},
		{head + "tests:\n- {name: x, request: {host: a, path: /}, expect: {verdict: maybe}}", "line 5: verdict: maybe is not one of allow, deny"},
		{head + "tests:\n- {name: x, request: {host: a, path: /}, expect: {verdict: deny, reason: no_cokie}}", "did you mean no_cookie?"},
		{head + "tests:\n- {name: x, request: {host: a, path: /}, expect: {verdict: deny, status: forbidden}}", "status is a whole number"},
		{head + "tests:\n- {name: x, request: {host: a, path: /}, expect: {verdict: deny, policy: b}}", "there is no policy b"},
		{head + "tests:\n- {name: x, session: {age: 5}, request: {host: a, path: /}, expect: {verdict: deny}}", "age: 5 is not a duration"},
		{head + "tests:\n- {name: x, session: {roles: [a]}, request: {host: a, path: /}, expect: {verdict: deny}}", "a session needs a user_id"},
		{head + "tests:\n- {name: x, request: {host: a, path: /, headers: {a: b, a: c}}, expect: {verdict: deny}}", "headers has a twice"},
	} {
		f, err := Parse([]byte(test.text), extauthz.Config{})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s\nis %v, and should say %s (%+v)", test.text, err, test.want, f)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("it repeats what may be a secret: %v", err)
		}
	}
}

// TestAllMistakesAtOnce: in the order of their lines.
func TestAllMistakesAtOnce(t *testing.T) {
	_, err := Parse([]byte(`default_policy: c
policies:
- name: a
  session: never
  condition: session.age
- name: b
  shade: true
rules:
- {path: '/a?b', policy: a}
- {path: /x, policy: d}
`), extauthz.Config{})
	if err == nil {
		t.Fatal("no mistake")
	}
	var lines []string
	for line := range strings.SplitSeq(err.Error(), "\n") {
		number, _, _ := strings.Cut(line, ":")
		lines = append(lines, number)
	}
	if got := strings.Join(lines, ","); got != "line 1,line 4,line 5,line 7,line 9,line 10" {
		t.Errorf("%s:\n%v", got, err)
	}
}

// TestMappedHeaders: a policy names the headers of the server's own configuration.
func TestMappedHeaders(t *testing.T) {
	text := []byte("policies:\n- name: a\n  headers: [id, tenant]\n")
	if _, err := Parse(text, extauthz.Config{}); err == nil {
		t.Error("a header that the server does not set")
	}
	if _, err := Parse(text, extauthz.Config{Fields: []extauthz.FieldHeader{{Field: "tenant", Header: "x-user-tenant"}}}); err != nil {
		t.Error(err)
	}
}

// TestOpen: the tests are a part of the file, and one that fails is a mistake.
func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policies.yaml")
	open := func(text string) string {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path, extauthz.Config{})
		if err == nil {
			return "good"
		}
		return strings.ReplaceAll(err.Error(), path, "FILE")
	}
	const test = "policies:\n- name: a\ntests:\n- {name: x, request: {host: a, path: /}, route: {policy: a}, expect: {verdict: %s}}\n"
	for text, want := range map[string]string{
		strings.ReplaceAll(test, "%s", "deny"): "good",
		"policies:\n- {name: a, session: none}\ntests:\n- {name: x, request: {host: a, path: /a;x=1}, route: {policy: a, paths: parameters}, expect: {verdict: allow}}\n": "good",
		"policies:\n- {name: a, session: none}\ntests:\n- {name: x, request: {host: a, path: /a;x=1}, route: {policy: a}, expect: {verdict: allow}}\n":                    "FILE: line 4: test x fails: verdict deny, and not allow",
		strings.ReplaceAll(test, "%s", "allow"): "FILE: line 4: test x fails: verdict deny, and not allow",
		"a: b\nc: d":                            "FILE has 2 mistakes:\n  line 1: the file has no key a\n  line 2: the file has no key c",
	} {
		if got := open(text); got != want {
			t.Errorf("%s\nand not\n%s", got, want)
		}
	}
	if _, err := Open("nowhere.yaml", extauthz.Config{}); err == nil || err.Error() != "nowhere.yaml: no such file or directory" {
		t.Error(err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "policies.yaml")
	if _, err := Load(path, extauthz.Config{}); err == nil || err.Error() != "no such file or directory" {
		t.Error(err)
	}
	if _, err := Load(dir, extauthz.Config{}); err == nil || err.Error() != "it is a directory" {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, extauthz.Config{}); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("#"+strings.Repeat("x", maxBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, extauthz.Config{}); err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Error(err)
	}
}

// TestFailures: a test that does not come out says in what.
func TestFailures(t *testing.T) {
	f, err := Parse([]byte(`default_policy: a
policies:
- name: a
tests:
- name: it is open
  request: {host: a.example, path: /}
  expect: {verdict: allow, status: 200, reason: ok, headers: {location: /login}}
`), extauthz.Config{})
	if err != nil {
		t.Fatal(err)
	}
	failures, err := f.RunTests()
	if err != nil || len(failures) != 1 {
		t.Fatal(failures, err)
	}
	const want = `line 5: test it is open fails: verdict deny, and not allow; status 401, and not 200; reason no_cookie, and not ok; header location none, and not /login`
	if got := failures[0].Error(); got != want {
		t.Errorf("%s\nand not\n%s", got, want)
	}
}

// FuzzParse: every text is read, or refused with lines, and without a
// panic.
func FuzzParse(f *testing.F) {
	f.Add(good)
	f.Add("policies: [{name: a, condition: 'true'}]\nrules: [{path: /{a}}]\ndefault_policy: a")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse([]byte(text), extauthz.Config{})
		if err == nil {
			if _, err := file.RunTests(); err != nil {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !strings.HasPrefix(line, "line ") {
				t.Errorf("%q: %q has no line", text, line)
			}
		}
	})
}

// FuzzSession: a text is refused with lines, or it is a session of a user, and comes back
// from what can be written of it.
func FuzzSession(f *testing.F) {
	for _, seed := range []string{
		"user_id: ada", "user_id: '42'\nusername: Ada\nroles: [staff, admin]\nage: 5m\nfields: {tenant: acme}\n", `{"user_id":"42","age":"-1s","fields":{"a":"\u0000"}}`, "", "null", "[]", "user_id: 42", "user_id: ''", "user_id: a\nuser_id: b", "roles: [a]",
		"user_id: a\nroles: a", "user_id: a\nage: 5", "user_id: a\nage: 9999999h", "user_id: a\nfields: {a: {b: c}}", "user_id: &a x\nusername: *a", "user_id: a\nuser: b", "user_id: a\n---\nuser_id: b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSession([]byte(text))
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if s != nil || !strings.HasPrefix(line, "line ") {
					t.Errorf("%q: %q has no line", text, line)
				}
			}
			return
		}
		if s.UserID == "" {
			t.Fatalf("%q: %+v", text, s)
		}
		for _, value := range append(slices.Concat(slices.Collect(maps.Keys(s.Fields)), slices.Collect(maps.Values(s.Fields)), s.Roles), s.UserID, s.Username) {
			if !utf8.ValidString(value) {
				t.Fatalf("%q: %+v is not UTF-8", text, s)
			}
		}
		members := map[string]any{"user_id": s.UserID, "age": s.Age.String()}
		if s.Username != "" {
			members["username"] = s.Username
		}
		if len(s.Roles) > 0 {
			members["roles"] = s.Roles
		}
		if len(s.Fields) > 0 {
			members["fields"] = s.Fields
		}
		written, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseSession(written)
		if err != nil || again.UserID != s.UserID || again.Username != s.Username || again.Age != s.Age || !slices.Equal(again.Roles, s.Roles) || !maps.Equal(again.Fields, s.Fields) {
			t.Fatalf("%q: %+v, and of %s %+v, %v", text, s, written, again, err)
		}
	})
}
