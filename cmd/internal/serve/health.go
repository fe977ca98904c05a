package serve

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// The names that the gRPC health service knows, besides the empty one.
const (
	// AuthorizationService serves, like the empty name, until the process drains.
	// Neither follows Redis: an outage of Redis concerns all replicas, and replicas
	// that are not ready could not answer 503.
	AuthorizationService = "envoy.service.auth.v3.Authorization"
	// LivenessService serves as long as the process runs, also while it drains.
	LivenessService = "liveness"
	// RedisService serves while Redis answers, for dashboards.
	RedisService = "redis"
)

// A healthService ends its watches when lasting is done. GracefulStop would otherwise
// wait for them, and they would wait for the end of the server.
type healthService struct {
	*health.Server
	lasting context.Context
}

// survived makes an error of a panic, which would end the process. Checks have their
// own.
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
	defer context.AfterFunc(h.lasting, cancel)()
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
	for _, name := range []string{"", AuthorizationService, SessionService, LivenessService} {
		h.SetServingStatus(name, healthv1.HealthCheckResponse_SERVING)
	}
	h.SetServingStatus(RedisService, healthv1.HealthCheckResponse_UNKNOWN)
	return h
}

// unready reports to probes that this replica wants no new checks.
func unready(h *health.Server) {
	for _, name := range []string{"", AuthorizationService, SessionService} {
		h.SetServingStatus(name, healthv1.HealthCheckResponse_NOT_SERVING)
	}
}
