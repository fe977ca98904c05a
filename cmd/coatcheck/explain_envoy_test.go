package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/internal/docstest"
)

// shipped is the envoy.yaml that operators copy.
var shipped = filepath.Join(docstest.Root, "envoy", "envoy.yaml")

// TestExplainOnItsRoute: with Envoy's configuration the route decides, and without it
// is said that none was given.
func TestExplainOnItsRoute(t *testing.T) {
	s := newShell(t)
	envoy, err := filepath.Abs(shipped)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	text, err := os.ReadFile(envoy)
	if err != nil {
		t.Fatal(err)
	}
	hidden := strings.NewReplacer("coatcheck.roles: admin", `coatcheck.roles: "[redacted]"`, "coatcheck.session: none", `coatcheck.session: "[redacted]"`, "coatcheck.session: optional", `coatcheck.session: "[redacted]"`).Replace(string(text))
	chance := strings.Replace(string(text), "match: {path_separated_prefix: /admin}", "match: {path_separated_prefix: /admin, runtime_fraction: {default_value: {numerator: 5}}}", 1)
	for name, text := range map[string]string{"hidden.yaml": hidden, "chance.yaml": chance, "ada.yaml": "user_id: '42'\nusername: ada\nroles: [staff]\n", "not-envoy.yaml": "redis: {password: hunter2}\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(status int, args ...string) string {
		t.Helper()
		out, errs := s.run(status, "", append([]string{"explain"}, args...)...)
		return out + errs
	}
	const url = "https://shop.example/admin?a=b#c"
	without := ask(0, url, "--fields", "ada.yaml")
	s.wants(without, "verdict  allow", "route    required; none was given: as for a route without context_extensions")
	for _, args := range [][]string{{"--envoy", envoy}, {"--envoy", "hidden.yaml", "--envoy", envoy}, {"--envoy", envoy, "--envoy", "hidden.yaml"}, {"--envoy", "hidden.yaml", "--extension", "coatcheck.roles=admin"}} {
		s.wants(ask(0, append(args, url, "--fields", "ada.yaml")...), "deny, with status 403", "missing_role", "needs any of admin; has staff: not met",
			"listener front, virtual host all, route 6, path_separated_prefix /admin", "context_extensions coatcheck.roles=admin", "of user 42 (ada)", "path     /admin?a=b")
	}
	s.wants(ask(0, "--envoy", envoy, "https://shop.example/.auth/login"), "none: Envoy does not ask Coatcheck here", "ext_authz is disabled for the route")
	s.wants(ask(0, "--envoy", envoy, "https://shop.example"), "path     /\n", "deny, with status 401")
	var e struct {
		Verdict string
		Allow   *bool
		Envoy   struct {
			Asks       bool
			Route      string
			WhyNot     string            `json:"why_not"`
			Extensions map[string]string `json:"context_extensions"`
		}
	}
	if err := json.Unmarshal([]byte(ask(0, "--envoy", envoy, "-o", "json", "https://shop.example/a;b")), &e); err != nil || e.Verdict != "none" || e.Allow != nil || e.Envoy.Asks || e.Envoy.WhyNot == "" {
		t.Errorf("%+v, %v", e, err)
	}
	if err := json.Unmarshal([]byte(ask(0, "--envoy", envoy, "-o", "json", "https://shop.example/optional")), &e); err != nil || e.Verdict != "allow" || !e.Envoy.Asks || e.Envoy.Extensions["coatcheck.session"] != "optional" {
		t.Errorf("%+v, %v", e, err)
	}
	for _, test := range []struct {
		status int
		args   []string
		want   string
	}{
		{1, []string{"--envoy", "hidden.yaml", url}, "here of coatcheck.roles on route 6, path_separated_prefix /admin: name Envoy's file, too"},
		{1, []string{"--envoy", "chance.yaml", url}, "chance decides, with 5 of 100: route 6"},
		{1, []string{"--envoy", "chance.yaml", "--envoy", envoy, url}, "are not the same configuration"},
		{1, []string{"--envoy", "none.yaml", url}, "none.yaml: no such file"},
		{1, []string{"--envoy", "not-envoy.yaml", url}, "neither a bootstrap of Envoy"},
		{1, []string{"--envoy", envoy, "--listener", "back", url}, `there is no listener "back" that speaks HTTP; there are "front" (port 8000)`},
		{2, []string{"--envoy", envoy, "--policy", "a", url}, "with --envoy the route says what it sends"},
		{2, []string{"--envoy", envoy, "--envoy", envoy, "--envoy", envoy, url}, "names one configuration"},
		{2, []string{"--listener", "front", url}, "which --envoy names"},
		{2, []string{"--host", "a", url}, "only one of them"},
		{2, []string{"shop.example/admin"}, "neither a URL"},
		{2, []string{"ftp://shop.example/"}, "neither a URL"},
		{2, []string{"https://ada:hunter2@shop.example/"}, "a user or a password"},
		{2, []string{url, url}, "takes one argument"},
		{2, []string{`{"msg":"serving"}`}, "no line of the decision log"},
	} {
		s.wants(ask(test.status, test.args...), test.want)
	}
	if strings.Contains(s.printed.String(), "hunter2") {
		t.Error("a password is printed")
	}
}

// TestExplainByLog: a line of the decision log is a request, with the session that it
// names, which is not slid and may have ended.
func TestExplainByLog(t *testing.T) {
	s := newShell(t)
	envoy, err := filepath.Abs(shipped)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	const policies = "default_policy: signed-in\npolicies:\n- {name: signed-in}\n- {name: billing, any_role: [billing]}\n- {name: mine, condition: 'session.fields[\"tenant\"] == request.segments[1]'}\nrules:\n- {path_prefix: /t, policy: mine}\n"
	if err := os.WriteFile("policies.yaml", []byte(policies), 0o600); err != nil {
		t.Fatal(err)
	}
	id, handle := s.create("--user-id", "42", "--username", "ada", "--role", "staff", "--field", "tenant=acme")
	handle = strings.TrimPrefix(handle, "session:")
	line := func(path, more string) string {
		return fmt.Sprintf(`{"time":"2026-11-26T10:00:00Z","level":"INFO","msg":"check","verdict":"deny",%s,"session":%q,"method":"GET","host":"shop.example","path":%q,"request_id":"r1"}`, more, handle, path)
	}
	ask := func(status int, stdin string, args ...string) string {
		t.Helper()
		out, errs := s.run(status, stdin, append([]string{"explain", "--policy-file", "policies.yaml"}, args...)...)
		return out + errs
	}
	billing := line("/pay", `"reason":"missing_role","status":403,"route":"none","policy":"billing"`)
	s.wants(ask(0, billing+"\n", "--log", "-"), "deny, with status 403", "the policy needs any of billing; has staff: not met", "deny, missing_role, at 2026-11-26T10:00:00Z\n", "billing, which the route names", handle+" of user 42 (ada)")
	s.wants(ask(0, "", "https://shop.example/x", "--policy", "biling", "--session", "session:"+handle), "unknown_policy", "session  "+handle+" of user 42 (ada)")
	s.wants(ask(0, "", billing, "--envoy", envoy), "allow", "it is decided otherwise now")
	s.wants(ask(0, "", line("/t/evil", `"reason":"condition_false","status":403,"route":"none","policy":"mine","rule":"1: prefix /t"`)),
		`session.fields["tenant"] == request.segments[1] is false: session.fields["tenant"] = "acme", request.segments[1] = "evil"`, "decided by")
	s.wants(ask(0, "", line("/x", `"reason":"missing_role","status":403,"route":"required roles=a,b"`)), "the route needs any of a, b; has staff: not met")
	text := `time=2026-11-26T10:00:00Z level=INFO msg=check verdict=deny reason=missing_role status=403 detail="needs any of billing; has staff" route=none policy=billing session=` + handle + ` method=GET host=shop.example path="/pay=it" request_id=""`
	s.wants(ask(0, "another line\n"+text+"\n", "--log", "-"), "missing_role", "request  GET shop.example/pay=it")
	if err := os.WriteFile("log", []byte(text+"\n"+billing), 0o600); err != nil {
		t.Fatal(err)
	}
	s.wants(ask(1, "", "--log", "log"), "2 lines of the decision log are there")
	s.wants(ask(1, "", "--log", "none"), "none: no such file")
	s.wants(ask(1, "nothing", "--log", "-"), "no line of the decision log")
	s.wants(ask(1, "", line("/x", `"reason":"bad_route","status":403,"error":"unknown key \"a\""`)), "name Envoy's configuration with --envoy")
	s.wants(ask(0, "", line("/x", `"reason":"unknown_policy","status":403,"error":"there is no policy \"biling\"; did you mean billing?"`)), "unknown_policy", "did you mean billing?")

	before, _ := s.run(0, id, "session", "show", "--stdin", "-o", "json")
	ask(0, "", billing, "--session-idle-timeout", "2h")
	if after, _ := s.run(0, id, "session", "show", "--stdin", "-o", "json"); later(t, before, after) {
		t.Errorf("the session was slid: %s, then %s", before, after)
	}
	s.run(0, id, "session", "revoke", "--stdin")
	s.wants(ask(0, "", billing), "not_found", "it is decided otherwise now")
	if strings.Contains(s.printed.String(), id) {
		t.Error("an ID is printed")
	}
}
