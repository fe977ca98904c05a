package serve

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
)

// SessionService is the name of the session API in the health service. It serves until the
// process drains, and does not follow Redis, like [AuthorizationService].
const SessionService = sessionsv1connect.SessionServiceName

// mountHealth answers probes, which have no credential. The answers say no more than a
// connection does.
func (a *apiPart) mountHealth(at paths) {
	service := healthService{a.health, a.lasting}
	at[healthv1.Health_Check_FullMethodName] = atMost(a.config.APIMaxInFlight, connect.NewUnaryHandler(healthv1.Health_Check_FullMethodName,
		func(ctx context.Context, q *connect.Request[healthv1.HealthCheckRequest]) (*connect.Response[healthv1.HealthCheckResponse], error) {
			answer, err := service.Check(ctx, q.Msg)
			if err != nil {
				return nil, inConnect(err)
			}
			return connect.NewResponse(answer), nil
		}, small))
	at[healthv1.Health_Watch_FullMethodName] = a.server.Guard(lasting(connect.NewServerStreamHandler(healthv1.Health_Watch_FullMethodName,
		func(ctx context.Context, q *connect.Request[healthv1.HealthCheckRequest], stream *connect.ServerStream[healthv1.HealthCheckResponse]) error {
			return inConnect(service.Watch(q.Msg, healthStream{ctx: ctx, stream: stream}))
		}, small)))
}

// atMost bounds the calls at the same time of clients that need not be callers, each of which
// may be slow to send its message.
func atMost(limit int, next http.Handler) http.Handler {
	var inFlight atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer inFlight.Add(-1)
		if inFlight.Add(1) > int64(limit) {
			http.Error(w, "too many calls at once", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// lasting lifts the time limits of the HTTP server for a stream that goes on.
func lasting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_, _ = control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})
		next.ServeHTTP(w, r)
	})
}

// small bounds the messages of probes and of reflection.
var small = connect.WithHandlerOptions(connect.WithReadMaxBytes(4<<10), connect.WithCompression("gzip", nil, nil))

// mountReflection tells callers what may be called. It is behind their credentials: what it
// tells is public, but it takes work and memory of streams that a stranger opens.
func (a *apiPart) mountReflection(at paths) {
	service := reflection.NewServerV1(reflection.ServerOptions{Services: served{}})
	const path = reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName
	at[path] = a.server.Guard(connect.NewBidiStreamHandler(path,
		func(ctx context.Context, stream *connect.BidiStream[reflectionv1.ServerReflectionRequest, reflectionv1.ServerReflectionResponse]) error {
			ctx, cancel := context.WithTimeout(ctx, receiveTimeout)
			defer cancel()
			defer context.AfterFunc(a.lasting, cancel)()
			return inConnect(service.ServerReflectionInfo(reflectionStream{ctx: ctx, stream: stream}))
		}, small))
}

// served are the services of the port.
type served struct{}

// GetServiceInfo implements [reflection.ServiceInfoProvider].
func (served) GetServiceInfo() map[string]grpc.ServiceInfo {
	return map[string]grpc.ServiceInfo{SessionService: {}, healthv1.Health_ServiceDesc.ServiceName: {}}
}

// inConnect is an error of grpc-go as connect-go sends it.
func inConnect(err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	return connect.NewError(connect.Code(s.Code()), s.Err())
}

// A healthStream is a stream of connect-go as the health service uses it.
type healthStream struct {
	grpc.ServerStream
	ctx    context.Context
	stream *connect.ServerStream[healthv1.HealthCheckResponse]
}

func (s healthStream) Context() context.Context                        { return s.ctx }
func (s healthStream) Send(answer *healthv1.HealthCheckResponse) error { return s.stream.Send(answer) }

// A reflectionStream is the same for reflection.
type reflectionStream struct {
	grpc.ServerStream
	ctx    context.Context
	stream *connect.BidiStream[reflectionv1.ServerReflectionRequest, reflectionv1.ServerReflectionResponse]
}

func (s reflectionStream) Context() context.Context { return s.ctx }
func (s reflectionStream) Send(answer *reflectionv1.ServerReflectionResponse) error {
	return s.stream.Send(answer)
}
func (s reflectionStream) Recv() (*reflectionv1.ServerReflectionRequest, error) {
	return s.stream.Receive()
}
