package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/docstest"
)

const explained = `
default_policy: signed-in
case_insensitive: true
policies:
- name: signed-in
- name: public
  session: none
- name: admins
  any_role: [admin]
  condition: session.age < duration("5m") && session.fields.tenant == "acme"
rules:
- {path_prefix: /assets, policy: public}
- {hosts: [shop.example], path_prefix: /admin, policy: admins}
- {path_prefix: /admin, policy: admins}
`

// TestExplain: the session comes from Redis, from a file, or is missing, and what is
// said is what a check does.
func TestExplain(t *testing.T) {
	s := newShell(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	policies := write("policies.yaml", explained)
	id, handle := s.create("--user-id", "42", "--role", "admin", "--field", "tenant=acme")
	_, other := s.create("--user-id", "43", "--role", "admin")
	ask := func(args ...string) string {
		t.Helper()
		out, _ := s.run(0, "", append([]string{"explain", "--policy-file", policies, "--host", "shop.example"}, args...)...)
		return out
	}
	before, _ := s.run(0, id, "session", "show", "--stdin", "-o", "json")
	s.wants(ask("--path", "/admin/x", "--session", handle, "--session-idle-timeout", "2h"), "verdict      allow\n", "reason       ok\n", "admins, which a rule names",
		"passed over  rule 1: prefix /assets, in any case (the path does not match)", "decided by   rule 2: shop.example prefix /admin, in any case",
		"set          x-user-id: 42", "removed      x-user-name")
	if after, _ := s.run(0, id, "session", "show", "--stdin", "-o", "json"); later(t, before, after) {
		t.Errorf("the session was slid: %s, then %s", before, after)
	}
	s.wants(ask("--path", "/admin", "--session", other), "deny, with status 403", "condition_error", "error ", `session.fields["tenant"]`)
	s.wants(ask("--path", "/admin"), "deny, with status 401", "no_cookie", "www-authenticate: Session", "body ", "Sign in")
	s.wants(ask("--path", "/assets/a", "--policy", "signed-in"), "signed-in, which the route names", "status 401")
	s.wants(ask("--path", "/assets/a", "--policy", "sined-in"), "unknown_policy")
	s.wants(ask("--path", "/x", "--extension", "coatcheck.roles=admin", "--fields", write("a.json", `{"user_id": "7", "username": "ada"}`)),
		"signed-in, the default", "missing_role")
	s.wants(ask("--path", "/x", "--header", "X_User_Id: 1", "--fields", write("b.yaml", "user_id: '7'\nage: 1h\n")), "allow", "removed      x_user_id")

	write("policies.yaml", explained+"tests:\n- {name: wrong, request: {host: shop.example, path: /x}, expect: {verdict: allow}}\n")
	s.wants(ask("--path", "/x"), "deny, with status 401") // why the test fails

	var e extauthz.Explanation
	if err := json.Unmarshal([]byte(ask("--path", "/admin", "--fields", write("c.yaml", "user_id: '7'\nroles: [admin]\nage: 10m\nfields: {tenant: acme}\n"), "-o", "json")), &e); err != nil {
		t.Fatal(err)
	}
	if e.Allow || e.Reason != extauthz.ConditionFalse || e.Rule == nil || e.Rule.Number != 2 || len(e.Passed) != 1 || e.Status != 403 {
		t.Errorf("%+v", e)
	}
	if strings.Contains(s.printed.String(), id) {
		t.Error("an ID is printed")
	}
}

// later reports whether a session's idle expiry is later in the second form.
func later(t *testing.T, before, after string) bool {
	t.Helper()
	var forms [2]sessionView
	for i, text := range []string{before, after} {
		if err := json.Unmarshal([]byte(text), &forms[i]); err != nil {
			t.Fatal(err)
		}
	}
	// The expiry is told to the second, by two clocks.
	return forms[1].IdleExpires.Sub(forms[0].IdleExpires).Abs().Seconds() > 1
}

// TestExplainNeedsNoRedis: but for a session in it.
func TestExplainNeedsNoRedis(t *testing.T) {
	s := newShell(t)
	s.redis.Kill()
	t.Setenv("COATCHECK_REDIS_ADDRESSES", "")
	out, _ := s.run(0, "", "explain", "--host", "shop.example", "--path", "/")
	s.wants(out, "deny, with status 401", "route    required")
	for _, test := range []struct {
		status int
		args   []string
		want   string
	}{
		{2, []string{"--path", ""}, "--host and --path"},
		{2, []string{"--session", "a", "--fields", "b"}, "only one of them"},
		{2, []string{"--header", "a"}, "name: value"},
		{2, []string{"--header", "Cookie: a=b"}, "session ID"},
		{2, []string{"--extension", "a"}, "name=value"},
		{2, []string{"--output", "xml"}, `"xml"`},
		{1, []string{"--fields", "nowhere.json"}, "nowhere.json: no such file"},
		{1, []string{"--session", "abc"}, "redis.addresses"},
		{1, []string{"--policy-file", "nowhere.yaml"}, "policy_file (COATCHECK_POLICY_FILE, --policy-file): nowhere.yaml: no such file"},
	} {
		_, errs := s.run(test.status, "", append([]string{"explain", "--host", "shop.example", "--path", "/"}, test.args...)...)
		s.wants(errs, test.want)
	}
}

// TestConfigCheckPolicies: a configuration is checked with its policies, and
// policies with a configuration or alone.
func TestConfigCheckPolicies(t *testing.T) {
	s := newShell(t)
	t.Chdir(t.TempDir())
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("policies.yaml", explained)
	write("coatcheck.yaml", "redis: {addresses: [a:1]}\npolicy_file: policies.yaml\nheaders: {fields: [tenant]}\n")
	write("mapped.yaml", "default_policy: a\npolicies:\n- {name: a, headers: [tenant]}\n- name: b\n")
	out, _ := s.run(0, "", "config", "check", "coatcheck.yaml")
	s.wants(out, "coatcheck.yaml: good\n", "policies.yaml: good; policies: 3, rules: 3, tests that pass: 0, warnings: 0\n")
	out, _ = s.run(0, "", "config", "check", "--policies", "policies.yaml")
	s.wants(out, "policies.yaml: good", "policies.yaml: headers that Envoy's allowed_headers, if it is set, must include: accept, accept-language, connection, content-type, cookie, sec-fetch-*, traceparent, x-request-id\n")
	out, _ = s.run(0, "", "config", "check", "coatcheck.yaml", "--policies", "mapped.yaml")
	s.wants(out, "mapped.yaml: line 4: no rule", "mapped.yaml: good; policies: 2", "warnings: 1")
	_, errs := s.run(1, "", "config", "check", "--policies", "mapped.yaml")
	s.wants(errs, "coatcheck: mapped.yaml: line 3: ")
	write("policies.yaml", explained+"tests:\n- {name: open, request: {host: a.example, path: /}, expect: {verdict: allow}}\n")
	_, errs = s.run(1, "", "config", "check", "coatcheck.yaml")
	s.wants(errs, "policy_file (COATCHECK_POLICY_FILE, --policy-file): policies.yaml: line 16: test open fails: verdict deny, and not allow")
	s.run(2, "", "config", "check")
	s.run(2, "", "config", "check", "a", "b")
}

// TestDocsExplain: docs/permissions.md shows what the command says, by the page's
// own policies.
func TestDocsExplain(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docstest.Root, "docs", "permissions.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n# policies.yaml")
	policies, _, _ := strings.Cut(rest, "```")
	t.Chdir(t.TempDir())
	const ada = `{"user_id": "42", "username": "ada", "roles": ["staff"]}`
	for name, text := range map[string]string{"policies.yaml": "#" + policies, "ada.json": ada + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const command = "explain --policy-file policies.yaml --host shop.example --path /users --policy admins --fields ada.json"
	shown := "```\n$ cat ada.json\n" + ada + "\n$ coatcheck " + command + "\n" + output(t, strings.Fields(command)...) + "```\n"
	docstest.PartIsCurrent(t, "docs/permissions.md", "explain", shown)
}

// TestDocsSlips: docs/permissions.md shows what config check says of rules that a
// client gets around.
func TestDocsSlips(t *testing.T) {
	const policies = `# slips.yaml
default_policy: signed-in
policies:
- {name: signed-in}
- {name: admins, any_role: [admin]}
rules:
- {hosts: [shop.example], path: /admin, methods: [GET], policy: admins}
`
	t.Chdir(t.TempDir())
	if err := os.WriteFile("slips.yaml", []byte(policies), 0o600); err != nil {
		t.Fatal(err)
	}
	const command = "config check --policies slips.yaml"
	shown := "```yaml\n" + policies + "```\n\n```\n$ coatcheck " + command + "\n" + output(t, strings.Fields(command)...) + "```\n"
	docstest.PartIsCurrent(t, "docs/permissions.md", "slips", shown)
}
