package redisstore

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// failures count the operations that failed, by cause. They are also the metric, whose
// series are there from the start.
type failures struct{ of map[Cause]*atomic.Uint64 }

func newFailures() *failures {
	f := &failures{make(map[Cause]*atomic.Uint64, len(causes))}
	for _, i := range causes {
		f.of[i.Cause] = new(atomic.Uint64)
	}
	return f
}

// add counts the end of an operation.
func (f *failures) add(err error) {
	if cause, _ := CauseOf(err); cause != "" {
		f.of[cause].Add(1)
	}
}

var failuresDesc = prometheus.NewDesc("coatcheck_redis_failures_total",
	"Operations of the session store that Redis did not answer, or not with success, by cause; docs/troubleshooting.md has what to look at for each.", []string{"cause"}, nil)

// Describe implements [prometheus.Collector].
func (*failures) Describe(to chan<- *prometheus.Desc) { to <- failuresDesc }

// Collect implements [prometheus.Collector].
func (f *failures) Collect(to chan<- prometheus.Metric) {
	for cause, n := range f.of {
		to <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(n.Load()), string(cause))
	}
}

// Failures returns how many operations have failed by each [Cause] since the start. A
// program that looks now and then can say which cause began, and which is over.
func (s *Store) Failures() map[Cause]uint64 {
	sums := make(map[Cause]uint64, len(causes))
	for cause, n := range s.metrics.failures.of {
		sums[cause] = n.Load()
	}
	return sums
}

// OpenedBy returns the causes that have opened the breakers that are open now, each once.
func (s *Store) OpenedBy() []Cause { return s.nodes.openedBy() }
