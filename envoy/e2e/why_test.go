package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

const whyPolicies = `
default_policy: signed-in
policies:
- {name: signed-in}
- {name: billing, any_role: [billing, admin]}
- {name: mine, condition: 'request.segments[2] == session.fields["tenant"]'}
- {name: gold, condition: 'request.headers["x-plan"] == "gold"'}
- {name: origin, origins: ["https://app.example"]}
rules:
- {hosts: [rules.example], policy: signed-in}
`

// A refused is a request that is refused, with what the operator must learn: from the
// log alone (why), and from the log line with Envoy's and Coatcheck's configuration
// (explain).
type refused struct {
	name    string
	request string
	lines   []string
	h2      bool // by HTTP/2, which carries methods that HTTP/1 does not
	status  int
	reason  string
	why     []string
	explain []string

	line string // of the decision log
}

// lastDecision waits for a decision line behind the first skip ones.
func lastDecision(t *testing.T, s *rig.Stack, skip int, reason string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		lines := decisions(s)
		for _, line := range lines[min(skip, len(lines)):] {
			if strings.Contains(line, `"reason":"`+reason+`"`) {
				return line
			}
		}
	}
	t.Fatalf("no decision line of %s among the last:\n%s", reason, strings.Join(decisions(s)[skip:], "\n"))
	return ""
}

func decisions(s *rig.Stack) (lines []string) {
	for line := range strings.Lines(s.Coatcheck.Output()) {
		if strings.Contains(line, `"msg":"check"`) && strings.HasSuffix(line, "\n") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// TestWhyAndExplain: refusals of every kind that can be made here, through a real Envoy;
// coatcheck why and coatcheck explain say the right cause, with the values.
func TestWhyAndExplain(t *testing.T) {
	t.Parallel()
	policies := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(policies, []byte(whyPolicies), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, rig.Options{
		Arguments: []string{"--policy-file", policies, "--timeout", "3s", "--max-in-flight", "1"},
		Bootstrap: func(b *bootstrapv3.Bootstrap) {
			rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) { f.GetGrpcService().Timeout = durationpb.New(20 * time.Second) })
			policyRoutes("billing", "biling", "mine", "gold", "origin")(b)
			rig.AddRoute(b, prefix("/typo"), map[string]string{"coatchek.roles": "admin"})
			rig.AddRoute(b, prefix("/none"), map[string]string{"coatcheck.session": "None"})
		},
	})
	m := manager(t, s, sessions.Config{})
	made := func() (line string, key sessions.Key) {
		cookie, key := login(t, m, sessions.NewSession{UserID: "42", Username: "ada", Roles: []string{"staff"}, Fields: map[string]string{"tenant": "acme"}})
		return "Cookie: " + cookie, key
	}
	live, key := made()
	revoked, gone := made()
	if _, err := s.Command("", "session", "revoke", "session:"+gone.Handle()); err != nil {
		t.Fatal(err)
	}
	redis := s.Redis.Client()
	defer redis.Close()
	record := func(fields ...any) string {
		id := sessions.NewID()
		if err := redis.HSet(t.Context(), string(id.Key()), append([]any{"user_id", "42"}, fields...)...).Err(); err != nil {
			t.Fatal(err)
		}
		redis.Expire(t.Context(), string(id.Key()), time.Hour)
		return "Cookie: " + cookieFor(id)
	}
	soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	empty := "Content-Length: 0"

	table := []*refused{
		{name: "no cookie", request: "GET /x", status: 401, reason: "no_cookie", why: []string{"no session cookie"}, explain: []string{"no_cookie", "signed-in, the default"}},
		{name: "another program's cookie", request: "GET /x", lines: []string{"Cookie: " + sessions.DefaultCookieName + "=junk"}, status: 401, reason: "malformed_cookie",
			why: []string{"the cookie's value is not a session ID"}},
		{name: "two cookies", request: "GET /x", lines: []string{live, live}, status: 401, reason: "ambiguous_cookie", why: []string{"the cookie came more than once"}},
		{name: "a revoked session", request: "GET /x", lines: []string{revoked}, status: 401, reason: "not_found",
			why: []string{"session never issued, revoked, or idle for too long", "session " + gone.Handle(), "because ", "no line of the log ends this session"}, explain: []string{"not_found"}},
		{name: "a session that never was", request: "GET /x", lines: []string{"Cookie: " + cookieFor(sessions.NewID())}, status: 401, reason: "not_found",
			why: []string{"never issued"}, explain: []string{"not_found"}},
		{name: "an old session", request: "GET /x", lines: []string{record("v", "1", "expires_at", "2020-01-01T00:00:00Z")}, status: 401, reason: "expired", why: []string{"session past its absolute timeout"}},
		{name: "a broken record", request: "GET /x", lines: []string{record("v", "1", "expires_at", "soon")}, status: 401, reason: "broken_record",
			why: []string{"the record breaks the layout", "expires_at is not an RFC 3339 time"}, explain: []string{"broken_record", "expires_at is not an RFC 3339 time"}},
		{name: "a newer record", request: "GET /x", lines: []string{record("v", "2", "expires_at", soon)}, status: 503, reason: "unknown_layout",
			why: []string{"a newer program wrote the record", "unknown layout version"}, explain: []string{"unknown layout version"}},
		{name: "a role of the route", request: "GET /admin", lines: []string{live}, status: 403, reason: "missing_role",
			why: []string{"lacks a role", "required roles=admin", "needs any of admin; has staff", key.Handle()}, explain: []string{"the route needs any of admin; has staff: not met", key.Handle() + " of user 42 (ada)"}},
		{name: "a role of the policy", request: "GET /p/billing", lines: []string{live}, status: 403, reason: "missing_role",
			why: []string{"lacks a role", "policy billing", "needs any of billing, admin; has staff"}, explain: []string{"the policy needs any of billing, admin; has staff: not met", "billing, which the route names"}},
		{name: "a condition", request: "GET /p/mine/evil", lines: []string{live}, status: 403, reason: "condition_false",
			why: []string{"condition does not hold", "policy mine"}, explain: []string{`request.segments[2] = "evil", session.fields["tenant"] = "acme"`, "mine, which the route names"}},
		{name: "a condition without its value", request: "GET /p/gold", lines: []string{live}, status: 403, reason: "condition_error",
			why: []string{"cannot be evaluated", "x-plan"}, explain: []string{"condition_error", "x-plan"}},
		{name: "another site", request: "POST /p/origin", lines: []string{live, empty, "Origin: https://evil.example"}, status: 403, reason: "bad_origin",
			why: []string{"another site's page sent the request", "policy origin"}, explain: []string{"bad_origin"}},
		{name: "a key mistyped", request: "GET /typo", lines: []string{live}, status: 403, reason: "bad_route",
			why: []string{"make no sense", "coatchek.roles"}, explain: []string{"bad_route", "coatchek.roles"}},
		{name: "a value mistyped", request: "GET /none", lines: []string{live}, status: 403, reason: "bad_route",
			why: []string{`"None"`}, explain: []string{"bad_route", `"None"`, "lower case"}},
		{name: "a policy mistyped", request: "GET /p/biling", lines: []string{live}, status: 403, reason: "unknown_policy",
			why: []string{"a policy that is not configured", `no policy "biling"`}, explain: []string{"unknown_policy", "did you mean billing?"}},
		{name: "a method in lower case", request: "post /x", lines: []string{live}, h2: true, status: 400, reason: "bad_request", why: []string{"the request makes no sense", "post"}, explain: []string{"bad_request"}},
		{name: "a path with parameters", request: "GET /p/mine/acme;x", lines: []string{live}, status: 400, reason: "noncanonical_path",
			why: []string{"the path can be read in more than one way", "/p/mine/acme;x"}, explain: []string{"noncanonical_path"}},
		{name: "a strange host", request: "GET /x", lines: []string{live, "Host: rules..example"}, status: 400, reason: "bad_host",
			why: []string{"the Host is neither a name nor an address", "rules..example"}, explain: []string{"bad_host"}},
	}
	for _, r := range table {
		r.send(t, s)
	}
	table = append(table, outages(t, s, live)...)
	log := s.Coatcheck.Output()
	for _, r := range table {
		t.Run(r.name, func(t *testing.T) { r.ask(t, s, log, policies) })
	}
	if len(table) < 20 {
		t.Errorf("%d kinds of refusals", len(table))
	}
}

func (r *refused) send(t *testing.T, s *rig.Stack) {
	t.Helper()
	before, lines := len(decisions(s)), r.lines
	if !strings.Contains(strings.Join(lines, "\n"), "Host: ") {
		lines = append([]string{"Host: shop.example"}, lines...)
	}
	ask := func() answer { return sendAs(t, s, r.request, lines...) }
	if r.h2 {
		method, path, _ := strings.Cut(r.request, " ")
		ask = func() answer {
			return newH2(t, s.URL).send(t, method, "shop.example", path, []string{"cookie: " + r.cookie()}, nil)
		}
	}
	if got := ask(); got.status != r.status || got.sent != nil {
		t.Errorf("%s: status %d, want %d: %s", r.name, got.status, r.status, got.body)
	}
	r.line = lastDecision(t, s, before, r.reason)
}

// outages makes refusals that are the store's fault.
func outages(t *testing.T, s *rig.Stack, live string) []*refused {
	late := &refused{name: "a late Redis", request: "GET /late", lines: []string{live}, status: 503, reason: "timeout", why: []string{"did not answer in time", "/late"}}
	busy := &refused{name: "too many checks", request: "GET /busy", lines: []string{live}, status: 503, reason: "overloaded", why: []string{"too many checks wait", "/busy"}}
	away := &refused{name: "a Redis that refuses", request: "GET /away", lines: []string{live}, status: 503, reason: "unavailable",
		why: []string{"refuses, is down, or cannot be reached", "NOPERM"}}
	if err := s.Redis.Pause(); err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	waiting.Go(func() { late.send(t, s) })
	eventually(t, "no check waits for Redis", func() bool {
		return strings.Contains(body(t, s.Operator+"/metrics"), "\ncoatcheck_checks_in_flight 1\n")
	})
	busy.send(t, s)
	waiting.Wait()
	if err := s.Redis.Resume(); err != nil {
		t.Fatal(err)
	}
	redis := s.Redis.Client()
	defer redis.Close()
	if err := redis.Do(t.Context(), "ACL", "SETUSER", rig.CheckUser, "-hmget").Err(); err != nil {
		t.Fatal(err)
	}
	away.send(t, s)
	return []*refused{late, busy, away}
}

// columns are the blanks between the columns of a table.
var columns = regexp.MustCompile(` +`)

// ask asks both commands about the request.
func (r *refused) ask(t *testing.T, s *rig.Stack, log, policies string) {
	var line struct {
		ID string `json:"request_id"`
	}
	if err := json.Unmarshal([]byte(r.line), &line); err != nil || line.ID == "" {
		t.Fatalf("%v: %s", err, r.line)
	}
	says := func(command, out string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(columns.ReplaceAllString(out, " "), part) {
				t.Errorf("%s does not say %q:\n%s", command, part, out)
			}
		}
		if strings.Contains(out, strings.TrimPrefix(r.cookie(), sessions.DefaultCookieName+"=")) {
			t.Errorf("%s shows a cookie:\n%s", command, out)
		}
	}
	out, err := s.Command(log, "why", "--request-id", line.ID)
	if err != nil {
		t.Fatal(err)
	}
	says("why", out, append(r.why, "refused ", r.reason, "cure ", line.ID)...)
	if n := strings.Count(out, "refused "); n != 1 {
		t.Errorf("why tells of %d refusals:\n%s", n, out)
	}
	out, err = s.Command(r.line, "explain", "--log", "-", "--policy-file", policies, "--envoy", s.Config, "--timeout", "3s", "--header", "origin: https://evil.example")
	switch {
	case err != nil && r.reason == "unknown_layout": // what the session would allow, is not known
		out = err.Error()
	case err != nil:
		t.Fatal(err)
	default:
		says("explain", out, "deny, "+r.reason)
	}
	says("explain", out, r.explain...)
}

func (r *refused) cookie() string {
	for _, line := range r.lines {
		if cookie, ok := strings.CutPrefix(line, "Cookie: "); ok {
			return cookie
		}
	}
	return "no cookie"
}
