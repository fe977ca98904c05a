package redisstore

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// scope names the spans of this package.
const scope = "github.com/coatcheck/coatcheck/sessions/redisstore"

// An operation is a method of the store.
type operation struct {
	duration prometheus.Observer
	errors   prometheus.Counter
	failures *failures
	span     string // name of its spans
	started  []trace.SpanStartOption
}

func newOperation(name string, durations *prometheus.HistogramVec, errs *prometheus.CounterVec, failed *failures) *operation {
	return &operation{durations.WithLabelValues(name), errs.WithLabelValues(name), failed, "redis " + name, []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("db.system.name", "redis"), attribute.String("db.operation.name", name)),
	}}
}

// A call is one run of an operation.
type call struct {
	*operation
	start time.Time
	span  trace.Span // nil: not recorded
}

// begin is called first by the method. Where the caller's span is recorded, the call has
// one below it, of the same provider: so a store needs no tracer of its own.
func (o *operation) begin(ctx context.Context) (context.Context, call) {
	c := call{operation: o, start: time.Now()}
	if caller := trace.SpanFromContext(ctx); caller.IsRecording() {
		ctx, c.span = caller.TracerProvider().Tracer(scope).Start(ctx, o.span, o.started...)
	}
	return ctx, c
}

// done is deferred by the method. A span names no key and no error, which could name an
// address.
func (c call) done(err *error) {
	took, failed := time.Since(c.start).Seconds(), *err != nil && !isAnswer(*err)
	if failed {
		c.errors.Inc()
		c.failures.add(*err)
	}
	if c.span == nil {
		c.duration.Observe(took)
		return
	}
	if failed {
		c.span.SetStatus(codes.Error, "")
	}
	c.span.End()
	if of := c.span.SpanContext(); of.IsSampled() {
		c.duration.(prometheus.ExemplarObserver).ObserveWithExemplar(took, prometheus.Labels{"trace_id": of.TraceID().String()})
		return
	}
	c.duration.Observe(took)
}
