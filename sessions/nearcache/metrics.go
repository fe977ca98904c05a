package nearcache

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// A result says how a look into the cache ended.
type result int

const (
	hit         result = iota // the session
	unknown                   // the store has just said that there is none
	absent                    // nothing is held
	otherFields               // other application fields are held
	ended                     // it was held for too long, or is over
	off                       // there is no lease
	resultCount
)

var resultNames = [resultCount]string{"hit", "unknown", "absent", "fields", "ended", "off"}

// An outcome says how a task in the background ended.
type outcome int

const (
	done outcome = iota
	failed
	dropped
	outcomeCount
)

var (
	outcomeNames = [outcomeCount]string{"done", "failed", "dropped"}
	taskNames    = [...]string{"refresh", "slide"}
	reasons      = [...]string{Lost, Silent, Flushed, Moved}
)

// metrics count whether they are exported or not.
type metrics struct {
	invalidations, evictions atomic.Uint64
	flushes                  [len(reasons)]atomic.Uint64
	tasks                    [len(taskNames)][outcomeCount]atomic.Uint64
}

func (m *metrics) flushed(why string) {
	for i, reason := range reasons {
		if reason == why {
			m.flushes[i].Add(1)
		}
	}
}

func (m *metrics) background(slide bool, o outcome) {
	i := 0
	if slide {
		i = 1
	}
	m.tasks[i][o].Add(1)
}

// Stats are the counts of a cache since its start, and what it holds now.
type Stats struct {
	Hits    uint64 // sessions that were answered from here
	Lookups uint64 // looks into the cache, hits included

	Invalidations, Evictions, Flushes uint64
	// Leased says that tracking is believed, so that there can be hits.
	Leased         bool
	Entries, Bytes int
}

// Stats returns the counts.
func (c *Cache) Stats() Stats {
	s := Stats{
		Invalidations: c.metrics.invalidations.Load(), Evictions: c.metrics.evictions.Load(),
		Leased: c.lease.holds(c.now()), Entries: int(c.count.Load()), Bytes: int(c.bytes.Load()),
	}
	results := c.results()
	for _, n := range results {
		s.Lookups += n
	}
	s.Hits = results[hit]
	for i := range c.metrics.flushes {
		s.Flushes += c.metrics.flushes[i].Load()
	}
	return s
}

func (c *Cache) results() (sum [resultCount]uint64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for j, n := range s.results {
			sum[j] += n
		}
		s.mu.Unlock()
	}
	return sum
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	lookupsDesc       = describe("coatcheck_near_cache_lookups_total", "Looks into the near cache, by what was found: hit (the session), unknown (Redis has just said that there is none); else Redis is asked: absent, fields (of another policy), ended (not renewed in time, or over), off (tracking is not believed).", "result")
	invalidationsDesc = describe("coatcheck_near_cache_invalidations_total", "Records whose change Redis has told the near cache.")
	flushesDesc       = describe("coatcheck_near_cache_flushes_total", "How often the near cache was emptied: lost (the tracking connection broke, or was renewed after an hour), silent (it said nothing for the lease), flushed (Redis was emptied), moved (other masters).", "reason")
	evictionsDesc     = describe("coatcheck_near_cache_evictions_total", "Entries that left the near cache for want of room.")
	backgroundDesc    = describe("coatcheck_near_cache_background_total", "Work of the near cache beside the checks: slide (a session is used) and refresh (its record has changed), by outcome; dropped is what found the queue full.", "task", "outcome")
	leasedDesc        = describe("coatcheck_near_cache_leased", "1 while tracking is believed, so that there can be hits.")
	entriesDesc       = describe("coatcheck_near_cache_entries", "Sessions in the near cache.")
	bytesDesc         = describe("coatcheck_near_cache_bytes", "Memory of the sessions in the near cache, about.")
)

// A collector reads a cache when it is asked.
type collector struct{ *Cache }

// Describe implements [prometheus.Collector].
func (collector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{lookupsDesc, invalidationsDesc, flushesDesc, evictionsDesc, backgroundDesc, leasedDesc, entriesDesc, bytesDesc} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(to chan<- prometheus.Metric) {
	count := func(desc *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(desc *prometheus.Desc, n int) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n))
	}
	for i, n := range c.results() {
		count(lookupsDesc, n, resultNames[i])
	}
	for i := range reasons {
		count(flushesDesc, c.metrics.flushes[i].Load(), reasons[i])
	}
	for i, task := range taskNames {
		for j, outcome := range outcomeNames {
			count(backgroundDesc, c.metrics.tasks[i][j].Load(), task, outcome)
		}
	}
	s := c.Stats()
	count(invalidationsDesc, s.Invalidations)
	count(evictionsDesc, s.Evictions)
	leased := 0
	if s.Leased {
		leased = 1
	}
	gauge(leasedDesc, leased)
	gauge(entriesDesc, s.Entries)
	gauge(bytesDesc, s.Bytes)
}
