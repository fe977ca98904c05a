package serve

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/tap"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
)

// grpcPart serves checks and health over gRPC.
type grpcPart struct {
	*process
	health   *health.Server
	listener *bounded     // nil: no checks here
	tls      *tls.Config  // nil: plaintext
	server   *grpc.Server // nil: not started

	authorization *extauthz.Server // nil: not started

	lasting    context.Context // of calls that last, such as a watch of health
	endLasting context.CancelFunc
}

func newGRPCPart(p *process, health *health.Server) grpcPart {
	g := grpcPart{process: p, health: health}
	g.lasting, g.endLasting = context.WithCancel(context.Background())
	p.onClose(g.endLasting)
	return g
}

func (g *grpcPart) listen() error {
	if g.config.Listen == "" {
		return nil
	}
	mode, err := strconv.ParseUint(g.config.ListenMode, 8, 32)
	if err != nil {
		return config.About(err, "listen_mode")
	}
	if g.config.TLS.CertFile != "" {
		files, err := g.watchTLS(grpcTLS, g.config.TLS)
		if err != nil {
			return config.AboutTLS(err, "tls", g.config.TLS)
		}
		g.tls = files.Server("h2", g.config.TLSClientNames)
	}
	listener, err := listen(g.config.Listen, os.FileMode(mode))
	if err != nil {
		return config.About(err, "listen")
	}
	g.onClose(func() { _ = listener.Close() })
	g.listener = &bounded{Listener: listener, limit: int64(g.config.MaxConnections), rejected: g.metrics.rejected.Inc}
	return nil
}

// start serves checks of the sessions, which are of that format unless it is nil, by the
// time of now, with spans unless the tracer is nil. It hands the server to
// prepare before the first check.
func (g *grpcPart) start(from extauthz.Sessions, format sessions.Format, now func() time.Time, tracer trace.Tracer, prepare func(*extauthz.Server) error) error {
	if g.listener == nil {
		return nil
	}
	cfg := g.config.ExtAuthz()
	cfg.Logger, cfg.Metrics, cfg.Now, cfg.Tracer, cfg.Cause, cfg.Format = g.logger, g.metrics, now, tracer, causeOf, format
	authorization, err := extauthz.New(from, cfg)
	if err != nil {
		return err
	}
	if err := prepare(authorization); err != nil {
		return err
	}
	g.authorization = authorization
	g.metrics.watchConnections(g.listener)
	deadlines := &deadlineWatch{timeout: g.config.Timeout, notices: g.notices}
	g.server = newGRPCServer(g.config, transport(g.tls, g.logger, g.metrics.handshakes.Inc), deadlines.look)
	extauthz.Register(takenUp{g.server}, authorization)
	healthv1.RegisterHealthServer(takenUp{g.server}, healthService{g.health, g.lasting})
	g.onClose(g.stop)
	listener := newBacklogs(g.config, g.logger).listen(g.listener)
	g.running.Go(func() { g.failed <- g.server.Serve(listener) })
	return nil
}

// attributes say in the log where it serves.
func (g *grpcPart) attributes() []any {
	if g.listener == nil {
		return nil
	}
	return []any{"listen", g.listener.Addr().String(), "tls", g.tls != nil}
}

// drain waits for calls in flight, at most for the grace, and cuts off the others.
func (g *grpcPart) drain() {
	if g.server == nil {
		return
	}
	g.endLasting()
	if within(g.config.ShutdownGrace, g.server.GracefulStop) {
		return
	}
	g.logger.Warn("calls are still in flight after the grace; they are cut off")
	g.stop()
}

// stop cuts off the calls that are left. A handler that does not end by its deadline
// is a bug, and no reason to stay.
func (g *grpcPart) stop() {
	g.endLasting()
	within(cutOff, g.server.Stop)
}

// cutOff is how long calls that were cut off have to notice.
const cutOff = 2 * time.Second

// within calls end and reports whether it returned in time.
func within(limit time.Duration, end func()) bool {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		end()
	}()
	select {
	case <-ended:
		return true
	case <-time.After(limit):
		return false
	}
}

// newGRPCServer returns a gRPC server for Envoys, which have few connections with many
// streams. It tells given how much time each check has.
func newGRPCServer(c *config.Config, transport credentials.TransportCredentials, given func(time.Duration)) *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(transport),
		grpc.ForceServerCodecV2(extauthz.Codec()),
		grpc.InTapHandle(endAfter(c.Timeout+receiveTimeout, given)),
		grpc.UnknownServiceHandler(takesUp(unknown)),
		// A message over the limit gets an error and not a verdict.
		grpc.MaxRecvMsgSize(c.MaxMessageBytes),
		grpc.MaxHeaderListSize(uint32(c.MaxHeaderBytes)),
		grpc.MaxConcurrentStreams(uint32(c.MaxStreams)),
		// Goroutines with a grown stack, enough for the checks that wait for Redis.
		grpc.NumStreamWorkers(64),
		// Room for any CheckRequest that Envoy makes, and no more: a stream that is not
		// read yet can take as much.
		grpc.StaticStreamWindowSize(128<<10),
		grpc.StaticConnWindowSize(4<<20),
		grpc.ConnectionTimeout(c.HandshakeTimeout),
		grpc.WaitForHandlers(true),
		// Envoy's keepalive pings, at most one each 5 s, are not abuse.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 4 * time.Second, PermitWithoutStream: true}),
		// gRPC spreads the age by a tenth, so that Envoys do not all connect anew at
		// once. Time finds connections whose other end is gone.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: c.MaxConnectionAge, MaxConnectionAgeGrace: 30 * time.Second,
			Time: time.Minute, Timeout: 10 * time.Second,
		}),
	)
}

// receiveTimeout is the time of a call beside the time of its check. Without it a peer
// that never completes its message would occupy memory for ever.
const receiveTimeout = 10 * time.Second

// endAfter bounds every call, except the ones that are meant to last. A call that ends
// sooner by itself stays as it is.
func endAfter(limit time.Duration, given func(time.Duration)) tap.ServerInHandle {
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		if ctx.Err() == nil { // else gRPC refuses it
			backlogOf(ctx).begin()
		}
		if info.FullMethodName == healthv1.Health_Watch_FullMethodName {
			return ctx, nil
		}
		if end, ok := ctx.Deadline(); ok {
			left := time.Until(end)
			if info.FullMethodName == authv3.Authorization_Check_FullMethodName {
				given(left)
			}
			if left <= limit {
				return ctx, nil
			}
		}
		ctx, cancel := context.WithTimeout(ctx, limit) //nolint:gosec // the end of the call cancels what ctx is made of, and ctx with it
		_ = cancel
		return ctx, nil
	}
}

// transport is plaintext, or TLS that logs failed handshakes: gRPC does not log them,
// and with mTLS they are the first thing to go wrong.
func transport(c *tls.Config, logger *slog.Logger, failed func()) credentials.TransportCredentials {
	if c == nil {
		return insecure.NewCredentials()
	}
	return &loggedTransport{credentials.NewTLS(c), logger, failed, rate.NewLimiter(1, 5)}
}

type loggedTransport struct {
	credentials.TransportCredentials
	logger *slog.Logger
	failed func()
	often  *rate.Limiter
}

func (t *loggedTransport) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
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

func (t *loggedTransport) Clone() credentials.TransportCredentials {
	return &loggedTransport{t.TransportCredentials.Clone(), t.logger, t.failed, t.often}
}
