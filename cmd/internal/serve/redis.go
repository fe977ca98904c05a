package serve

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/tlsfiles"
	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

const probeEvery = time.Second

// Tests set these.
var (
	probeTimeout = 500 * time.Millisecond
	// firstTimeout is longer: a Sentinel's refusal of the password is known after half
	// a second of attempts, and at start no request waits.
	firstTimeout = 1500 * time.Millisecond
)

// redisPart is the connection to Redis, and what the other parts need of it.
type redisPart struct {
	*process
	health *health.Server

	redis   redis.UniversalClient
	manager *sessions.Manager
	timed   *timed // manager, for checks and logins
	watch   *redisWatch
	counter *counter
	near    nearPart
	foreign foreignPart
	store   *redisstore.Store
}

// connect makes the client of Redis, which does not connect yet.
func (r *redisPart) connect(context.Context) error {
	options, err := r.options()
	if err != nil {
		return err
	}
	made := new(atomic.Pointer[redisstore.Client])
	redis.SetLogger(redisLogger{r.logger, made})
	client, err := redisstore.NewClient(options)
	if err != nil {
		return err
	}
	made.Store(client)
	r.redis = client
	r.onClose(func() { _ = client.Close() })
	storeConfig, sessionsConfig := r.config.Store(), r.config.Sessions()
	storeConfig.Metrics, storeConfig.Logger, sessionsConfig.Logger = r.metrics, r.logger, r.logger
	store := redisstore.New(client, storeConfig)
	over, err := r.near.over(store)
	if err != nil {
		return err
	}
	if r.manager, err = sessions.NewManager(over, sessionsConfig); err != nil {
		return err
	}
	r.store = store
	if err := r.foreign.open(store); err != nil {
		return err
	}
	r.timed = &timed{Manager: r.manager, missing: store.Missing}
	r.watch = &redisWatch{
		config: r.config, manager: r.manager, store: store, health: r.health, logger: r.logger, notices: r.notices, up: r.metrics.redisUp,
		foreign: r.foreign, causes: newCauseWatch(store, r.logger),
		epochs: &epochWatch{
			state: redisstore.NewState(client), store: store, notices: r.notices, logger: r.logger, emptied: r.metrics.emptied,
			login: r.config.ServesLogin() || r.foreign.format != nil, hold: r.config.RedisEmptiedHold, known: map[string]string{}, lost: map[string]*loss{},
		},
		settings: settingsWatch{state: redisstore.NewState(client), notices: r.notices, ours: r.config.Settings(), login: r.config.ServesLogin()},
	}
	if r.foreign.format != nil {
		r.watch.causes.try = r.foreign.records.Try
	}
	r.counter = r.newCounter(store)
	return nil
}

func (r *redisPart) options() (options redisstore.ClientConfig, err error) {
	var files *tlsfiles.Source
	if r.config.RedisTLS {
		if files, err = r.watchTLS(redisTLS, r.config.RedisTLSFiles); err != nil {
			return options, config.AboutTLS(err, "redis.tls", r.config.RedisTLSFiles)
		}
		r.metrics.watchExpiry(redisServer, files.ServerExpiry)
	}
	options, err = r.config.Redis(files)
	if r.config.Listen == "" && (r.config.APIListen == "" || r.config.ServesLogin()) {
		patientWithRedis(&options.UniversalOptions)
	}
	return options, err
}

// patientWithRedis is for login alone: people wait longer than checks do, and in a
// rush an attempt that could not be given back would count against its user.
func patientWithRedis(o *redis.UniversalOptions) {
	const patience = 2 * time.Second
	o.DialTimeout, o.WriteTimeout, o.PoolTimeout = patience, patience, patience
	o.ReadTimeout = max(o.ReadTimeout, patience)
}

// ask asks Redis once before a request is served, so that the first check uses
// Redis's clock. A Redis that does not answer is no error: checks get 503 until it
// does. A Redis that refuses the password is one, because waiting does not help.
func (r *redisPart) ask(ctx context.Context) error {
	err := r.watch.probe(ctx, firstTimeout)
	if redisstore.Refused(err) {
		return r.config.AboutCredentials(err)
	}
	r.watch.learn(r.background, err)
	r.running.Go(func() { r.watch.run(r.background) })
	if r.config.RedisMasterName != "" {
		w := &sentinelWatch{store: r.store, logger: r.logger, away: r.metrics.sentinelsAway}
		r.running.Go(func() { w.run(r.background) })
	}
	r.counter.start(r.background, r.process)
	return nil
}

// A redisWatch asks Redis for its time once a second. So our clock follows Redis's, and
// an outage is known. Now and then it looks at what else is in Redis, beside the checks.
type redisWatch struct {
	config   *config.Config
	manager  *sessions.Manager
	store    *redisstore.Store
	health   *health.Server
	logger   *slog.Logger
	notices  *notice.Board
	up       prometheus.Gauge
	settings settingsWatch
	causes   *causeWatch
	epochs   *epochWatch
	foreign  foreignPart

	known, answers bool
	looked         time.Time
	rights         bool // login has them all
}

func (w *redisWatch) run(ctx context.Context) {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	w.look(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.learn(ctx, w.probe(ctx, probeTimeout))
			w.causes.look(ctx)
			w.look(ctx)
		}
	}
}

// look notices what is amiss with a Redis that answers: the clocks and the epochs each
// time, the rest once in a while.
func (w *redisWatch) look(ctx context.Context) {
	if !w.answers {
		return
	}
	w.lookAtClocks()
	if w.foreign.format == nil || w.config.RedisEmptiedHold > 0 {
		w.epochs.look(ctx)
	}
	if w.foreign.format != nil { // no login leaves settings
		return
	}
	if time.Since(w.looked) < lookEvery {
		return
	}
	w.looked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	w.settings.look(ctx)
	if w.config.ServesLogin() && !w.rights {
		w.lookAtRights(ctx)
	}
}

// probe asks once.
func (w *redisWatch) probe(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return w.manager.SyncClock(ctx)
}

// learn takes the outcome of a probe, and logs what has changed. A Redis that refuses
// the question answers.
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
	w.looked, w.rights = time.Time{}, false // it may be another one, or have other users
	w.logger.Info("Redis answers")
	if err != nil {
		w.logger.Error("Redis refuses to tell its time; expiry follows this machine's clock", "error", err.Error())
	}
	w.diagnose(ctx)
}

// diagnose logs what is wrong with a Redis that answers.
func (w *redisWatch) diagnose(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	warnings, err := w.diagnosis(ctx)
	if err != nil {
		w.logger.Error("Redis answers, but not to a check", "error", err.Error())
	}
	for _, warning := range warnings {
		w.logger.Warn("Redis: " + warning)
	}
	for _, advice := range w.store.Advise(ctx) {
		w.logger.Info("Redis: " + advice)
	}
}

// diagnosis is about the sessions that checks read.
func (w *redisWatch) diagnosis(ctx context.Context) (warnings []string, err error) {
	if w.foreign.format != nil {
		return w.foreign.records.Diagnose(ctx, w.foreign.format.Slides)
	}
	return w.store.Diagnose(ctx)
}

// redisLogger passes on what go-redis logs. Most of it repeats for each connection, so
// that it is for the level debug.
type redisLogger struct {
	logger *slog.Logger
	client *atomic.Pointer[redisstore.Client] // knows the passwords; nil until it is made
}

func (l redisLogger) Printf(ctx context.Context, format string, args ...any) {
	if client := l.client.Load(); client != nil {
		l.logger.DebugContext(ctx, "go-redis: "+client.Redact(fmt.Sprintf(format, args...)))
	}
}
