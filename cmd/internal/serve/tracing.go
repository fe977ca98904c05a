package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/version"
	"github.com/coatcheck/coatcheck/internal/notice"
)

// tracingPart sends spans to a collector. No request waits for it: spans gather in a
// queue, and those that it cannot take are lost.
type tracingPart struct {
	*process
	provider trace.TracerProvider // nil: no spans
}

const (
	exportEvery  = time.Second // or sooner, when a batch is full
	lastExport   = time.Second // at the end of the process
	clientTraces = 50          // a second, that login continues for clients' headers, as checks do
)

// Tests set these.
var (
	exportTimeout = 10 * time.Second // bounds an export with its retries
	spanQueue     = 4096             // spans
)

// start makes the way to the collector, and does not wait for the collector.
func (t *tracingPart) start(ctx context.Context) error {
	if t.config.TracingEndpoint == "" {
		return nil
	}
	if _, err := t.config.TracingHeaders(); err != nil {
		return err // now, and not at the first export
	}
	conn, err := t.dial()
	if err != nil {
		return err
	}
	t.onClose(func() { _ = conn.Close() })
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithGRPCConn(conn), otlptracegrpc.WithTimeout(exportTimeout/2),
		otlptracegrpc.WithHeaders(nil), // those of the configuration alone
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: 500 * time.Millisecond, MaxInterval: 2 * time.Second, MaxElapsedTime: exportTimeout / 2}))
	if err != nil {
		return config.About(err, "tracing.endpoint")
	}
	// The SDK tells its errors to the whole program, by default on standard error.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { t.logger.Debug("OpenTelemetry", "error", err.Error()) }))
	exporting, giveUp := context.WithCancel(context.Background())
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(&watchedExporter{exporter, t, exporting}, sdk.WithMaxQueueSize(spanQueue), sdk.WithBatchTimeout(exportEvery), sdk.WithExportTimeout(exportTimeout)),
		sdk.WithSampler(sampler(t.config.TracingSample)), sdk.WithResource(t.resource(ctx)))
	t.onClose(func() {
		// Shutdown leaves an export that hangs behind, so that is ended first.
		timer := time.AfterFunc(lastExport, giveUp)
		defer timer.Stop()
		defer giveUp()
		ctx, cancel := context.WithTimeout(context.Background(), 2*lastExport)
		defer cancel()
		_ = provider.Shutdown(ctx)
	})
	t.provider = provider
	t.logger.Info("sending spans", "endpoint", t.config.TracingEndpoint, "tls", t.config.TracingTLS)
	return nil
}

// sampler does as the trace's beginner has decided, which is Envoy, and begins one trace
// of its own in so many requests that come without one; 0: never.
func sampler(oneIn int) sdk.Sampler {
	if oneIn == 0 {
		return sdk.ParentBased(sdk.NeverSample())
	}
	return sdk.ParentBased(sdk.TraceIDRatioBased(1 / float64(oneIn)))
}

// resource says which process the spans are of. OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES, which operators of collectors know, add to it and win.
func (t *tracingPart) resource(ctx context.Context) *resource.Resource {
	host, _ := os.Hostname()
	r, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "coatcheck"), attribute.String("service.version", version.Read().Version),
		attribute.String("service.instance.id", host)), resource.WithFromEnv())
	if err != nil {
		t.logger.Warn("OTEL_RESOURCE_ATTRIBUTES is not read whole", "error", err.Error())
	}
	return r
}

// dial makes the connection, which connects at the first export, and again after an
// outage.
func (t *tracingPart) dial() (*grpc.ClientConn, error) {
	connect := func(ctx context.Context, address string) (net.Conn, error) {
		if path, ok := strings.CutPrefix(address, "unix://"); ok {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}
	if t.config.TracingTLS {
		files, err := t.watchTLS(tracingTLS, t.config.TracingTLSFiles)
		if err != nil {
			return nil, config.AboutTLS(err, "tracing.tls", t.config.TracingTLSFiles)
		}
		overTLS := files.Dialer(exportTimeout, t.config.TracingTLSServerName, "h2")
		connect = func(ctx context.Context, address string) (net.Conn, error) { return overTLS(ctx, "tcp", address) }
	}
	return grpc.NewClient("passthrough:///"+t.config.TracingEndpoint, grpc.WithContextDialer(connect),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // TLS is the dialer's
		grpc.WithPerRPCCredentials(collectorHeaders{t.config}), grpc.WithUserAgent("coatcheck"))
}

// collectorHeaders are read for each export, so that a token may be replaced.
type collectorHeaders struct{ config *config.Config }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (h collectorHeaders) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return h.config.TracingHeaders()
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. The configuration
// has been held to it.
func (h collectorHeaders) RequireTransportSecurity() bool { return false }

// A watchedExporter notices that the collector takes no spans, and that it takes them
// again.
type watchedExporter struct {
	sdk.SpanExporter
	part      *tracingPart
	exporting context.Context // until the end of the process gives up
}

// ExportSpans implements sdk.SpanExporter. A collector's error may quote what it was
// sent, so only its gRPC status is said.
func (e *watchedExporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.exporting, cancel)()
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.part.logger.Debug("spans are lost", "spans", len(spans), "status", cause(err))
		e.part.notices.Say(notice.TracesLost, slog.String("tracing.endpoint", e.part.config.TracingEndpoint), slog.String("status", cause(err)))
		return nil // it has been said
	}
	e.part.notices.Over(notice.TracesLost)
	return nil
}

// cause is the gRPC status of an error, in words.
func cause(err error) string {
	var of interface{ GRPCStatus() *status.Status }
	if errors.As(err, &of) {
		return of.GRPCStatus().Code().String()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return codes.DeadlineExceeded.String()
	}
	return codes.Unavailable.String()
}

// tracer returns the tracer of a part, nil without spans.
func (t *tracingPart) tracer(name string) trace.Tracer {
	if t.provider == nil {
		return nil
	}
	return t.provider.Tracer(name)
}

// traced makes a span of each request to login. Its name is the method and its status the
// answer's: paths are the clients' text.
func (t *tracingPart) traced(handler http.Handler) http.Handler {
	tracer, clients := t.tracer("github.com/coatcheck/coatcheck/sessions/login"), rate.NewLimiter(clientTraces, clientTraces)
	if tracer == nil {
		return handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), oneTraceparent(r.Header))
		if trace.SpanContextFromContext(ctx).IsSampled() && !clients.Allow() {
			handler.ServeHTTP(w, r)
			return
		}
		ctx, span := tracer.Start(ctx, "login", trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("http.request.method", method(r))))
		defer span.End()
		answer := &statusOf{ResponseWriter: w, status: http.StatusOK}
		handler.ServeHTTP(answer, r.WithContext(ctx))
		span.SetAttributes(attribute.Int("http.response.status_code", answer.status))
	})
}

// oneTraceparent leaves out a tracestate, which would be exported at any length.
func oneTraceparent(h http.Header) propagation.MapCarrier {
	if values := h.Values("Traceparent"); len(values) == 1 {
		return propagation.MapCarrier{"traceparent": values[0]}
	}
	return propagation.MapCarrier{}
}

// method is the request's, if login knows it (OpenTelemetry's semantic conventions).
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
		return r.Method
	}
	return "_OTHER"
}

// A statusOf remembers the status of an answer.
type statusOf struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (s *statusOf) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (s *statusOf) Unwrap() http.ResponseWriter { return s.ResponseWriter }
