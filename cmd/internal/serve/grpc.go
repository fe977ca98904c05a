package serve

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/extauthz"
)

// The names that the gRPC health service knows, besides the empty one.
const (
	// AuthorizationService is ready like the empty name: not while it drains.
	// Neither follows Redis: an outage of Redis is common to all replicas, and an
	// unready fleet cannot give the 503.
	AuthorizationService = "envoy.service.auth.v3.Authorization"
	// LivenessService serves as long as the process runs, while it drains, too.
	LivenessService = "liveness"
	// RedisService tells whether Redis answers, for dashboards.
	RedisService = "redis"
)

// newServer returns a gRPC server that Envoys keep few connections to and many
// streams on.
func newServer(c *config.Config, transport credentials.TransportCredentials) *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(transport),
		grpc.ForceServerCodecV2(extauthz.Codec()),
		grpc.InTapHandle(endAfter(c.Timeout+receiveTimeout)),
		// A message over the limit is answered with an error, not with a verdict.
		grpc.MaxRecvMsgSize(c.MaxMessageBytes),
		grpc.MaxHeaderListSize(uint32(c.MaxHeaderBytes)),
		grpc.MaxConcurrentStreams(uint32(c.MaxStreams)),
		// Goroutines with a grown stack; enough for those that wait on Redis.
		grpc.NumStreamWorkers(64),
		// Room for a CheckRequest of any size that Envoy makes, and no more: it is
		// what a stream that nobody reads yet can take.
		grpc.StaticStreamWindowSize(128<<10),
		grpc.StaticConnWindowSize(4<<20),
		grpc.ConnectionTimeout(c.HandshakeTimeout),
		grpc.WaitForHandlers(true),
		// Envoy's keepalive pings, from one each 5 s, are no abuse.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 4 * time.Second, PermitWithoutStream: true}),
		// gRPC spreads the age by a tenth, so that Envoys do not come back all at
		// once. Time finds connections whose other end is gone.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: c.MaxConnectionAge, MaxConnectionAgeGrace: 30 * time.Second,
			Time: time.Minute, Timeout: 10 * time.Second,
		}),
	)
}

// receiveTimeout is what a call has beside a check's own time: a peer that begins
// one and does not end its message would hold on to what it has sent.
const receiveTimeout = 10 * time.Second

// endAfter bounds every call but those that are meant to last.
func endAfter(limit time.Duration) tap.ServerInHandle {
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		if info.FullMethodName == healthv1.Health_Watch_FullMethodName {
			return ctx, nil
		}
		ctx, cancel := context.WithTimeout(ctx, limit) //nolint:gosec // the end of the call cancels what ctx is made of, and ctx with it
		_ = cancel
		return ctx, nil
	}
}

// A healthService ends what watches it when the server stops: GracefulStop would
// otherwise wait for these calls, which end when everything else has.
type healthService struct {
	*health.Server
	stopping context.Context
}

// survived makes an error of a panic, which gRPC would let end the process. Checks
// see to this themselves.
func survived(err *error) {
	if p := recover(); p != nil {
		*err = status.Errorf(codes.Internal, "panic of type %T", p)
	}
}

// Check implements the health service.
func (h healthService) Check(ctx context.Context, in *healthv1.HealthCheckRequest) (r *healthv1.HealthCheckResponse, err error) {
	defer survived(&err)
	return h.Server.Check(ctx, in)
}

// Watch implements the health service.
func (h healthService) Watch(in *healthv1.HealthCheckRequest, stream healthv1.Health_WatchServer) (err error) {
	defer survived(&err)
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(h.stopping, cancel)()
	return h.Server.Watch(in, watching{stream, ctx})
}

type watching struct {
	healthv1.Health_WatchServer
	ctx context.Context
}

func (w watching) Context() context.Context { return w.ctx }

// newHealth returns the health service with everything served, Redis unknown.
func newHealth() *health.Server {
	h := health.NewServer()
	for _, name := range []string{"", AuthorizationService, LivenessService} {
		h.SetServingStatus(name, healthv1.HealthCheckResponse_SERVING)
	}
	h.SetServingStatus(RedisService, healthv1.HealthCheckResponse_UNKNOWN)
	return h
}

// unready tells that this replica wants no new checks.
func unready(h *health.Server) {
	for _, name := range []string{"", AuthorizationService} {
		h.SetServingStatus(name, healthv1.HealthCheckResponse_NOT_SERVING)
	}
}

// transport is plaintext, or TLS that tells of failed handshakes: gRPC keeps
// these to itself, and they are the first thing that goes wrong with mTLS.
func transport(c *tls.Config, logger *slog.Logger, failed func()) credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	return &telling{credentials.NewTLS(c), logger, failed, rate.NewLimiter(1, 5)}
}

type telling struct {
	credentials.TransportCredentials
	logger *slog.Logger
	failed func()
	often  *rate.Limiter
}

func (t *telling) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := t.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		t.failed()
		if t.often.Allow() {
			t.logger.LogAttrs(context.Background(), slog.LevelWarn, "a TLS handshake failed",
				slog.String("peer", raw.RemoteAddr().String()), slog.String("error", err.Error()))
		}
	}
	return conn, info, err
}

func (t *telling) Clone() credentials.TransportCredentials {
	return &telling{t.TransportCredentials.Clone(), t.logger, t.failed, t.often}
}
