package extauthz_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// A condition is made of what a test wants of it.
type condition struct {
	fields, headers []string
	holds           func(extauthz.Input) (bool, error)
}

func (c condition) Fields() []string  { return c.fields }
func (c condition) Headers() []string { return c.headers }
func (c condition) String() string    { return "as the test says" }
func (c condition) Holds(_ context.Context, in extauthz.Input) (bool, error) {
	return c.holds(in)
}

func always(holds bool, err error) condition {
	return condition{holds: func(extauthz.Input) (bool, error) { return holds, err }}
}

// policed is a server with policies.
func policed(t *testing.T, s extauthz.Sessions, config extauthz.Config, p extauthz.PolicySet) *extauthz.Server {
	t.Helper()
	if config.Timeout == 0 {
		config.Timeout = 10 * time.Second
	}
	server, err := extauthz.New(s, config)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.SetPolicies(p); err != nil {
		t.Fatal(err)
	}
	return server
}

// ask asks through each reader, and wants one answer, which Explain gives, too.
func ask(t *testing.T, server *extauthz.Server, c check) answer {
	t.Helper()
	return askMessage(t, server, c.message())
}

func askMessage(t *testing.T, server *extauthz.Server, m *authv3.CheckRequest) answer {
	t.Helper()
	direct, err := server.Check(t.Context(), m)
	if err != nil {
		t.Fatalf("an error is no verdict: %v", err)
	}
	wire, err := dial(t, server).Check(t.Context(), m)
	if err != nil {
		t.Fatalf("an error is no verdict: %v", err)
	}
	if a, b := prototext.Format(direct), prototext.Format(wire); squeeze(a) != squeeze(b) {
		t.Errorf("directly:\n%s\nover the wire:\n%s", a, b)
	}
	a := read(t, wire)
	e, err := server.Explain(t.Context(), m)
	if err != nil || e.Allow != (a.status == 200) || !e.Allow && e.Status != a.status || string(e.Reason) != a.reason || e.Body != a.body || len(e.Set) != len(a.set) {
		t.Errorf("explained as %+v, %v; answered %+v", e, err, a)
	}
	return a
}

var signedIn = []string{"cookie: " + ours(liveID)}

func TestPolicies(t *testing.T) {
	policies := extauthz.PolicySet{Policies: []extauthz.Policy{
		{Name: "required"},
		{Name: "optional", Session: "optional"},
		{Name: "none", Session: "none"},
		{Name: "any", AnyRole: []string{"x", "staff"}},
		{Name: "any-missing", AnyRole: []string{"x", "y"}},
		{Name: "all", AllRoles: []string{"staff", "a,b"}},
		{Name: "all-missing", AllRoles: []string{"staff", "x"}},
		{Name: "any-and-all", AnyRole: []string{"x", "a,b"}, AllRoles: []string{"staff"}},
		{Name: "optional-any", Session: "optional", AnyRole: []string{"staff"}},
		{Name: "true", Condition: always(true, nil)},
		{Name: "false", Condition: always(false, nil)},
		{Name: "error", Condition: always(true, errors.New("no such key"))},
		{Name: "none-false", Session: "none", Condition: always(false, nil)},
		{Name: "none-true", Session: "none", Condition: always(true, nil)},
		{Name: "optional-false", Session: "optional", Condition: always(false, nil)},
		{Name: "role-and-false", AnyRole: []string{"x"}, Condition: always(false, nil)},
	}}
	for _, test := range []struct {
		policy, session, roles string // of context_extensions
		signedIn               bool
		err                    error
		status                 int
		reason                 string
		asked                  bool
	}{
		{"required", "", "", true, nil, 200, "ok", true},
		{"required", "", "", false, nil, 401, "no_cookie", false},
		{"required", "", "", true, errors.New("refused"), 503, "unavailable", true},
		{"optional", "", "", true, nil, 200, "ok", true},
		{"optional", "", "", false, nil, 200, "no_cookie", false},
		{"optional", "", "", true, sessions.ErrLayout, 503, "unknown_layout", true},
		{"none", "", "", true, errors.New("refused"), 200, "public", false},
		{"any", "", "", true, nil, 200, "ok", true},
		{"any-missing", "", "", true, nil, 403, "missing_role", true},
		{"any", "", "", false, nil, 401, "no_cookie", false},
		{"all", "", "", true, nil, 200, "ok", true},
		{"all-missing", "", "", true, nil, 403, "missing_role", true},
		{"any-and-all", "", "", true, nil, 200, "ok", true},
		{"optional-any", "", "", true, nil, 200, "ok", true},
		{"optional-any", "", "", false, nil, 401, "no_cookie", false},
		{"true", "", "", true, nil, 200, "ok", true},
		{"false", "", "", true, nil, 403, "condition_false", true},
		{"false", "", "", false, nil, 401, "no_cookie", false},
		{"error", "", "", true, nil, 403, "condition_error", true},
		{"none-false", "", "", true, nil, 403, "condition_false", false},
		{"none-true", "", "", true, nil, 200, "public", false},
		{"optional-false", "", "", false, nil, 403, "condition_false", false},
		{"role-and-false", "", "", true, nil, 403, "missing_role", true},

		// The short form and the policy are both asked.
		{"none", "required", "", false, nil, 401, "no_cookie", false},
		{"none", "required", "", true, nil, 200, "ok", true},
		{"required", "none", "", false, nil, 401, "no_cookie", false},
		{"required", "optional", "", false, nil, 401, "no_cookie", false},
		{"optional", "none", "", false, nil, 200, "no_cookie", false},
		{"none", "none", "", true, nil, 200, "public", false},
		{"none", "", "staff", true, nil, 200, "ok", true},
		{"none", "", "x", true, nil, 403, "missing_role", true},
		{"any", "", "x", true, nil, 403, "missing_role", true},
		{"all", "optional", "x,staff", true, nil, 200, "ok", true},
		{"optional", "", "staff", false, nil, 401, "no_cookie", false},

		{"unknown", "", "", true, nil, 403, "unknown_policy", false},
		{"Required", "", "", true, nil, 403, "unknown_policy", false},
		{"none", "None", "", true, nil, 403, "bad_route", false},
		{"none", "none", "staff", true, nil, 403, "bad_route", false},
		{"", "", "", true, nil, 200, "ok", true}, // without a default: the short form alone
		{"", "none", "", true, nil, 200, "public", false},
	} {
		t.Run(fmt.Sprintf("%s+%s+%s, signed in: %v", test.policy, test.session, test.roles, test.signedIn), func(t *testing.T) {
			f := &fake{session: ada, err: test.err}
			c := check{request: "GET /x", extensions: map[string]string{}, lines: []string{"x-user-id: 1", "X_User.Roles: 1"}}
			for key, value := range map[string]string{"policy": test.policy, "session": test.session, "roles": test.roles} {
				if value != "" {
					c.extensions["coatcheck."+key] = value
				}
			}
			if test.signedIn {
				c.lines = append(c.lines, signedIn...)
			}
			a := ask(t, policed(t, f, extauthz.Config{}, policies), c)
			if a.status != test.status || a.reason != test.reason || (f.calls > 0) != test.asked {
				t.Errorf("status %d, %s, asked: %v; want %d, %s, %v", a.status, a.reason, f.calls > 0, test.status, test.reason, test.asked)
			}
			if test.status == 200 {
				checkIdentity(t, a, test.reason == "ok")
			}
			if known := test.policy != "" && test.reason != "unknown_policy" && test.reason != "bad_route"; known {
				if got := a.response.GetDynamicMetadata().GetFields()["policy"].GetStringValue(); got != test.policy {
					t.Errorf("the metadata's policy is %q", got)
				}
			}
		})
	}
}

func TestEmptyPolicyName(t *testing.T) {
	a := ask(t, policed(t, &fake{}, extauthz.Config{}, extauthz.PolicySet{}), check{request: "GET /x", extensions: map[string]string{"coatcheck.policy": ""}})
	if a.reason != "bad_route" {
		t.Errorf("%d %s", a.status, a.reason)
	}
	server, err := extauthz.New(&fake{}, extauthz.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if a := ask(t, server, check{request: "GET /x", extensions: map[string]string{"coatcheck.policy": "x"}}); a.status != 403 || a.reason != "unknown_policy" {
		t.Errorf("without policies: %d %s", a.status, a.reason)
	}
}

// areas are rules of every kind.
var areas = extauthz.PolicySet{
	Policies: []extauthz.Policy{
		{Name: "public", Session: "none"}, {Name: "staff", AnyRole: []string{"staff"}}, {Name: "admin", AnyRole: []string{"admin"}}, {Name: "signed-in"},
	},
	Rules: []extauthz.Rule{
		{Hosts: []string{"*.internal.example"}, Policy: "admin"},
		{Path: "/health", Methods: []string{"GET"}, Policy: "public"},
		{PathTemplate: "/users/{id}/orders", Policy: "staff"},
		{PathPrefix: "/public", Policy: "public"},
		{PathPrefix: "/admin", Policy: "admin"},
	},
	Default: "signed-in",
}

func TestRulesChoose(t *testing.T) {
	for _, test := range []struct {
		request, host string
		extensions    map[string]string
		status        int
		reason        string
		policy        string
		rule          int
	}{
		{"GET /x", "shop.example", nil, 200, "ok", "signed-in", 0},
		{"GET /health?x", "shop.example", nil, 200, "public", "public", 2},
		{"POST /health", "shop.example", nil, 200, "ok", "signed-in", 0},
		{"GET /users/7/orders", "shop.example", nil, 200, "ok", "staff", 3},
		{"GET /public", "SHOP.example:8443", nil, 200, "public", "public", 4},
		{"GET /admin/x", "shop.example", nil, 403, "missing_role", "admin", 5},
		{"GET /public", "a.Internal.example:80", nil, 403, "missing_role", "admin", 1},
		{"GET /public/../admin", "shop.example", nil, 400, "noncanonical_path", "", 0},
		{"GET /public%2f..%2fadmin", "shop.example", nil, 400, "noncanonical_path", "", 0},
		{"GET /admin?/public", "shop.example", nil, 403, "missing_role", "admin", 5},
		{"GET /admin#/public", "shop.example", nil, 400, "noncanonical_path", "", 0},
		{"GET /public", "a.internal.example,shop.example", nil, 400, "bad_host", "", 0},
		{"GET /public", "", nil, 400, "bad_host", "", 0},
		{"GET http://h/public", "shop.example", nil, 400, "bad_request", "", 0},

		// A route that names a policy is not matched again.
		{"GET /admin", "a,b", map[string]string{"coatcheck.policy": "staff"}, 200, "ok", "staff", 0},
		// But its path is looked at.
		{"GET /public/../admin", "a,b", map[string]string{"coatcheck.policy": "staff"}, 400, "noncanonical_path", "staff", 0},
		// One that has a short form is held to both.
		{"GET /public", "shop.example", map[string]string{"coatcheck.roles": "x"}, 403, "missing_role", "public", 4},
		{"GET /admin", "shop.example", map[string]string{"coatcheck.session": "none"}, 403, "missing_role", "admin", 5},
	} {
		t.Run(test.request+" "+test.host, func(t *testing.T) {
			var out bytes.Buffer
			server := policed(t, &fake{session: ada}, extauthz.Config{
				Log: extauthz.LogConfig{Decisions: extauthz.LogAll}, Logger: slog.New(slog.NewTextHandler(&out, nil)),
			}, areas)
			m := check{request: test.request, lines: signedIn, extensions: test.extensions}.message()
			m.Attributes.Request.Http.Host = test.host
			a := askMessage(t, server, m)
			policy := a.response.GetDynamicMetadata().GetFields()["policy"].GetStringValue()
			if a.status != test.status || a.reason != test.reason || policy != test.policy {
				t.Errorf("%d %s by policy %q, want %d %s by %q", a.status, a.reason, policy, test.status, test.reason, test.policy)
			}
			e, err := server.Explain(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			if got := e.Rule; (got != nil) != (test.rule > 0) || got != nil && (got.Number != test.rule || len(e.Passed) != test.rule-1) {
				t.Errorf("explained by rule %+v, passing %v; want rule %d", got, e.Passed, test.rule)
			}
			if test.rule > 0 && !strings.Contains(out.String(), fmt.Sprintf(`rule="%d: `, test.rule)) || (test.policy != "") != strings.Contains(out.String(), "policy="+test.policy) {
				t.Errorf("the log has neither policy nor rule: %s", out.String())
			}
		})
	}
}

// TestFieldsOfConditions: a check asks for what goes upstream and what the
// policy's condition reads, and for nothing else.
func TestFieldsOfConditions(t *testing.T) {
	reads := func(fields ...string) condition {
		return condition{fields: fields, holds: func(extauthz.Input) (bool, error) { return true, nil }}
	}
	policies := extauthz.PolicySet{Policies: []extauthz.Policy{
		{Name: "plain"}, {Name: "role", AnyRole: []string{"staff"}}, {Name: "reading", Condition: reads("plan", "tenant", "created_at")},
		{Name: "withheld", Headers: []string{"id"}}, {Name: "withheld-reading", Headers: []string{}, Condition: reads("plan")},
		{Name: "no-fields", Condition: reads()},
	}}
	config := extauthz.Config{Fields: []extauthz.FieldHeader{{Field: "tenant", Header: "x-user-tenant-id"}}}
	for policy, want := range map[string][]string{
		"": {"tenant"}, "plain": {"tenant"}, "role": {"tenant"}, "reading": {"tenant", "plan", "created_at"}, "withheld": nil, "withheld-reading": {"plan"}, "no-fields": {"tenant"},
	} {
		f := &fake{session: ada}
		c := check{request: "GET /x", lines: signedIn}
		if policy != "" {
			c.extensions = map[string]string{"coatcheck.policy": policy}
		}
		a := ask(t, policed(t, f, config, policies), c)
		if a.status != 200 || !slices.Equal(f.fields, want) {
			t.Errorf("%s: %d, asked for %q, want %q", policy, a.status, f.fields, want)
		}
	}
	f := &fake{session: ada}
	if ask(t, policed(t, f, extauthz.Config{}, policies), check{request: "GET /x", lines: signedIn}); len(f.fields) != 0 {
		t.Errorf("without mapped fields: asked for %q", f.fields)
	}
}

// TestHeadersOfPolicies: a header that a policy withholds is removed from every request.
func TestHeadersOfPolicies(t *testing.T) {
	all := []string{"x-user-id", "x-user-name", "x-user-roles", "x-user-session", "x-user-tenant-id"}
	for _, test := range []struct {
		headers []string
		want    []string
	}{
		{nil, all}, {[]string{}, nil}, {[]string{"id"}, []string{"x-user-id"}},
		{[]string{"tenant-id", "roles"}, []string{"x-user-roles", "x-user-tenant-id"}},
	} {
		server := policed(t, &fake{session: ada}, extauthz.Config{Fields: []extauthz.FieldHeader{{Field: "tenant", Header: "x-user-tenant-id"}}},
			extauthz.PolicySet{Policies: []extauthz.Policy{{Name: "p", Headers: test.headers}}, Default: "p"})
		a := ask(t, server, check{request: "GET /x", lines: append([]string{"x-user-name: 1", "X.User.Session: 1"}, signedIn...)})
		for _, name := range all {
			if wanted := slices.Contains(test.want, name); (a.set[name] != "") != wanted || slices.Contains(a.removed, name) == wanted {
				t.Errorf("%q: %s is %q, removed %v", test.headers, name, a.set[name], a.removed)
			}
		}
	}
}

// TestInput: what a condition is given.
func TestInput(t *testing.T) {
	var got extauthz.Input
	see := condition{headers: []string{"x-plan", "x-none", "accept"}, fields: []string{"tenant"}, holds: func(in extauthz.Input) (bool, error) { got = in; return true, nil }}
	server := policed(t, &fake{session: ada}, extauthz.Config{}, extauthz.PolicySet{Policies: []extauthz.Policy{{Name: "p", Condition: see}}, Default: "p"})
	m := check{request: "PUT /a%20b/%C3%B6?x=1", lines: append([]string{"x-plan: a", "x-other: 1", "x-plan: b\xff", "accept: text/plain"}, signedIn...)}.message()
	m.Attributes.Request.Http.Host = "Shop.Example:80"
	m.Attributes.Source = peer("192.0.2.7", "spiffe://a/b")
	for _, joined := range []bool{false, true} {
		if joined {
			http := m.Attributes.Request.Http
			http.Headers, http.HeaderMap = map[string]string{"x-plan": "a,b\uFFFD", "accept": "text/plain", "cookie": ours(liveID)}, nil
		}
		if a := askMessage(t, server, m); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.reason)
		}
		if got.Session == nil || got.Session.UserID != "42" || got.Method != "PUT" || got.Host != "shop.example" || got.Path != "/a b/ö" ||
			got.SourceAddress != "192.0.2.7" || got.SourcePrincipal != "spiffe://a/b" || time.Since(got.Now) > time.Minute {
			t.Errorf("%+v", got)
		}
		if len(got.Headers) != 2 || got.Headers["x-plan"] != "a,b\uFFFD" || got.Headers["accept"] != "text/plain" {
			t.Errorf("headers are %q", got.Headers)
		}
	}
	for path, reason := range map[string]string{"/a/../b": "noncanonical_path", "/a%2Fb": "noncanonical_path"} {
		if a := ask(t, server, check{request: "GET " + path, lines: signedIn}); a.status != 400 || a.reason != reason {
			t.Errorf("%s: %d %s", path, a.status, a.reason)
		}
	}
}

// TestSetPolicies names every mistake at once, and changes nothing then.
func TestSetPolicies(t *testing.T) {
	server := policed(t, &fake{session: ada}, extauthz.Config{}, areas)
	err := server.SetPolicies(extauthz.PolicySet{
		Refusal: extauthz.Refusal{LoginURL: "javascript:1"},
		Policies: []extauthz.Policy{
			{Name: ""}, {Name: "a b"}, {Name: "twice"}, {Name: "twice"},
			{Name: "s", Session: "maybe"}, {Name: "r", AnyRole: []string{}}, {Name: "r2", AllRoles: []string{""}}, {Name: "r3", Session: "none", AnyRole: []string{"x"}},
			{Name: "h", Headers: []string{"x-user-id"}}, {Name: "o", Origins: []string{"app.example"}}, {Name: "o2", Origins: []string{"https://App.example"}}, {Name: "o3", Origins: []string{"https://a/b"}},
			{Name: "c", Condition: condition{headers: []string{"cookie"}}}, {Name: "c2", Condition: condition{headers: []string{"X_User.id"}}}, {Name: "c3", Condition: condition{headers: []string{"X-Plan"}}},
			{Name: "c4", Condition: condition{fields: []string{"user_id"}}}, {Name: "c5", Session: "none", Condition: condition{fields: []string{"plan"}}},
			{Name: "f", Refusal: extauthz.Refusal{LoginURL: "//evil", HTML: "{{.Nothing}}", Forbidden: "\xff"}}, {Name: "f2", Refusal: extauthz.Refusal{HTML: "{{"}},
		},
		Rules: []extauthz.Rule{{Path: "/a?b", Policy: "twice"}, {Hosts: []string{"A"}, Policy: "missing"}, {}},
	})
	for _, want := range []string{
		"refusal: login URL", "policy 1: name", `policy "a b": name`, `policy "twice": the name is taken`, `session "maybe"`, `policy "r": any role`, `policy "r2": all roles`, `policy "r3": roles where`,
		`policy "h": header "x-user-id"`, `policy "o": origin`, `policy "o2": origin`, `policy "o3": origin`, `policy "c": condition: it cannot read the cookie`, `policy "c2": condition: header`, `policy "c3": condition: header`,
		`policy "c4": condition`, `policy "c5": condition`, `policy "f": refusal`, "page: ", `policy "f2": refusal`, `rule 1: /a?b: path`, `write "a"`, `there is no policy "missing"`, "rule 3: every request: no policy is named", "default, for what no rule matches",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %q:\n%v", want, err)
		}
	}
	if a := ask(t, server, check{request: "GET /admin", lines: signedIn}); a.reason != "missing_role" {
		t.Errorf("after a mistake: %d %s", a.status, a.reason)
	}
	if err := server.SetPolicies(extauthz.PolicySet{}); err != nil {
		t.Fatal(err)
	}
	if a := ask(t, server, check{request: "GET /admin/%c3%b6", lines: signedIn}); a.status != 200 {
		t.Errorf("without policies again: %d %s", a.status, a.reason)
	}
}

// TestOneConfiguration swaps policies under load. In each configuration the
// condition reads a header of its own and the refusal says which it is of: no
// check sees the rules of one and the header, the policy or the text of another.
func TestOneConfiguration(t *testing.T) {
	server, err := extauthz.New(&fake2{}, extauthz.Config{})
	if err != nil {
		t.Fatal(err)
	}
	configuration := func(i int) extauthz.PolicySet {
		name := fmt.Sprintf("x-%d", i%7)
		return extauthz.PolicySet{
			Policies: []extauthz.Policy{{Name: name, Refusal: extauthz.Refusal{Forbidden: name}, Condition: condition{headers: []string{name}, holds: func(in extauthz.Input) (bool, error) {
				if len(in.Headers) != 1 || in.Headers[name] != name {
					return false, fmt.Errorf("%q of %s", in.Headers, name)
				}
				return false, nil
			}}}},
			Rules: []extauthz.Rule{{PathPrefix: "/a", Policy: name}}, Default: name,
		}
	}
	if err := server.SetPolicies(configuration(0)); err != nil {
		t.Fatal(err)
	}
	c := check{request: "GET /a", lines: slices.Clone(signedIn)}
	for i := range 7 {
		c.lines = append(c.lines, fmt.Sprintf("x-%d: x-%d", i, i))
	}
	m, done := c.message(), make(chan struct{})
	var checking sync.WaitGroup
	for range 4 {
		checking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				response, _ := server.Check(context.Background(), m)
				fields := response.GetDynamicMetadata().GetFields()
				if body := response.GetDeniedResponse().GetBody(); fields["reason"].GetStringValue() != "condition_false" || body != fields["policy"].GetStringValue()+"\n" {
					t.Errorf("%v, %q", fields, body)
					return
				}
			}
		})
	}
	for i := range 2000 {
		if err := server.SetPolicies(configuration(i)); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	checking.Wait()
}

// fake2 is a fake without memory, for several callers at once.
type fake2 struct{}

func (*fake2) Touch(_ context.Context, id sessions.ID, _ ...string) (*sessions.Session, error) {
	s := ada
	s.Key = id.Key()
	return &s, nil
}

// TestShadow: a policy in shadow mode refuses no request, logs what it would have
// done, and opens nothing that others close.
func TestShadow(t *testing.T) {
	var out bytes.Buffer
	registry := prometheus.NewRegistry()
	f := &fake{session: ada}
	server := policed(t, f, extauthz.Config{Logger: slog.New(slog.NewTextHandler(&out, nil)), Metrics: registry}, extauthz.PolicySet{
		Policies: []extauthz.Policy{
			{Name: "role", Shadow: true, AnyRole: []string{"x"}}, {Name: "false", Shadow: true, Condition: always(false, nil)}, {Name: "error", Shadow: true, Condition: always(false, errors.New("key"))},
			{Name: "origin", Shadow: true, Origins: []string{}}, {Name: "live"}, {Name: "panic", Shadow: true, Condition: condition{holds: func(extauthz.Input) (bool, error) { panic("bug") }}},
		},
		Rules: []extauthz.Rule{{PathPrefix: "/r", Policy: "role"}}, Default: "role",
	})
	if !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), "[error false origin panic role]") {
		t.Errorf("nothing at start: %s", out.String())
	}
	if got := series(t, registry)["coatcheck_policies_in_shadow"]; got != 5 {
		t.Errorf("the gauge says %v", got)
	}
	for _, test := range []struct {
		request  string
		policy   string
		roles    string
		cookie   string
		err      error
		status   int
		reason   string
		shadow   bool
		identity bool
	}{
		{"GET /x", "role", "", ours(liveID), nil, 200, "missing_role", true, true},
		{"GET /x", "role", "", "", nil, 200, "no_cookie", true, false},
		{"GET /x", "role", "", ours(otherID), nil, 200, "not_found", true, false},
		{"GET /x", "role", "", ours(liveID), errors.New("refused"), 200, "unavailable", true, false},
		{"GET /x", "role", "", ours(liveID), sessions.ErrLayout, 200, "unknown_layout", true, false},
		{"GET /x", "false", "", ours(liveID), nil, 200, "condition_false", true, true},
		{"GET /x|y", "false", "", ours(liveID), nil, 200, "noncanonical_path", true, true},
		{"GET /x", "error", "", ours(liveID), nil, 200, "condition_error", true, true},
		{"POST /x", "origin", "", ours(liveID), nil, 200, "bad_origin", true, true},
		{"GET /x", "origin", "", ours(liveID), nil, 200, "ok", false, true},
		{"GET /x", "", "", ours(liveID), nil, 200, "missing_role", true, true},
		// The route's own needs, and what makes no sense, are no policy's.
		{"GET /x", "role", "y", ours(liveID), nil, 403, "missing_role", false, false},
		{"GET /x", "role", "staff", "", nil, 401, "no_cookie", false, false},
		{"GET x", "role", "", ours(liveID), nil, 400, "bad_request", false, false},
		{"GET /x//y", "false", "", ours(liveID), nil, 400, "noncanonical_path", false, false},
		{"GET /r//x", "", "", ours(liveID), nil, 400, "noncanonical_path", false, false},
		{"GET /x", "missing", "", ours(liveID), nil, 403, "unknown_policy", false, false},
		{"GET /x", "live", "", "", nil, 401, "no_cookie", false, false},
		{"GET /x", "panic", "", ours(liveID), nil, 503, "internal", false, false},
	} {
		t.Run(fmt.Sprint(test.request, test.policy, test.roles, test.reason), func(t *testing.T) {
			out.Reset()
			f.err = test.err
			c := check{request: test.request, lines: []string{"x-user-id: 1", "X_User.Roles: 1"}, extensions: map[string]string{}}
			if test.cookie != "" {
				c.lines = append(c.lines, "cookie: "+test.cookie)
			}
			for key, value := range map[string]string{"policy": test.policy, "roles": test.roles} {
				if value != "" {
					c.extensions["coatcheck."+key] = value
				}
			}
			at := "coatcheck_shadow_denials_total,reason=" + test.reason
			before := series(t, registry)[at]
			response, err := server.Check(t.Context(), c.message())
			if err != nil {
				t.Fatal(err)
			}
			a := read(t, response)
			if a.status != test.status || a.reason != test.reason {
				t.Errorf("%d %s", a.status, a.reason)
			}
			if a.status == 200 {
				checkIdentity(t, a, test.identity)
			}
			if got := series(t, registry)[at] - before; (got == 1) != test.shadow {
				t.Errorf("counted %v", got)
			}
			if strings.Contains(out.String(), "shadow=true would_be=deny") != test.shadow {
				t.Errorf("logged %s", out.String())
			}
		})
	}
	if err := server.SetPolicies(areas); err != nil || series(t, registry)["coatcheck_policies_in_shadow"] != 0 {
		t.Errorf("the gauge stays: %v", err)
	}
}
