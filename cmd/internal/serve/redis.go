package serve

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

const (
	probeEvery   = time.Second
	probeTimeout = 500 * time.Millisecond
)

// A redisWatch asks Redis for its time now and then: that keeps our clock on
// Redis's, and tells whether it answers.
type redisWatch struct {
	manager *sessions.Manager
	store   *redisstore.Store
	health  *health.Server
	logger  *slog.Logger

	known, up bool
}

func (w *redisWatch) run(ctx context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.probe(ctx)
		}
	}
}

// probe asks once and speaks of what has changed.
func (w *redisWatch) probe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := w.manager.SyncClock(ctx)
	if ctx.Err() == context.Canceled {
		return
	}
	if up := err == nil; w.known && w.up == up {
		return
	}
	w.known, w.up = true, err == nil
	if err != nil {
		w.health.SetServingStatus(RedisService, healthv1.HealthCheckResponse_NOT_SERVING)
		w.logger.Error("Redis does not answer; checks get 503 until it does", "error", err.Error())
		return
	}
	w.health.SetServingStatus(RedisService, healthv1.HealthCheckResponse_SERVING)
	w.logger.Info("Redis answers")
	warnings, err := w.store.Diagnose(ctx)
	if err != nil {
		w.logger.Error("Redis answers, but not to a check", "error", err.Error())
	}
	for _, warning := range warnings {
		w.logger.Warn("Redis: " + warning)
	}
}

// redisLogger hands on what go-redis says of its connections. It says most of
// it once for each, so it is for those who ask for details.
type redisLogger struct{ logger *slog.Logger }

func (l redisLogger) Printf(ctx context.Context, format string, args ...any) {
	l.logger.DebugContext(ctx, "go-redis: "+fmt.Sprintf(format, args...))
}
