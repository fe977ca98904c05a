package extauthz

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are this package's collectors. Their label sets are closed: no part of a
// request becomes a label.
type metrics struct {
	series   map[Reason]*series // of every reason
	duration prometheus.Histogram
	shadows  prometheus.Gauge
}

// series are the counters of one reason; nil for a verdict that it cannot come with.
type series struct {
	allowed, denied prometheus.Counter
	shadow          prometheus.Counter // denials that a policy in shadow mode did not make
	suppressed      prometheus.Counter // lines
}

// durations are the histogram's buckets, in seconds: dense where a healthy
// check is, and with edges at our own deadline and at Envoy's.
var durations = []float64{
	.00025, .0005, .001, .002, .003, .005, .0075, .01, .02, .03, .05, .075, .1, .15, .2, .5, 1,
}

// newMetrics makes the collectors with all of their series, and registers them if
// registerer is not nil.
func newMetrics(registerer prometheus.Registerer, lookups *inFlight) (*metrics, error) {
	checks := counter("coatcheck_checks_total", "Checks answered, by verdict and reason.", "verdict", "reason")
	suppressed := counter("coatcheck_log_suppressed_total", "Errors and warnings left out of the decision log because there were too many of their reason.", "reason")
	shadow := counter("coatcheck_shadow_denials_total", "Checks allowed that a policy would have denied, were it not in shadow mode, by reason.", "reason")
	m := &metrics{
		series: make(map[Reason]*series, len(reasons)),
		shadows: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coatcheck_policies_in_shadow", Help: "Policies in shadow mode, which refuse no request.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "coatcheck_check_duration_seconds", Help: "Time from a decoded CheckRequest to its answer.", Buckets: durations,
		}),
	}
	inFlight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_checks_in_flight", Help: "Checks that are waiting for their session.",
	}, func() float64 { return float64(lookups.inside.Load()) })
	m.makeSeries(checks, suppressed, shadow)
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{checks, suppressed, shadow, m.shadows, m.duration, inFlight} {
		if err := registerer.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// makeSeries makes a series for each verdict that a reason can come with.
func (m *metrics) makeSeries(checks, suppressed, shadow *prometheus.CounterVec) {
	for _, i := range reasons {
		label := string(i.Reason)
		of := &series{suppressed: suppressed.WithLabelValues(label)}
		if i.class == admitted || i.class == anonymous || i.byPolicy {
			of.allowed = checks.WithLabelValues("allow", label)
		}
		if i.class != admitted {
			of.denied = checks.WithLabelValues("deny", label)
		}
		if i.byPolicy {
			of.shadow = shadow.WithLabelValues(label)
		}
		m.series[i.Reason] = of
	}
}

// observe counts one answer, with the exemplar of its trace, if there is one.
func (m *metrics) observe(d *decision, took time.Duration, exemplar prometheus.Labels) {
	of := m.series[d.reason]
	if d.allow {
		of.allowed.Inc()
	} else {
		of.denied.Inc()
	}
	if d.shadow {
		of.shadow.Inc()
	}
	if exemplar == nil {
		m.duration.Observe(took.Seconds())
		return
	}
	m.duration.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), exemplar)
}
