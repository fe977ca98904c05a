package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

const explainedPolicies = `
policies:
- {name: signed-in}
- {name: open, session: none}
- {name: billing, any_role: [billing, admin]}
- {name: both, all_roles: [staff, x]}
- {name: own-tenant, condition: 'request.segments[1] == session.fields["tenant"] && session.age < duration("5m")'}
- {name: gold, condition: 'request.headers["x-plan"] == "gold"'}
- {name: shadow, any_role: [x], shadow: true}
- {name: write, origins: []}
`

// An explainCase is a request and a part of what must be said of it.
type explainCase struct {
	request string // "GET /path", with the cookie behind "as ada"
	ada     bool
	lines   []string
	want    string // in the table that is printed
}

func explainCases() []explainCase {
	return []explainCase{
		{"GET /", true, nil, "the route needs a session; has one"},
		{"GET /", false, nil, "the route needs a session; has no session: not met"},
		{"GET /", false, []string{"Accept: text/html"}, "deny, with status 302"},
		{"GET /x?q=1", true, nil, "virtual host all, route 20, prefix /"},
		{"GET /public/a", true, nil, "needs no session"},
		{"GET /optional", false, nil, "reason   no_cookie"},
		{"GET /optional/x", true, nil, "allow"},
		{"GET /admin", true, nil, "the route needs any of admin; has staff: not met"},
		{"GET /admin//x/../y", true, nil, "path     /admin/y"},
		{"GET /adm%69n", true, nil, "context_extensions coatcheck.roles=admin"},
		{"GET /a;b=c", true, nil, "Envoy does not ask Coatcheck here"},
		{"GET /.auth/login", false, nil, "ext_authz is disabled for the route"},
		{"GET /a%2fb", true, nil, "Envoy redirects to /a/b itself"},
		{"GET /p/billing", true, nil, "the policy needs any of billing, admin; has staff: not met"},
		{"GET /p/both", true, nil, "needs all of staff, x; has staff"},
		{"GET /p/open", false, nil, "open, which the route names"},
		{"GET /p/signed-in", true, nil, "of user 42 (ada)"},
		{"GET /p/biling", true, nil, `there is no policy "biling"; did you mean billing?`},
		{"GET /t/acme", true, nil, `request.segments[1] == session.fields["tenant"] is true: request.segments[1] = "acme", session.fields["tenant"] = "acme"`},
		{"GET /t/evil", true, nil, `request.segments[1] = "evil", session.fields["tenant"] = "acme"`},
		{"GET /t/evil", false, nil, "no_cookie"},
		{"GET /p/gold", true, []string{"X-Plan: gold"}, `request.headers["x-plan"] == "gold" is not there`},
		{"GET /p/shadow", true, nil, "allow, in shadow mode; it would be denied"},
		{"POST /p/write", true, []string{"Origin: https://evil.example"}, "bad_origin"},
		{"POST /p/write", true, []string{"Origin: https://shop.example"}, "allow"},
		{"GET /wrong/word", true, nil, `coatcheck.session: "None" is not required, optional or none (lower case)`},
		{"GET /wrong/key", true, nil, `unknown key "coatcheck.role"; did you mean coatcheck.roles?`},
		{"GET /wrong/prefix", true, nil, `unknown key "roles"; did you mean coatcheck.roles?`},
		{"GET /wrong/both", true, nil, "roles on a route that asks for no session"},
	}
}

// explainRoutes adds routes for the policies, and wrong ones.
func explainRoutes(b *bootstrapv3.Bootstrap) {
	policyRoutes("billing", "both", "open", "signed-in", "biling", "gold", "shadow", "write")(b)
	rig.AddRoute(b, prefix("/t"), map[string]string{"coatcheck.policy": "own-tenant"})
	for name, needs := range map[string]map[string]string{
		"word": {"coatcheck.session": "None"}, "key": {"coatcheck.role": "admin"}, "prefix": {"roles": "admin"}, "both": {"coatcheck.session": "none", "coatcheck.roles": "a"},
	} {
		rig.AddRoute(b, &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: "/wrong/" + name}}, needs)
	}
}

// TestExplainAsEnvoy: what explain says of a request, by Envoy's file, by its admin
// interface, by a dump on disk and by the line in the log, is what came of it.
func TestExplainAsEnvoy(t *testing.T) {
	t.Parallel()
	policies := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(policies, []byte(explainedPolicies), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, rig.Options{Patient: true, Arguments: []string{"--policy-file", policies, "--login-url", "/.auth/login"}, Bootstrap: explainRoutes})
	cookie, key := login(t, manager(t, s, sessions.Config{}), sessions.NewSession{
		UserID: "42", Username: "ada", Roles: []string{"staff"}, Fields: map[string]string{"tenant": "acme"},
	})
	dump := filepath.Join(t.TempDir(), "dump.json")
	if err := os.WriteFile(dump, get(t, s.Admin+"/config_dump"), 0o600); err != nil {
		t.Fatal(err)
	}
	explain := func(stdin string, arguments ...string) string {
		t.Helper()
		out, err := s.Command(stdin, append([]string{"explain", "--policy-file", policies, "--login-url", "/.auth/login"}, arguments...)...)
		if err != nil {
			t.Error(arguments, err)
		}
		return out
	}
	for i, test := range explainCases() {
		trace := fmt.Sprintf("%032x", i+1)
		lines := append([]string{"Content-Length: 0", "traceparent: 00-" + trace + "-00f067aa0ba902b7-01"}, test.lines...)
		method, path, _ := strings.Cut(test.request, " ")
		arguments := []string{"http://shop.example" + path, "--method", method, "--source", "127.0.0.1", "--header", lines[1]}
		for _, line := range test.lines {
			arguments = append(arguments, "--header", line)
		}
		if test.ada {
			lines = append(lines, "Cookie: "+cookie)
			arguments = append(arguments, "--session", "session:"+key.Handle())
		}
		got := send(t, s, test.request, lines...)
		logged := lineOf(t, s, trace, got)
		name := fmt.Sprint(test.request, " ", test.lines, " ", test.ada)
		table := explain("", append([]string{"--envoy", s.Config}, arguments...)...)
		if !strings.Contains(table, test.want) {
			t.Errorf("%s: %q is not in\n%s", name, test.want, table)
		}
		if strings.Contains(table, strings.TrimPrefix(cookie, sessions.DefaultCookieName+"=")) {
			t.Errorf("%s: an ID is printed", name)
		}
		running := [][]string{{"--envoy", s.Admin, "--envoy", s.Config}, {"--envoy", s.Config, "--envoy", dump}}[i%2]
		for _, envoy := range [][]string{{"--envoy", s.Config}, running} {
			asReal(t, name, got, logged, explain("", append(append(envoy, "-o", "json"), arguments...)...))
		}
		if logged == nil {
			continue
		}
		line, err := json.Marshal(logged)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(path, "?") || test.lines != nil {
			continue // the log has neither queries nor headers
		}
		asReal(t, name+", by its line", got, logged, explain(string(line)+"\n", "--log", "-", "--envoy", s.Config, "-o", "json"))
		if logged["reason"] == "bad_route" {
			if _, err := s.Command("", "explain", string(line)); err == nil || !strings.Contains(err.Error(), "name Envoy's configuration with --envoy") {
				t.Errorf("%s, by its line alone: %v", name, err)
			}
			continue
		}
		asReal(t, name+", by its line alone", got, logged, explain("", string(line), "-o", "json"))
	}
	if _, err := s.Command("", "explain", "--policy-file", policies, "--envoy", s.Admin, "http://shop.example/admin"); err == nil || !strings.Contains(err.Error(), "a config dump hides the values of context_extensions, here of coatcheck.roles") {
		t.Errorf("by a dump alone: %v", err)
	}
	out := explain("", "--envoy", s.Admin, "--extension", "coatcheck.roles=admin", "http://shop.example/admin")
	if !strings.Contains(out, "context_extensions coatcheck.roles=admin") {
		t.Errorf("by a dump and a value:\n%s", out)
	}
}

// lineOf waits for the request's line in the decision log; nil if Envoy did not ask.
func lineOf(t *testing.T, s *rig.Stack, trace string, got answer) map[string]any {
	t.Helper()
	asked := got.status != http.StatusTemporaryRedirect && got.header.Get("Server") != "" && got.body != "The request makes no sense.\n" && !strings.Contains(got.body, "upstream connect")
	for end := time.Now().Add(time.Minute); asked && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for line := range strings.Lines(s.Coatcheck.Output()) {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && fields["trace_id"] == trace {
				return fields
			}
		}
	}
	if asked {
		t.Fatalf("no line for %s: %d, %s", trace, got.status, got.body)
	}
	return nil
}

// asReal compares an explanation with the answer that the client got, and with the
// line in the log.
func asReal(t *testing.T, name string, got answer, logged map[string]any, explained string) {
	t.Helper()
	var e map[string]any
	if err := json.Unmarshal([]byte(explained), &e); err != nil {
		t.Errorf("%s: %v: %s", name, err, explained)
		return
	}
	if logged == nil {
		if envoy, _ := e["envoy"].(map[string]any); e["verdict"] != "none" || envoy["asks"] != false || e["allow"] != nil {
			t.Errorf("%s: Envoy did not ask, and it is explained as %s", name, explained)
		}
		return
	}
	if status, _ := e["status"].(float64); e["allow"] != (got.status == 200) || got.status != 200 && int(status) != got.status {
		t.Errorf("%s: status %d, explained as %s", name, got.status, explained)
	}
	others := []string{"time", "level", "msg", "duration", "lookup_duration", "request_id", "span_id"} // Envoy makes the last two anew
	for key, value := range logged {
		if !slices.Contains(others, key) && !reflect.DeepEqual(e[key], value) {
			t.Errorf("%s: %s is %v in the log, and %v when it is explained", name, key, value, e[key])
		}
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
