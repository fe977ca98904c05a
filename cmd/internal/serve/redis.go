package serve

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

const (
	probeEvery   = time.Second
	probeTimeout = 500 * time.Millisecond
	// firstTimeout is longer: that a Sentinel refuses the password is known after
	// half a second of tries, and at start nobody is kept waiting.
	firstTimeout = 1500 * time.Millisecond
)

// A redisWatch asks Redis for its time now and then: that keeps our clock on
// Redis's, and tells whether it answers.
type redisWatch struct {
	manager *sessions.Manager
	store   *redisstore.Store
	health  *health.Server
	logger  *slog.Logger
	up      prometheus.Gauge

	known, answers bool
}

func (w *redisWatch) run(ctx context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.learn(ctx, w.probe(ctx, probeTimeout))
		}
	}
}

// probe asks once.
func (w *redisWatch) probe(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return w.manager.SyncClock(ctx)
}

// learn takes in what a probe has found, and speaks of what has changed. A Redis
// that refuses to tell its time answers.
func (w *redisWatch) learn(ctx context.Context, err error) {
	answers := redisstore.Answered(err)
	if ctx.Err() != nil || w.known && w.answers == answers {
		return
	}
	w.known, w.answers = true, answers
	if !answers {
		w.up.Set(0)
		w.health.SetServingStatus(RedisService, healthv1.HealthCheckResponse_NOT_SERVING)
		w.logger.Error("Redis does not answer; checks get 503 until it does", "error", err.Error())
		return
	}
	w.up.Set(1)
	w.health.SetServingStatus(RedisService, healthv1.HealthCheckResponse_SERVING)
	w.logger.Info("Redis answers")
	if err != nil {
		w.logger.Error("Redis does not tell its time; expiry goes by this machine's clock", "error", err.Error())
	}
	w.diagnose(ctx)
}

// diagnose tells what is wrong with a Redis that answers.
func (w *redisWatch) diagnose(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
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
type redisLogger struct {
	logger *slog.Logger
	client *atomic.Pointer[redisstore.Client] // knows the passwords; nil until it is made
}

func (l redisLogger) Printf(ctx context.Context, format string, args ...any) {
	if client := l.client.Load(); client != nil {
		l.logger.DebugContext(ctx, "go-redis: "+client.Redact(fmt.Sprintf(format, args...)))
	}
}
