package watching

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are below the lock of the hub.
type metrics struct {
	changes, losses uint64
	reads, failures uint64
	ends            map[Reason]uint64
	cut, full       uint64
}

// reasons are all there are.
var reasons = []Reason{NotFound, Expired, BrokenRecord, UnknownLayout}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	streamsDesc  = describe("coatcheck_api_watch_streams", "Streams of Watch that are open.")
	sessionsDesc = describe("coatcheck_api_watch_sessions", "Sessions that streams of Watch have named; one that two streams name counts twice.")
	trackedDesc  = describe("coatcheck_api_watch_tracked", "1 while Redis tells of changes; else every watched session is read again each 2.5s.")
	changesDesc  = describe("coatcheck_api_watch_changes_total", "Changes of watched sessions that Redis has told: revocations and slides.")
	lossesDesc   = describe("coatcheck_api_watch_losses_total", "How often the tracking connection was lost, or renewed after an hour.")
	readsDesc    = describe("coatcheck_api_watch_reads_total", "Watched sessions that were read.")
	failuresDesc = describe("coatcheck_api_watch_read_failures_total", "Batches of watched sessions that could not be read.")
	endsDesc     = describe("coatcheck_api_watch_ends_total", "Sessions of whose end a stream was told, by the reason that a check has for it.", "reason")
	cutDesc      = describe("coatcheck_api_watch_unavailable_total", "Streams that ended because their sessions could not be read for 5s, or not when they were opened.")
	fullDesc     = describe("coatcheck_api_watch_full_total", "Streams that were refused for want of room.")
)

// A collector reads a hub when it is asked.
type collector struct{ *Hub }

// Describe implements [prometheus.Collector].
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{streamsDesc, sessionsDesc, trackedDesc, changesDesc, lossesDesc, readsDesc, failuresDesc, endsDesc, cutDesc, fullDesc} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gauge := func(desc *prometheus.Desc, n int) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n))
	}
	count := func(desc *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
	}
	tracked := 0
	if c.tracked {
		tracked = 1
	}
	gauge(streamsDesc, len(c.streams))
	gauge(sessionsDesc, c.names)
	gauge(trackedDesc, tracked)
	count(changesDesc, c.metrics.changes)
	count(lossesDesc, c.metrics.losses)
	count(readsDesc, c.metrics.reads)
	count(failuresDesc, c.metrics.failures)
	for _, reason := range reasons {
		count(endsDesc, c.metrics.ends[reason], string(reason))
	}
	count(cutDesc, c.metrics.cut)
	count(fullDesc, c.metrics.full)
}
