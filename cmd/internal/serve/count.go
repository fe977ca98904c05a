package serve

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// keysEvery is the time between two questions for the number of keys.
var keysEvery = 15 * time.Second

// A counter counts, beside the checks and never for one of them: the keys of Redis,
// which Redis knows, and if the operator wants it, the live sessions, by a scan.
type counter struct {
	manager *sessions.Manager
	store   *redisstore.Store
	logger  *slog.Logger
	every   time.Duration // between two scans; 0: none

	keys, live prometheus.Gauge
	failing    bool // the last scan
}

// newCounter exports the gauges. They are NaN as long as nothing is known, since no
// number would be true.
func (r *redisPart) newCounter(store *redisstore.Store) *counter {
	c := &counter{manager: r.manager, store: store, logger: r.logger, every: r.config.CountEvery,
		keys: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coatcheck_redis_keys",
			Help: "Keys in Redis's database, on all masters, by INFO keyspace, each 15 s: sessions, and a listing for each user with sessions, marks of revocations and counters of attempts, too. NaN: not known.",
		}),
		live: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "coatcheck_sessions_live",
			Help: "Live sessions, counted by a scan of Redis, each session.count_every; without that there is no such series. NaN: not known.",
		}),
	}
	c.keys.Set(math.NaN())
	c.live.Set(math.NaN())
	r.metrics.MustRegister(c.keys)
	if c.every > 0 {
		r.metrics.MustRegister(c.live)
	}
	return c
}

// start counts until ctx is done.
func (c *counter) start(ctx context.Context, p *process) {
	p.running.Go(func() { repeat(ctx, keysEvery, c.countKeys) })
	if c.every > 0 {
		p.running.Go(func() { repeat(ctx, c.every, c.countSessions) })
	}
}

// repeat calls do now and then, one call after the other.
func repeat(ctx context.Context, every time.Duration, do func(context.Context)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		do(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// countKeys says nothing in the log: an outage and a missing right to INFO are known
// from redisWatch.
func (c *counter) countKeys(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	n, err := c.store.Keys(ctx)
	if err != nil {
		c.keys.Set(math.NaN())
		return
	}
	c.keys.Set(float64(n))
}

func (c *counter) countSessions(ctx context.Context) {
	n := 0
	for found, err := range c.manager.Scan(ctx, nil) {
		if err != nil {
			c.failed(ctx, err)
			return
		}
		if found.Err == nil {
			n++
		}
	}
	c.failing = false
	c.live.Set(float64(n))
}

// failed logs the first of failures in a row.
func (c *counter) failed(ctx context.Context, err error) {
	c.live.Set(math.NaN())
	if ctx.Err() == nil && !c.failing {
		c.failing = true
		c.logger.Warn("the live sessions cannot be counted", "key", "session.count_every", "error", err.Error())
	}
}
