package serve

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// sentinelsEvery is the time between two looks at the Sentinels. Tests set it.
var sentinelsEvery = 15 * time.Second

// A sentinelWatch counts the Sentinels that are away. Checks ask none of them, so that
// nothing else tells before a failover is needed.
type sentinelWatch struct {
	store  *redisstore.Store
	logger *slog.Logger
	away   prometheus.Gauge
	last   []string
}

func (w *sentinelWatch) run(ctx context.Context) {
	ticker := time.NewTicker(sentinelsEvery)
	defer ticker.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look asks once, and logs what has changed.
func (w *sentinelWatch) look(ctx context.Context) {
	asked, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	away := w.store.SentinelsAway(asked)
	if ctx.Err() != nil {
		return
	}
	w.away.Set(float64(len(away)))
	switch {
	case slices.Equal(away, w.last):
	case len(away) > 0:
		w.logger.Warn("Sentinels do not name the master; with too few of them there is no failover", "away", away)
	default:
		w.logger.Info("all Sentinels name the master")
	}
	w.last = away
}
