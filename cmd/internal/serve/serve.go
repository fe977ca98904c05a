// Package serve runs the authorization server: it connects the parts, listens,
// watches Redis, and ends without losing a request.
package serve

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// RedisService is the name under which the gRPC health service tells whether
// Redis answers. The server's own health does not follow it: an outage of Redis
// is common to all replicas, and an unready fleet cannot give the 503.
const RedisService = "redis"

// Run serves until ctx is done, and then drains. It returns an error where it
// could not start, with nothing left running.
func Run(ctx context.Context, c *config.Config, logger *slog.Logger) error {
	options, err := c.Redis()
	if err != nil {
		return err
	}
	redis.SetLogger(redisLogger{logger})
	client := redisstore.NewClient(options)
	defer func() { _ = client.Close() }()
	store := redisstore.New(client, c.Store())
	manager, err := sessions.NewManager(store, c.Sessions())
	if err != nil {
		return err
	}
	answers := c.ExtAuthz()
	answers.Logger = logger
	authorization, err := extauthz.New(manager, answers)
	if err != nil {
		return err
	}
	listener, err := listen(c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}

	keepHeadroom()
	server := newServer()
	extauthz.Register(server, authorization)
	health := health.NewServer()
	healthv1.RegisterHealthServer(server, health)
	health.SetServingStatus(authv3.Authorization_ServiceDesc.ServiceName, healthv1.HealthCheckResponse_SERVING)

	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatching()
	watch := &redisWatch{manager: manager, store: store, health: health, logger: logger}
	watch.probe(watching) // so that the first check goes by Redis's clock
	go watch.run(watching)

	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	logger.Info("serving", "listen", listener.Addr().String(), "redis", c.RedisAddresses)
	if c.CookieName == sessions.DefaultCookieName {
		logger.Info("the __Host- cookie needs https; on plain http browsers accept it for localhost and 127.0.0.1 only")
	}
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	health.Shutdown()
	drain(server, c.Drain, c.ShutdownGrace, logger)
	return nil
}

// newServer returns a gRPC server that Envoys keep few connections to and many
// streams on.
func newServer() *grpc.Server {
	return grpc.NewServer(
		grpc.ForceServerCodecV2(extauthz.Codec()),
		// Well above Envoy's 60 KiB of headers: a message over the limit would be
		// answered with an error, not with a verdict.
		grpc.MaxRecvMsgSize(1<<20),
		grpc.MaxConcurrentStreams(math.MaxUint16),
		// Goroutines with a grown stack; enough for those that wait on Redis.
		grpc.NumStreamWorkers(64),
		// An Envoy worker's streams share one connection and its window.
		grpc.StaticStreamWindowSize(1<<20),
		grpc.StaticConnWindowSize(16<<20),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.WaitForHandlers(true),
		// Envoy's keepalive pings, from one each 5 s, are no abuse.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 4 * time.Second, PermitWithoutStream: true}),
		// Envoys come back after a while, and so find new replicas; gRPC spreads
		// the age by 10 % itself.
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 5 * time.Minute, MaxConnectionAgeGrace: 30 * time.Second}),
	)
}

// drain serves on for a while, because it takes Envoys a while to notice that
// this replica is not ready any more; then it lets calls in flight end.
func drain(server *grpc.Server, serveOn, grace time.Duration, logger *slog.Logger) {
	logger.Info("draining", "serve_on", serveOn.String(), "grace", grace.String())
	time.Sleep(serveOn)
	hard := time.AfterFunc(grace, server.Stop)
	defer hard.Stop()
	server.GracefulStop()
	logger.Info("stopped")
}
