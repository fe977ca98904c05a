package serve

import (
	"runtime"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/coatcheck/coatcheck/cmd/internal/tlsfiles"
)

// What is read again when its files change, the values of the label source.
const (
	grpcTLS      = "grpc_tls"
	loginTLS     = "login_tls"
	redisTLS     = "redis_tls"
	usersFile    = "users"
	policySource = "policies"
)

// metrics are the process's own collectors; the packages have theirs.
type metrics struct {
	*prometheus.Registry
	ready       prometheus.Gauge
	redisUp     prometheus.Gauge
	rejected    prometheus.Counter
	handshakes  prometheus.Counter
	logins      prometheus.Counter // handshakes of login that failed
	reloads     *prometheus.CounterVec
	reloadFails *prometheus.GaugeVec
}

func newMetrics(logDropped func() uint64) *metrics {
	m := &metrics{
		Registry: prometheus.NewRegistry(),
		ready: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coatcheck_ready", Help: "1 while the server wants checks, 0 while it drains.",
		}),
		redisUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coatcheck_redis_up", Help: "1 if Redis answered the last probe, one a second.",
		}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_grpc_connections_rejected_total", Help: "Connections closed because there were grpc.max_connections.",
		}),
		handshakes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_grpc_handshakes_failed_total", Help: "TLS handshakes of clients that failed.",
		}),
		logins: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_login_handshakes_failed_total", Help: "TLS handshakes of clients of the login listener that failed.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coatcheck_reloads_total", Help: "Changes of files that were taken up, or could not be.",
		}, []string{"source", "result"}),
		reloadFails: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "coatcheck_reload_failing", Help: "1 while the files as they are now cannot be used, and older contents are.",
		}, []string{"source"}),
	}
	m.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "coatcheck_log_dropped_total", Help: "Lines of the log that were dropped because nobody took them in time.",
	}, func() float64 { return float64(logDropped()) }))
	for _, source := range []string{grpcTLS, loginTLS, redisTLS, usersFile, policySource} {
		m.reloads.WithLabelValues(source, "ok")
		m.reloads.WithLabelValues(source, "error")
		m.reloadFails.WithLabelValues(source)
	}
	m.MustRegister(m.ready, m.redisUp, m.rejected, m.handshakes, m.logins, m.reloads, m.reloadFails, buildInfo(),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watchConnections exports what can only be read off.
func (m *metrics) watchConnections(listener *bounded) {
	m.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_grpc_connections", Help: "Connections to the gRPC listener.",
	}, func() float64 { return float64(listener.open.Load()) }))
}

// watchClock exports how far the clocks are apart.
func (m *metrics) watchClock(offset func() time.Duration) {
	m.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_clock_offset_seconds", Help: "By how much the clock of Redis, which is gone by, is ahead of this machine's.",
	}, func() float64 { return offset().Seconds() }))
}

// watchExpiry exports when a certificate ends.
func (m *metrics) watchExpiry(source string, files *tlsfiles.Source) {
	m.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_tls_certificate_expiry_timestamp_seconds", Help: "When the certificate in use ends, in Unix time.",
		ConstLabels: prometheus.Labels{"source": source},
	}, func() float64 { return float64(files.Expiry().Unix()) }))
}

// reloaded counts one change of files.
func (m *metrics) reloaded(source string, err error) {
	result, failing := "ok", 0.0
	if err != nil {
		result, failing = "error", 1
	}
	m.reloads.WithLabelValues(source, result).Inc()
	m.reloadFails.WithLabelValues(source).Set(failing)
}

// buildInfo is a constant 1 whose labels say what runs.
func buildInfo() prometheus.Collector {
	version, revision := "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "coatcheck_build_info", Help: "1; the labels say which build runs.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "go_version": runtime.Version()},
	})
	gauge.Set(1)
	return gauge
}
