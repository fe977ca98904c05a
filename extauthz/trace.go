package extauthz

import (
	"context"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
	grpcmetadata "google.golang.org/grpc/metadata"
)

// clientTraces bounds, per second, the traces that a request's own traceparent header
// begins here. Clients choose that header, and with it whether its trace is recorded.
const clientTraces = 50

// A tracing makes the spans of checks.
type tracing struct {
	tracer  trace.Tracer // nil: no spans
	clients *rate.Limiter
}

func newTracing(tracer trace.Tracer) tracing {
	return tracing{tracer, rate.NewLimiter(clientTraces, clientTraces)}
}

// begin starts the span of a check, if there are spans.
func (t *tracing) begin(ctx context.Context, r *request) context.Context {
	if t.tracer == nil {
		return ctx
	}
	if !trace.SpanContextFromContext(ctx).IsValid() { // else an interceptor has begun one
		parent, wanted := t.parent(ctx, r)
		if !wanted {
			return ctx
		}
		ctx = trace.ContextWithRemoteSpanContext(ctx, parent)
	}
	ctx, _ = t.tracer.Start(ctx, "check", trace.WithSpanKind(trace.SpanKindServer))
	return ctx
}

// parent is the span that a check continues, and reports whether there is to be one.
// Envoy names its own span of the call in the call's metadata. The request's header is
// the client's, unless a proxy in front of Envoy has set it; it counts where Envoy makes
// no spans. The log then names the same trace.
func (t *tracing) parent(ctx context.Context, r *request) (_ trace.SpanContext, wanted bool) {
	if values := grpcmetadata.ValueFromIncomingContext(ctx, "traceparent"); len(values) == 1 {
		if parent := spanContext(values[0]); parent.IsValid() {
			r.traceparent = values[0]
			return parent, true
		}
	}
	parent := spanContext(r.traceparent)
	return parent, !parent.IsSampled() || t.clients.Allow()
}

// spanContext reads a traceparent; any other text is not valid. A tracestate is left
// alone: no system behind Coatcheck would read it.
func spanContext(traceparent string) trace.SpanContext {
	traceID, spanID, ok := traceOf(traceparent)
	if !ok || traceparent[:2] == "ff" { // no version (W3C Trace Context, section 3.2.2.1)
		return trace.SpanContext{}
	}
	var c trace.SpanContextConfig
	c.TraceID, _ = trace.TraceIDFromHex(traceID)
	c.SpanID, _ = trace.SpanIDFromHex(spanID)
	flags, _ := strconv.ParseUint(traceparent[53:], 16, 8)
	c.TraceFlags, c.Remote = trace.TraceFlags(flags)&trace.FlagsSampled, true
	return trace.NewSpanContext(c)
}

// end ends the span with what was decided, and returns the exemplar of its trace, nil
// where it is not recorded. Every value is from a closed set, but the handle, which the
// log has, too.
func (t *tracing) end(ctx context.Context, d *decision) prometheus.Labels {
	if t.tracer == nil {
		return nil
	}
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return nil
	}
	span.SetAttributes(d.attributes()...)
	if d.reason.info().Fault {
		span.SetStatus(codes.Error, string(d.reason))
	}
	span.End()
	return exemplar(span)
}

func exemplar(span trace.Span) prometheus.Labels {
	if c := span.SpanContext(); c.IsSampled() {
		return prometheus.Labels{"trace_id": c.TraceID().String()}
	}
	return nil
}

// attributes describe a decision as the log's fields of these names do.
func (d *decision) attributes() []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		attribute.String("coatcheck.verdict", d.verdict()),
		attribute.String("coatcheck.reason", string(d.reason)),
	}
	if d.reason != BadRoute {
		attributes = append(attributes, attribute.String("coatcheck.route", d.required().String()))
	}
	if d.policy.name != "" {
		attributes = append(attributes, attribute.String("coatcheck.policy", d.policy.name))
	}
	if d.shadow {
		attributes = append(attributes, attribute.Bool("coatcheck.shadow", true))
	}
	if d.identity.key != "" {
		attributes = append(attributes, attribute.String("coatcheck.session", d.identity.key.Handle()))
	}
	return attributes
}
