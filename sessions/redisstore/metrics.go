package redisstore

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// buckets reach from what a Redis next door takes to what no caller waits for, in
// seconds.
var buckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}

// metrics count whether they are exported or not. Every series is there from the
// start.
type metrics struct {
	touch, create, read, add, expire, remove, mark, list, find, now *operation
	created, revoked                                                prometheus.Counter
	failures                                                        *failures
}

// isAnswer reports whether an error is an answer, or not a fault of Redis.
func isAnswer(err error) bool {
	return errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrBroken) ||
		errors.Is(err, sessions.ErrFieldExists) || errors.Is(err, sessions.ErrEnded) || errors.Is(err, context.Canceled)
}

// newMetrics registers with r unless it is nil. Two stores cannot share one r.
func newMetrics(r prometheus.Registerer, n *nodes) *metrics {
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "coatcheck_redis_duration_seconds", Help: "How long operations of the session store took, by operation; refused ones, too.", Buckets: buckets,
	}, []string{"operation"})
	errs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "coatcheck_redis_errors_total", Help: "Operations of the session store that Redis did not answer, or not with success, by operation. That a session is missing or broken, or a field there already, is no error.",
	}, []string{"operation"})
	failed := newFailures()
	of := func(name string) *operation {
		return newOperation(name, durations, errs, failed)
	}
	m := &metrics{
		failures: failed,
		touch:    of("touch"), create: of("create"), read: of("read"), add: of("add"), expire: of("expire"),
		remove: of("delete"), mark: of("mark"), list: of("list"), find: of("find"), now: of("time"),
		created: prometheus.NewCounter(prometheus.CounterOpts{Name: "coatcheck_sessions_created_total", Help: "Sessions created by this process."}),
		revoked: prometheus.NewCounter(prometheus.CounterOpts{Name: "coatcheck_sessions_revoked_total", Help: "Sessions revoked by this process, at logout or by hand; not those whose time was over."}),
	}
	if r != nil {
		r.MustRegister(durations, errs, failed, m.created, m.revoked, nodesCollector{n})
	}
	return m
}

var (
	openDesc     = prometheus.NewDesc("coatcheck_redis_breaker_open", "Redis nodes whose breaker is open: calls to them are refused at once, but for a probe each 100 ms.", nil, nil)
	openedDesc   = prometheus.NewDesc("coatcheck_redis_breaker_opened_total", "How often the breaker of a Redis node opened because the node did not answer.", nil, nil)
	connsDesc    = prometheus.NewDesc("coatcheck_redis_connections", "Connections to Redis, by state.", []string{"state"}, nil)
	timeoutsDesc = prometheus.NewDesc("coatcheck_redis_pool_timeouts_total", "Times that no connection to Redis became free in time.", nil, nil)
)

// A nodesCollector reads the nodes when it is asked.
type nodesCollector struct{ *nodes }

// Describe implements [prometheus.Collector].
func (c nodesCollector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{openDesc, openedDesc, connsDesc, timeoutsDesc} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (c nodesCollector) Collect(to chan<- prometheus.Metric) {
	s := c.stats()
	to <- prometheus.MustNewConstMetric(openDesc, prometheus.GaugeValue, float64(s.open))
	to <- prometheus.MustNewConstMetric(openedDesc, prometheus.CounterValue, float64(c.opened.Load()))
	to <- prometheus.MustNewConstMetric(connsDesc, prometheus.GaugeValue, float64(s.idle), "idle")
	to <- prometheus.MustNewConstMetric(connsDesc, prometheus.GaugeValue, float64(s.used), "used")
	to <- prometheus.MustNewConstMetric(timeoutsDesc, prometheus.CounterValue, float64(s.poolTimeouts))
}

// unwrap returns the go-redis client itself, whose kind matters, and its nodes.
func unwrap(client redis.UniversalClient) (redis.UniversalClient, *nodes) {
	switch client := client.(type) {
	case *Client:
		return client.UniversalClient, client.nodes
	case *redis.Client:
		n := new(nodes)
		n.add(client)
		return client, n
	case *redis.ClusterClient:
		n := new(nodes)
		client.OnNewNode(n.add)
		return client, n
	}
	return client, new(nodes)
}
