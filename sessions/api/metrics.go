package api

import (
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
)

// outcomes are the codes that a call can end with.
var outcomes = []connect.Code{
	0, connect.CodeCanceled, connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodeAlreadyExists, connect.CodePermissionDenied,
	connect.CodeResourceExhausted, connect.CodeUnimplemented, connect.CodeInternal, connect.CodeUnavailable, connect.CodeUnauthenticated,
}

// durations are the histogram's buckets, in seconds, with edges at the default timeout.
var durations = []float64{.00025, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2.5}

// metrics are the collectors of a server. Their series are made at the start.
type metrics struct {
	calls    map[string]map[connect.Code]prometheus.Counter
	duration map[string]prometheus.Observer
}

func newMetrics(registerer prometheus.Registerer, inFlight func() int) (*metrics, error) {
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "coatcheck_api_calls_total", Help: "Calls of the session API, by method and outcome: ok, or the code of the error.",
	}, []string{"method", "outcome"})
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "coatcheck_api_call_duration_seconds", Help: "Time from the headers of a call to the end of its answer; of Watch, how long it lasted.", Buckets: durations,
	}, []string{"method"})
	m := &metrics{calls: map[string]map[connect.Code]prometheus.Counter{}, duration: map[string]prometheus.Observer{}}
	for _, of := range methods {
		m.duration[of.name] = duration.WithLabelValues(of.name)
		m.calls[of.name] = map[connect.Code]prometheus.Counter{}
		for _, code := range outcomes {
			m.calls[of.name][code] = calls.WithLabelValues(of.name, outcome(code))
		}
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{calls, duration, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_api_calls_in_flight", Help: "Calls of the session API that are not answered yet.",
	}, func() float64 { return float64(inFlight()) })} {
		if err := registerer.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) observe(c *call, took time.Duration) {
	counter := m.calls[c.method.name][c.code]
	if counter == nil { // a code without a series, which a test rules out
		counter = m.calls[c.method.name][connect.CodeInternal]
	}
	counter.Inc()
	m.duration[c.method.name].Observe(took.Seconds())
}
