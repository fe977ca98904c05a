package e2e_test

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools/testcollector"
	"github.com/coatcheck/coatcheck/sessions"
)

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	packed, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

// withTraces has Envoy record a percentage of traces, and send its spans to a collector.
func withTraces(t *testing.T, collector string, percent float64) func(*bootstrapv3.Bootstrap) {
	t.Helper()
	host, port, err := net.SplitHostPort(collector)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	address := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(number)},
	}}}
	cluster := &clusterv3.Cluster{
		Name: "collector",
		TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": packed(t, &httpv3.HttpProtocolOptions{
			UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: new(corev3.Http2ProtocolOptions)},
			}},
		})},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: "collector", Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}}}},
		}}},
	}
	tracer := &tracev3.Tracing_Http{Name: "envoy.tracers.opentelemetry", ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: packed(t, &tracev3.OpenTelemetryConfig{
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "collector"}}},
		ServiceName: "envoy",
	})}}
	return func(b *bootstrapv3.Bootstrap) {
		b.StaticResources.Clusters = append(b.StaticResources.Clusters, cluster)
		rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) {
			m.Tracing = &hcmv3.HttpConnectionManager_Tracing{Provider: tracer, RandomSampling: &typev3.Percent{Value: percent}}
		})
	}
}

// named returns the spans of a service with a name.
func named(spans []testcollector.Span, service, name string) (found []testcollector.Span) {
	for _, s := range spans {
		if s.Service == service && s.Name == name {
			found = append(found, s)
		}
	}
	return found
}

// root returns the first ancestor of a span that came, and how many there are.
func root(spans []testcollector.Span, of testcollector.Span) (first testcollector.Span, ancestors int) {
	for {
		i := slices.IndexFunc(spans, func(s testcollector.Span) bool { return s.ID == of.Parent && s.TraceID == of.TraceID })
		if i < 0 {
			return of, ancestors
		}
		of = spans[i]
		ancestors++
	}
}

// TestTraces: one trace has Envoy's span of the request, its span of the check, ours and
// the call to Redis, below each other; a login's has the login and its calls to Redis. No
// span of ours has anything of the client: it may say only what is listed here.
func TestTraces(t *testing.T) {
	t.Parallel()
	collector := testcollector.Start(t)
	s := start(t, rig.Options{
		Patient: true, Users: usersFile(t), Arguments: []string{"--tracing-endpoint", collector.Addr},
		Bootstrap: withTraces(t, collector.Addr, 100),
	})
	m := manager(t, s, sessions.Config{})
	cookie, key := login(t, m, ada)
	secrets := []string{strings.TrimPrefix(cookie, sessions.DefaultCookieName+"="), key.Handle() + "x", "Ada", "Löwe", "acme", "secret", password, "x=1", "shop.example", "user_id"}
	send(t, s, "GET /secret/page?x=1", "Cookie: "+cookie, "X-Request-Id: secret").is(t, 200)
	send(t, s, "GET /admin?x=1", "Cookie: "+cookie).is(t, 403)
	form := `{"username": "Ada", "password": "` + password + `"}`
	if a := send(t, s, "POST /.auth/login", "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(form)), "\r\n"+form); a.status != 200 {
		t.Fatalf("the login: %d, %s", a.status, a.body)
	}

	spans := collector.Await(t, time.Minute, func(all []testcollector.Span) bool {
		return len(named(all, "coatcheck", "redis touch")) >= 2 && len(named(all, "coatcheck", "check")) >= 2 && len(named(all, "coatcheck", "redis create")) >= 1 &&
			len(all) >= 9 && !slices.ContainsFunc(all, func(s testcollector.Span) bool {
			first, _ := root(all, s)
			return first.Parent != ""
		})
	})
	for _, touch := range named(spans, "coatcheck", "redis touch") {
		first, ancestors := root(spans, touch)
		if first.Service != "envoy" || ancestors != 3 {
			t.Errorf("above the call to Redis there are %d spans, the first of %q: %+v", ancestors, first.Service, spans)
		}
	}
	if first, n := root(spans, named(spans, "coatcheck", "redis create")[0]); first.Service != "envoy" || n < 2 {
		t.Errorf("the login's call to Redis is not below Envoy's span and ours: %+v", spans)
	}
	reasons := make(map[string]string)
	for _, check := range named(spans, "coatcheck", "check") {
		reasons[check.Attributes["coatcheck.reason"]] = check.Attributes["coatcheck.route"]
		if check.Attributes["coatcheck.session"] != key.Handle() {
			t.Errorf("the session is %q", check.Attributes["coatcheck.session"])
		}
	}
	if reasons["ok"] != "required" || reasons["missing_role"] != "required roles=admin" {
		t.Errorf("the checks were %v", reasons)
	}
	allowed := []string{"coatcheck.verdict", "coatcheck.reason", "coatcheck.route", "coatcheck.policy", "coatcheck.session", "coatcheck.shadow",
		"db.system.name", "db.operation.name", "http.request.method", "http.response.status_code"}
	for _, span := range spans {
		if span.Service != "coatcheck" {
			continue // Envoy's spans have the path, as the operator has told it
		}
		for name := range span.Attributes {
			if !slices.Contains(allowed, name) {
				t.Errorf("%s has an attribute %s", span.Name, name)
			}
		}
		for _, secret := range secrets {
			if strings.Contains(span.Text, secret) {
				t.Errorf("%s has %q: %s", span.Name, secret, span.Text)
			}
		}
	}
	for _, line := range decisions(s) {
		if trace := named(spans, "coatcheck", "check"); !strings.Contains(line, trace[0].TraceID) && !strings.Contains(line, trace[1].TraceID) {
			t.Errorf("the log names another trace: %s", line)
		}
	}
}

// TestUnrecordedTraces: Envoy decides which traces are recorded. Of one that is not, we
// send no span, also where a client's header comes with it.
func TestUnrecordedTraces(t *testing.T) {
	t.Parallel()
	collector := testcollector.Start(t)
	s := start(t, rig.Options{Patient: true, Arguments: []string{"--tracing-endpoint", collector.Addr}, Bootstrap: withTraces(t, collector.Addr, 0)})
	for range 5 {
		send(t, s, "GET /x").is(t, 401)
	}
	send(t, s, "GET /x", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", "tracestate: "+strings.Repeat("a=b,", 2000)+"a=b").is(t, 401)
	time.Sleep(2500 * time.Millisecond) // longer than spans gather
	if spans := collector.Spans(); len(spans) > 0 {
		t.Errorf("spans came: %+v", spans)
	}
}
