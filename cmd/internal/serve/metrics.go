package serve

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/coatcheck/coatcheck/cmd/internal/version"
)

// The values of the label source: what is read again when its files change.
const (
	grpcTLS       = "grpc_tls"
	loginTLS      = "login_tls"
	redisTLS      = "redis_tls"
	redisServer   = "redis_server" // what Redis shows: it has no files here
	tracingTLS    = "tracing_tls"
	usersFile     = "users"
	policySource  = "policies"
	secretSource  = "session_secrets"
	apiTLS        = "api_tls"
	callersSource = "callers"
)

// metrics are the collectors of the process; the packages have their own.
type metrics struct {
	*prometheus.Registry
	ready         prometheus.Gauge
	redisUp       prometheus.Gauge
	sentinelsAway prometheus.Gauge
	emptied       prometheus.Counter
	rejected      prometheus.Counter
	handshakes    prometheus.Counter
	logins        prometheus.Counter // handshakes of login that failed
	apiRejected   prometheus.Counter
	apiHandshakes prometheus.Counter
	reloads       *prometheus.CounterVec
	reloadFails   *prometheus.GaugeVec
}

func newMetrics(logDropped func() uint64, settings string) *metrics {
	m := &metrics{
		Registry: prometheus.NewRegistry(),
		ready: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coatcheck_ready", Help: "1 while the server is ready for checks, 0 while it drains.",
		}),
		redisUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coatcheck_redis_up", Help: "1 if Redis answered the last probe; there is one a second.",
		}),
		sentinelsAway: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coatcheck_redis_sentinels_away", Help: "Sentinels of redis.addresses that did not name the master when they were last asked, each 15 s; 0 without Sentinels.",
		}),
		emptied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_redis_emptied_total", Help: "How often a Redis, or a master of a Cluster, was seen to have lost its sessions: its epoch was gone or another one.",
		}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_grpc_connections_rejected_total", Help: "Connections closed because grpc.max_connections were open.",
		}),
		handshakes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_grpc_handshakes_failed_total", Help: "TLS handshakes with clients that failed.",
		}),
		logins: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_login_handshakes_failed_total", Help: "TLS handshakes with clients of the login listener that failed.",
		}),
		apiRejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_api_connections_rejected_total", Help: "Connections to the session API closed because api.max_connections were open.",
		}),
		apiHandshakes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_api_handshakes_failed_total", Help: "TLS handshakes with clients of the session API that failed.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coatcheck_reloads_total", Help: "Changes of files, by whether they are in use (ok) or cannot be used (error).",
		}, []string{"source", "result"}),
		reloadFails: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "coatcheck_reload_failing", Help: "1 while the files cannot be used as they are, so that their former contents stay in use.",
		}, []string{"source"}),
	}
	m.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "coatcheck_log_dropped_total", Help: "Lines of the log dropped because their reader was too slow.",
	}, func() float64 { return float64(logDropped()) }))
	for _, source := range []string{grpcTLS, loginTLS, redisTLS, tracingTLS, usersFile, policySource, secretSource, apiTLS, callersSource} {
		m.reloads.WithLabelValues(source, "ok")
		m.reloads.WithLabelValues(source, "error")
		m.reloadFails.WithLabelValues(source)
	}
	m.MustRegister(m.ready, m.redisUp, m.sentinelsAway, m.emptied, m.rejected, m.handshakes, m.logins, m.apiRejected, m.apiHandshakes, m.reloads, m.reloadFails, buildInfo(settings),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watchConnections exports the number of open connections.
func (m *metrics) watchConnections(listener *bounded) {
	m.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_grpc_connections", Help: "Connections to the gRPC listener.",
	}, func() float64 { return float64(listener.open.Load()) }))
}

// watchAPIConnections is the same for the session API.
func (m *metrics) watchAPIConnections(listener *bounded) {
	m.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_api_connections", Help: "Connections to the session API.",
	}, func() float64 { return float64(listener.open.Load()) }))
}

// watchClock exports the difference of the clocks.
func (m *metrics) watchClock(offset func() time.Duration) {
	m.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_clock_offset_seconds", Help: "Redis's clock minus this host's; expiry follows Redis.",
	}, func() float64 { return offset().Seconds() }))
}

// watchExpiry exports when a certificate expires; a zero time is not known.
func (m *metrics) watchExpiry(source string, expiry func() time.Time) {
	m.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "coatcheck_tls_certificate_expiry_timestamp_seconds",
		Help:        "When the certificate in use expires, in Unix time; of redis_server the first of those that the servers of Redis and the Sentinels have shown (NaN: none yet).",
		ConstLabels: prometheus.Labels{"source": source},
	}, func() float64 {
		if end := expiry(); !end.IsZero() {
			return float64(end.Unix())
		}
		return math.NaN()
	}))
}

// reloaded counts one change of files. With an error they could not be used.
func (m *metrics) reloaded(source string, err error) {
	result, failing := "ok", 0.0
	if err != nil {
		result, failing = "error", 1
	}
	m.reloads.WithLabelValues(source, result).Inc()
	m.reloadFails.WithLabelValues(source).Set(failing)
}

// buildInfo is a constant 1 whose labels say what runs, as coatcheck version does, and
// by which settings. The date is left out: the revision has one.
func buildInfo(settings string) prometheus.Collector {
	build := version.Read()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "coatcheck_build_info", Help: "1; the labels say which build runs, and have a fingerprint of the session and cookie settings, which login and checks must share.",
		ConstLabels: prometheus.Labels{"version": build.Version, "revision": build.Revision, "go_version": build.Go, "settings": settings},
	})
	gauge.Set(1)
	return gauge
}
