package extauthz

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	grpcmetadata "google.golang.org/grpc/metadata"

	"github.com/coatcheck/coatcheck/sessions"
)

const (
	envoysTrace   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	clientsTrace  = "00-11111111111111111111111111111111-2222222222222222-01"
	unrecordedOne = "00-11111111111111111111111111111111-2222222222222222-00"
)

// traced is a server whose spans are kept, and samples as one with tracing.sample 0.
func traced(t testing.TB, s Sessions, c Config) (*Server, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans), sdk.WithSampler(sdk.ParentBased(sdk.NeverSample())))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	c.Tracer = provider.Tracer("test")
	server, err := New(s, c)
	if err != nil {
		t.Fatal(err)
	}
	return server, spans
}

func withHeaders(headers map[string]string) *authv3.CheckRequest {
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/secret?x=1", Host: "shop.example", Headers: headers},
	}}}
}

// TestParentOfSpans: Envoy's own span counts, then the request's header, and only a
// well-formed one of either; what is not recorded there is not recorded here.
func TestParentOfSpans(t *testing.T) {
	long := strings.Repeat("0", 1<<16)
	for name, test := range map[string]struct {
		call   []string // in the call's metadata
		header string
		want   string // the traceparent that is continued; empty: no span
	}{
		"Envoy's":                  {[]string{envoysTrace}, "", envoysTrace},
		"Envoy's and the client's": {[]string{envoysTrace}, clientsTrace, envoysTrace},
		"the client's":             {nil, clientsTrace, clientsTrace},
		"none":                     {nil, "", ""},
		"not recorded by Envoy":    {[]string{strings.Replace(unrecordedOne, "1111", "3333", 1)}, clientsTrace, ""},
		"not recorded":             {nil, unrecordedOne, ""},
		"twice":                    {[]string{envoysTrace, envoysTrace}, "", ""},
		"noise in the call":        {[]string{"\xff"}, clientsTrace, clientsTrace},
		"of no trace":              {nil, "00-00000000000000000000000000000000-b7ad6b7169203331-01", ""},
		"of no span":               {nil, "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", ""},
		"no version":               {nil, "ff" + envoysTrace[2:], ""},
		"a later version":          {nil, "01" + envoysTrace[2:], "01" + envoysTrace[2:]},
		"capitals":                 {nil, strings.ToUpper(envoysTrace), ""},
		"long":                     {nil, envoysTrace + long, ""},
		"long in the call":         {[]string{long}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			server, spans := traced(t, oneSession{fuzzID}, Config{})
			ctx := t.Context()
			if test.call != nil {
				ctx = grpcmetadata.NewIncomingContext(ctx, grpcmetadata.MD{"traceparent": test.call})
			}
			if _, err := server.Check(ctx, withHeaders(map[string]string{"traceparent": test.header, "tracestate": "a=" + long})); err != nil {
				t.Fatal(err)
			}
			ended := spans.Ended()
			if test.want == "" {
				if len(ended) != 0 {
					t.Errorf("there are spans: %v", ended)
				}
				return
			}
			if len(ended) != 1 {
				t.Fatalf("%d spans", len(ended))
			}
			parent := ended[0].Parent()
			if got := parent.TraceID().String() + "-" + parent.SpanID().String(); got != test.want[3:52] || parent.TraceState().Len() != 0 {
				t.Errorf("the parent is %s", got)
			}
		})
	}
}

// TestClientsTraces: clients have no more traces recorded a second than are allowed,
// and those of Envoy do not count.
func TestClientsTraces(t *testing.T) {
	server, spans := traced(t, oneSession{fuzzID}, Config{})
	check := func(ctx context.Context) {
		for range 4 * clientTraces {
			if _, err := server.Check(ctx, withHeaders(map[string]string{"traceparent": clientsTrace})); err != nil {
				t.Fatal(err)
			}
		}
	}
	check(t.Context())
	if n := len(spans.Ended()); n < clientTraces || n > 2*clientTraces {
		t.Errorf("clients had %d recorded", n)
	}
	before := len(spans.Ended())
	check(grpcmetadata.NewIncomingContext(t.Context(), grpcmetadata.Pairs("traceparent", envoysTrace)))
	if n := len(spans.Ended()) - before; n != 4*clientTraces {
		t.Errorf("Envoy had %d recorded", n)
	}
}

// TestWhatSpansSay: of each kind of decision; never anything of the request.
func TestWhatSpansSay(t *testing.T) {
	cookie := sessions.DefaultCookieName + "=" + fuzzID.Reveal()
	for name, test := range map[string]struct {
		sessions Sessions
		needs    map[string]string
		want     string
	}{
		"live":    {oneSession{fuzzID}, nil, "coatcheck.verdict=allow coatcheck.reason=ok coatcheck.route=required coatcheck.session=" + fuzzID.Key().Handle()},
		"policy":  {oneSession{fuzzID}, map[string]string{"coatcheck.policy": "shade"}, "coatcheck.verdict=allow coatcheck.reason=missing_role coatcheck.route=none coatcheck.policy=shade coatcheck.shadow=true coatcheck.session=" + fuzzID.Key().Handle()},
		"mistake": {oneSession{fuzzID}, map[string]string{"client's": "x"}, "coatcheck.verdict=deny coatcheck.reason=bad_route"},
		"outage":  {failing{errors.New("dial 10.0.0.1: secret")}, nil, "coatcheck.verdict=deny coatcheck.reason=unavailable coatcheck.route=required coatcheck.session=" + fuzzID.Key().Handle()},
	} {
		t.Run(name, func(t *testing.T) {
			server, spans := traced(t, test.sessions, Config{})
			if err := server.SetPolicies(PolicySet{Policies: []Policy{{Name: "shade", AllRoles: []string{"king"}, Shadow: true}}}); err != nil {
				t.Fatal(err)
			}
			m := withHeaders(map[string]string{"cookie": cookie, "traceparent": envoysTrace, "x-request-id": "secret"})
			m.Attributes.ContextExtensions = test.needs
			if _, err := server.Check(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			span := spans.Ended()[0]
			var got []string
			for _, a := range span.Attributes() {
				got = append(got, string(a.Key)+"="+a.Value.String())
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("%v, want %s", got, test.want)
			}
			if failed := span.Status().Description != ""; failed != (name == "outage" || name == "mistake") || len(span.Events()) > 0 || len(span.Links()) > 0 {
				t.Errorf("the span is %+v", span)
			}
			if strings.Contains(span.Status().Description, "secret") || span.Name() != "check" || span.SpanKind() != trace.SpanKindServer {
				t.Errorf("the span is %+v", span)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Touch(context.Context, sessions.ID, ...string) (*sessions.Session, error) {
	return nil, f.err
}

// TestExemplars: a check of a recorded trace is an exemplar, and no other check is.
func TestExemplars(t *testing.T) {
	registry := prometheus.NewRegistry()
	server, _ := traced(t, oneSession{fuzzID}, Config{Metrics: registry})
	exemplars := func() (traces []string) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "coatcheck_check_duration_seconds" })
		for _, bucket := range families[i].GetMetric()[0].GetHistogram().GetBucket() {
			for _, label := range bucket.GetExemplar().GetLabel() {
				traces = append(traces, label.GetValue())
			}
		}
		return traces
	}
	for _, header := range []string{unrecordedOne, "", envoysTrace} {
		if got := exemplars(); len(got) != 0 {
			t.Errorf("exemplars before the recorded check: %v", got)
		}
		if _, err := server.Check(t.Context(), withHeaders(map[string]string{"traceparent": header})); err != nil {
			t.Fatal(err)
		}
	}
	if got := exemplars(); len(got) != 1 || got[0] != envoysTrace[3:35] {
		t.Errorf("the exemplars are %v", got)
	}
}

// TestPanickingTracer: a bug in a tracer is a denial.
func TestPanickingTracer(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{Tracer: panicking{}})
	if err != nil {
		t.Fatal(err)
	}
	response, err := server.Check(t.Context(), withHeaders(nil))
	if err != nil || response.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("%v, %v", response, err)
	}
}

type panicking struct{ trace.Tracer }

func (panicking) Start(context.Context, string, ...trace.SpanStartOption) (context.Context, trace.Span) {
	panic("a bug")
}

// BenchmarkTraced is a check without spans, of a trace that is not recorded, and of one
// that is.
func BenchmarkTraced(b *testing.B) {
	for _, bench := range []struct{ name, traceparent string }{{"off", ""}, {"not recorded", unrecordedOne}, {"recorded", envoysTrace}} {
		b.Run(bench.name, func(b *testing.B) {
			config := Config{}
			if bench.traceparent != "" {
				provider := sdk.NewTracerProvider(sdk.WithBatcher(tracetest.NewNoopExporter()), sdk.WithSampler(sdk.ParentBased(sdk.NeverSample())))
				defer func() { _ = provider.Shutdown(context.Background()) }()
				config.Tracer = provider.Tracer("test")
			}
			server, err := New(oneSession{fuzzID}, config)
			if err != nil {
				b.Fatal(err)
			}
			ctx := grpcmetadata.NewIncomingContext(b.Context(), grpcmetadata.Pairs("traceparent", bench.traceparent))
			request := browser(b, sessions.DefaultCookieName+"="+fuzzID.Reveal(), nil)
			b.ReportAllocs()
			for b.Loop() {
				server.checkWire(ctx, request).Free()
			}
		})
	}
}

// TestWithoutSpans: off costs no allocation.
func TestWithoutSpans(t *testing.T) {
	off, r := newTracing(nil), &request{traceparent: envoysTrace}
	d := &decision{allow: true, reason: OK}
	if n := testing.AllocsPerRun(1000, func() { off.end(off.begin(t.Context(), r), d) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
