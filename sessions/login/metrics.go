package login

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// metrics count whether they are exported or not. Every series is there from the
// start.
type metrics struct {
	logins   *prometheus.CounterVec
	duration prometheus.Histogram
}

// newMetrics registers with r unless it is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coatcheck_logins_total", Help: "Logins tried, by outcome; refused is a wrong username or password, invalid a request that makes no sense.",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "coatcheck_login_duration_seconds", Help: "How long logins took, from a readable request to the answer, throttled ones too.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
	m.logins.WithLabelValues(outcomeSuccess)
	for _, refusal := range refusals {
		m.logins.WithLabelValues(refusal.outcome)
	}
	if r == nil {
		return m, nil
	}
	if err := r.Register(m.logins); err != nil {
		return nil, err
	}
	return m, r.Register(m.duration)
}

func (m *metrics) count(p *problem) { m.logins.WithLabelValues(outcomeOf(p)).Inc() }

// took notes how long a login took; the trace, if it is recorded, is the exemplar.
func (m *metrics) took(ctx context.Context, d time.Duration) {
	if of := trace.SpanContextFromContext(ctx); of.IsSampled() {
		m.duration.(prometheus.ExemplarObserver).ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": of.TraceID().String()})
		return
	}
	m.duration.Observe(d.Seconds())
}
