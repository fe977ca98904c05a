package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/extauthz/condition"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A deciding is a stack whose checks are decided in the test's own process, so
// that the test can ask the same server why, and change its policies.
type deciding struct {
	*rig.Stack
	server  *extauthz.Server
	manager *sessions.Manager

	mu   sync.Mutex
	last *authv3.CheckResponse // nil: no check since decided was called
	sent *authv3.CheckRequest  // that it answers
}

func startDeciding(t *testing.T, policies extauthz.PolicySet, change ...func(*bootstrapv3.Bootstrap)) *deciding {
	t.Helper()
	d := new(deciding)
	client := redistest.Start(t).Client()
	t.Cleanup(func() { _ = client.Close() })
	var err error
	if d.manager, err = sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{}); err != nil {
		t.Fatal(err)
	}
	d.server, err = extauthz.New(d.manager, extauthz.Config{
		Timeout: 9 * time.Second, LoginURL: "/login", Fields: []extauthz.FieldHeader{{Field: "tenant", Header: "x-user-tenant"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.server.SetPolicies(policies); err != nil {
		t.Fatal(err)
	}
	address := d.serve(t)
	d.Stack = start(t, rig.Options{Patient: true, Bootstrap: func(b *bootstrapv3.Bootstrap) {
		rig.ClusterAt(b, "coatcheck", address)
		for _, f := range change {
			f(b)
		}
	}})
	return d
}

// serve answers checks, and keeps the answers, until the test ends.
func (d *deciding) serve(t *testing.T) (address string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.ForceServerCodecV2(extauthz.Codec()), grpc.UnaryInterceptor(
		func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			response, err := handle(ctx, r)
			if check, ok := response.(*authv3.CheckResponse); ok {
				d.mu.Lock()
				d.last = check
				d.sent, _ = r.(*authv3.CheckRequest)
				d.mu.Unlock()
			}
			return response, err
		}))
	healthy := health.NewServer()
	healthy.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)
	healthv1.RegisterHealthServer(g, healthy)
	extauthz.Register(g, d.server)
	go func() { _ = g.Serve(listener) }()
	t.Cleanup(g.Stop)
	return listener.Addr().String()
}

// decided returns reason and policy of the check since the last call, and reports
// whether there was a check.
func (d *deciding) decided() (reason, policy string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fields := d.last.GetDynamicMetadata().GetFields()
	ok, d.last = d.last != nil, nil
	return fields["reason"].GetStringValue(), fields["policy"].GetStringValue(), ok
}

// policyRoutes adds a route for each policy, /p/NAME.
func policyRoutes(names ...string) func(*bootstrapv3.Bootstrap) {
	return func(b *bootstrapv3.Bootstrap) {
		for _, name := range names {
			rig.AddRoute(b, prefix("/p/"+name), map[string]string{"coatcheck.policy": name})
		}
	}
}

// showing lets Coatcheck see further headers.
func showing(names ...string) func(*bootstrapv3.Bootstrap) {
	return func(b *bootstrapv3.Bootstrap) {
		rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) {
			for _, name := range names {
				f.AllowedHeaders.Patterns = append(f.AllowedHeaders.Patterns,
					&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}})
			}
		})
	}
}

func cel(t *testing.T, text string) extauthz.Condition {
	t.Helper()
	c, err := condition.Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPolicies sends every kind of requirement through Envoy.
func TestPolicies(t *testing.T) {
	t.Parallel()
	policies := []extauthz.Policy{
		{Name: "required"}, {Name: "optional", Session: "optional"}, {Name: "none", Session: "none"},
		{Name: "any", AnyRole: []string{"x", "staff"}}, {Name: "all", AllRoles: []string{"staff", "a,b"}}, {Name: "all-missing", AllRoles: []string{"staff", "x"}},
		{Name: "tenant", Condition: cel(t, `request.segments[2] == session.fields["team"]`)},
		{Name: "step-up", Condition: cel(t, `session.age < duration("5m")`)}, {Name: "stale", Condition: cel(t, `session.age > duration("5m")`)},
		{Name: "local", Session: "none", Condition: cel(t, `source.address.inCIDR("127.0.0.0/8")`)}, {Name: "office", Session: "none", Condition: cel(t, `source.address.inCIDR("192.0.2.0/24")`)},
		{Name: "plan", Condition: cel(t, `request.headers["x-plan"] == "gold"`)},
		{Name: "origin", Origins: []string{"https://app.example"}}, {Name: "preflight", Preflight: true, AnyRole: []string{"x"}},
		{Name: "withheld", Headers: []string{"id", "tenant"}}, {Name: "shadow", Shadow: true, AnyRole: []string{"x"}},
		{Name: "page", AnyRole: []string{"x"}, Refusal: extauthz.Refusal{LoginURL: "https://id.example/in", Forbidden: "Ask <Ada>."}},
	}
	names := []string{"unknown"}
	for _, p := range policies {
		names = append(names, p.Name)
	}
	d := startDeciding(t, extauthz.PolicySet{Policies: policies}, policyRoutes(names...), showing("x-plan"), func(b *bootstrapv3.Bootstrap) {
		rig.AddRoute(b, prefix("/both"), map[string]string{"coatcheck.policy": "none", "coatcheck.roles": "staff"})
	})
	cookie, key := login(t, d.manager, sessions.NewSession{UserID: "42", Username: "Ada", Roles: []string{"staff", "a,b"}, Fields: map[string]string{"tenant": "acme", "team": "blue"}})
	live := "Cookie: " + cookie
	identity := map[string]string{"X-User-Id": "42", "X-User-Name": "Ada", "X-User-Roles": "staff,a%2Cb", "X-User-Session": string(key), "X-User-Tenant": "acme"}
	anonymous := map[string]string{}
	length := "Content-Length: 0"
	const websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	preflight := []string{"Origin: https://app.example", "Access-Control-Request-Method: PUT"}
	for _, test := range []struct {
		request  string
		lines    []string
		status   int
		reason   string
		identity map[string]string
	}{
		{"GET /p/required", []string{live}, 200, "ok", identity},
		{"GET /p/required", nil, 401, "no_cookie", nil},
		{"GET /p/required", []string{"Sec-Fetch-Mode: navigate"}, 302, "no_cookie", nil},
		{"GET /p/optional", []string{live}, 200, "ok", identity},
		{"GET /p/optional", nil, 200, "no_cookie", anonymous},
		{"GET /p/none", []string{live}, 200, "public", anonymous},
		{"GET /p/any", []string{live}, 200, "ok", identity},
		{"GET /p/all", []string{live}, 200, "ok", identity},
		{"GET /p/all-missing", []string{live}, 403, "missing_role", nil},
		{"GET /p/tenant/blue", []string{live}, 200, "ok", identity},
		{"GET /p/tenant/red", []string{live}, 403, "condition_false", nil},
		{"GET /p/tenant", []string{live}, 403, "condition_error", nil},
		{"GET /p/tenant/bl%75e", []string{live}, 200, "ok", identity}, // Envoy has normalised it
		{"GET /p/tenant/blue;x", []string{live}, 400, "noncanonical_path", nil},
		{"GET /p/step-up", []string{live}, 200, "ok", identity},
		{"GET /p/stale", []string{live}, 403, "condition_false", nil},
		{"GET /p/local", nil, 200, "public", anonymous},
		{"GET /p/office", []string{live, "X-Forwarded-For: 192.0.2.1"}, 403, "condition_false", nil},
		{"GET /p/plan", []string{live, "X-Plan: gold"}, 200, "ok", identity},
		{"GET /p/plan", []string{live, "X-Plan: gold", "X-Plan: gold"}, 403, "condition_false", nil},
		{"GET /p/plan", []string{live}, 403, "condition_error", nil},
		{"GET /p/origin", []string{live, "Origin: https://evil.example"}, 200, "ok", identity},
		{"POST /p/origin", []string{live, length, "Origin: http://shop.example"}, 200, "ok", identity},
		{"POST /p/origin", []string{live, length, "Origin: https://app.example"}, 200, "ok", identity},
		{"POST /p/origin", []string{live, length, "Origin: https://evil.example"}, 403, "bad_origin", nil},
		{"POST /p/origin", []string{live, length, "Origin: https://app.example", "Origin: https://evil.example"}, 403, "bad_origin", nil},
		{"POST /p/origin", []string{live, length}, 403, "bad_origin", nil},
		{"GET /p/origin", []string{live, websocket, "Origin: https://evil.example"}, 403, "bad_origin", nil},
		{"GET /p/origin", []string{live, websocket}, 403, "bad_origin", nil},
		{"OPTIONS /p/preflight", preflight, 200, "preflight", anonymous},
		{"OPTIONS /p/preflight", append([]string{live}, preflight...), 200, "preflight", anonymous},
		{"OPTIONS /p/required", preflight, 401, "no_cookie", nil},
		{"PUT /p/preflight", append([]string{length}, preflight...), 401, "no_cookie", nil},
		{"GET /p/withheld", []string{live}, 200, "ok", map[string]string{"X-User-Id": "42", "X-User-Tenant": "acme"}},
		{"GET /p/shadow", []string{live}, 200, "missing_role", identity},
		{"GET /p/shadow", nil, 200, "no_cookie", anonymous},
		{"GET /p/page", []string{live}, 403, "missing_role", nil},
		{"GET /p/page", []string{"Sec-Fetch-Mode: navigate"}, 302, "no_cookie", nil},
		{"GET /p/unknown", []string{live}, 403, "unknown_policy", nil},
		{"GET /both", []string{live}, 200, "ok", identity},
		{"GET /both", nil, 401, "no_cookie", nil},
	} {
		t.Run(fmt.Sprint(test.request, " ", test.lines), func(t *testing.T) {
			d.decided()
			got := send(t, d.Stack, test.request, test.lines...).is(t, test.status)
			reason, policy, _ := d.decided()
			if reason != test.reason || test.identity != nil && !maps.Equal(got.identity(), test.identity) {
				t.Errorf("%s by %s, the upstream was sent %v; want %s, %v", reason, policy, got.identity(), test.reason, test.identity)
			}
			if name, ok := strings.CutPrefix(strings.Fields(test.request)[1], "/p/"); ok && test.reason != "unknown_policy" && policy != strings.Split(name, "/")[0] {
				t.Errorf("decided by %q", policy)
			}
			if test.status != 200 && got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control is %q", got.header.Get("Cache-Control"))
			}
		})
	}
	t.Run("WebSocket from the own site", func(t *testing.T) {
		d.decided()
		// The upstream does not speak WebSocket: Envoy passes its status on.
		got := send(t, d.Stack, "GET /p/origin", live, websocket, "Origin: https://shop.example")
		if reason, _, _ := d.decided(); got.status != 200 || reason != "ok" {
			t.Errorf("%d, %s", got.status, reason)
		}
	})
	t.Run("bodies", func(t *testing.T) { policyBodies(t, d, live) })
}

// policyBodies checks that each kind of client gets a refusal in its own media type.
func policyBodies(t *testing.T, d *deciding, live string) {
	got := send(t, d.Stack, "GET /p/page", live, "Accept: application/json").is(t, 403)
	var problem struct {
		Title, Detail string
		Status        int
	}
	if err := json.Unmarshal([]byte(got.body), &problem); err != nil || problem.Status != 403 || problem.Detail != "Ask <Ada>." || got.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%v: %s, %v", err, got.body, got.header)
	}
	got = send(t, d.Stack, "GET /p/page", live, "Accept: text/html").is(t, 403)
	if !strings.Contains(got.body, "Ask &lt;Ada&gt;.") || got.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("%s, %v", got.body, got.header)
	}
	if got = send(t, d.Stack, "GET /p/page", live).is(t, 403); got.body != "Ask <Ada>.\n" {
		t.Errorf("%q", got.body)
	}
	got = send(t, d.Stack, "POST /p/page", live, "Content-Type: application/grpc", "Content-Length: 0")
	if got.status != 200 || got.header.Get("Grpc-Status") != "7" || got.body != "" || got.sent != nil {
		t.Errorf("gRPC: %d, %v", got.status, got.header)
	}
}
