package extauthz

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/coatcheck/coatcheck/sessions"
)

// DefaultTimeout bounds one check unless configured otherwise. It lies below the
// 200 ms that Envoy waits, so that the answer is ours and not Envoy's.
const DefaultTimeout = 150 * time.Millisecond

// DefaultMaxInFlight bounds the checks that wait for their sessions at the same
// time unless configured otherwise. A healthy Redis has dozens in flight at
// most; behind one that hangs so many can pile up without harm.
const DefaultMaxInFlight = 1024

// Sessions is all that a check knows of sessions: *[sessions.Manager] is one.
type Sessions interface {
	// Touch returns the live session of id with the named application fields,
	// and slides its idle expiry. sessions.ErrNotFound, ErrExpired and ErrBroken
	// say that nobody is signed in; every other error that nothing is known.
	Touch(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error)
}

// Config says what a [Server] answers. The zero Config is ready.
type Config struct {
	// Cookie is the session cookie.
	Cookie sessions.Cookie
	// KeepCookie lets the upstream see the session cookie. By default it is cut
	// out: a service that is broken into could otherwise use it.
	KeepCookie bool
	// Bearer also takes the session ID from "Authorization: Bearer <ID>", for
	// clients that keep no cookies. Such a header is cut out as the cookie is, and
	// who shows both, or one twice, is not authenticated. Credentials that are no
	// session ID are left alone.
	Bearer bool
	// Paths says which paths are taken, where a route does not say otherwise. Empty:
	// [PathsSafe].
	Paths Paths
	// IgnoreKeys are keys of context_extensions that other filters or servers read.
	// Every other key that is not ours denies, so that a typing error opens nothing.
	IgnoreKeys []string
	// HeaderPrefix begins every managed header. Empty: [DefaultHeaderPrefix].
	HeaderPrefix string
	// Fields are the application fields that upstreams get as headers.
	Fields []FieldHeader
	// LoginURL is where a navigation without a session is sent: a path on the
	// same host, or an absolute http or https URL. Empty: 401 for everybody.
	LoginURL string
	// Timeout bounds one check. Zero: [DefaultTimeout].
	Timeout time.Duration
	// MaxInFlight bounds the checks that wait for their sessions at the same
	// time; one more is answered 503 at once. Zero: [DefaultMaxInFlight].
	MaxInFlight int
	// Now is the time by which conditions decide, such as that of a
	// [sessions.Manager]: replicas with wrong clocks agree on it. Nil: time.Now.
	Now func() time.Time
	// Logger takes one line a check, as Log says. Nil: none.
	Logger *slog.Logger
	// Log says which decisions are logged, and how.
	Log LogConfig
	// Metrics takes the collectors, whose names begin with coatcheck_check,
	// coatcheck_log, coatcheck_policies and coatcheck_shadow. Nil: they are not
	// exported.
	Metrics prometheus.Registerer
}

// A Server is Envoy's Authorization service over sessions. It is safe for
// concurrent use.
type Server struct {
	sessions  Sessions
	config    Config
	headers   headerNames
	bare      *policies // that there are where none are configured
	policies  atomic.Pointer[policies]
	lookups   gate // checks that wait for their sessions; what needs no lookup is cheaper to answer than to refuse
	receiving reception
	decisions *decisionLog
	metrics   *metrics
}

var _ authv3.AuthorizationServer = (*Server)(nil)

// New returns a Server, or everything that is wrong with config.
func New(s Sessions, config Config) (*Server, error) {
	if config.Timeout == 0 {
		config.Timeout = DefaultTimeout
	}
	if config.MaxInFlight == 0 {
		config.MaxInFlight = DefaultMaxInFlight
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	var errs []error
	if s == nil {
		errs = append(errs, errors.New("no sessions"))
	}
	if config.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout %v is negative", config.Timeout))
	}
	if config.MaxInFlight < 0 {
		errs = append(errs, fmt.Errorf("%d checks in flight: none could be", config.MaxInFlight))
	}
	headers, err := newHeaderNames(config.HeaderPrefix, config.Fields)
	login, loginErr := parseLogin(config.LoginURL)
	if err := errors.Join(append(errs, config.Cookie.Validate(), config.Log.validate(), config.Paths.validate(), ignorable(config.IgnoreKeys), err, loginErr)...); err != nil {
		return nil, err
	}
	server := &Server{
		sessions: s, config: config, headers: headers,
		lookups: gate{limit: int64(config.MaxInFlight)}, decisions: newDecisionLog(config.Logger, config.Log),
	}
	server.bare = &policies{plain: plainPolicy(headers, &refusal{login: login, page: defaultPage, plain: true})}
	server.metrics, err = newMetrics(config.Metrics, &server.lookups)
	return server, err
}

// Register adds the service to a gRPC server, which must use [Codec].
func Register(registrar grpc.ServiceRegistrar, s *Server) {
	desc := authv3.Authorization_ServiceDesc
	desc.Methods = []grpc.MethodDesc{{MethodName: "Check", Handler: handle}}
	registrar.RegisterService(&desc, s)
}

// handle is the generated handler but for the type that it decodes into. gRPC
// receives the message only when it is asked to decode it. gRPC does not survive a
// panic, so every one ends here: a bug is a denial, of one request.
func handle(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (response any, err error) {
	s, start := srv.(*Server), time.Now()
	r := s.newRequest()
	defer func() {
		if p := recover(); p != nil {
			response, err = s.survive(ctx, r, p, start), nil
		}
	}()
	received, err := s.receive(ctx, decode, r)
	switch {
	case !received:
		r.unread = true
		return s.check(ctx, r), nil
	case err != nil && !undecodable(err):
		return nil, err // the caller has gone, or sends what gRPC does not take: nobody is there for a verdict
	case err != nil:
		// Not an error to Envoy, which could take it for an allow.
		*r = *s.newRequest()
		r.malformed = true
		if s.decisions.floods[BadRequest].Allow() {
			s.decisions.logger.Error("decoding a CheckRequest; does the gRPC server use extauthz.Codec?", "error", err.Error())
		}
	}
	if interceptor == nil {
		return s.check(ctx, r), nil
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: authv3.Authorization_Check_FullMethodName}
	return interceptor(ctx, r, info, func(ctx context.Context, _ any) (any, error) {
		return s.check(ctx, r), nil
	})
}

// receive decodes a message into r, if there is room for one more.
func (s *Server) receive(ctx context.Context, decode func(any) error, r *request) (received bool, err error) {
	var connection net.Addr
	if p, ok := peer.FromContext(ctx); ok {
		connection = p.Addr
	}
	if !s.receiving.enter(connection) {
		return false, nil
	}
	defer s.receiving.leave(connection)
	received = true
	defer survived(&err)
	return received, decode(r)
}

// Check decides one request. It never returns an error: Envoy's
// failure_mode_allow turns errors into allows, and so a fault is a denial with
// status 503. A server of [Register] does the same from the bytes on the wire.
func (s *Server) Check(ctx context.Context, m *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	r := s.newRequest()
	r.fromProto(m)
	return s.check(ctx, r), nil
}

// newRequest is to be read and decided by the policies that there are now.
func (s *Server) newRequest() *request {
	return &request{prefix: s.headers.prefix, ignored: s.config.IgnoreKeys, policies: s.policies.Load()}
}

// check decides and answers, and survives a bug in doing so.
func (s *Server) check(ctx context.Context, r *request) (response *authv3.CheckResponse) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			response = s.survive(ctx, r, p, start)
		}
	}()
	return s.answer(ctx, r, s.decide(ctx, r), start)
}

// survive answers a request in whose way a bug stood. Where that is in the answer,
// the metrics or the logger, these are left out.
func (s *Server) survive(ctx context.Context, r *request, p any, start time.Time) (response *authv3.CheckResponse) {
	response = lastResort()
	defer func() { _ = recover() }()
	d := decision{reason: Internal, err: panicError(p), choice: choice{policy: s.policiesOf(r).plain}}
	response = s.respond(r, d)
	s.tell(ctx, r, d, time.Since(start))
	return response
}

// answer makes the response to a decision, and counts and logs it.
func (s *Server) answer(ctx context.Context, r *request, d decision, start time.Time) *authv3.CheckResponse {
	response := s.respond(r, d)
	s.tell(ctx, r, d, time.Since(start))
	return response
}

func (s *Server) tell(ctx context.Context, r *request, d decision, took time.Duration) {
	s.metrics.observe(d, took)
	s.log(ctx, r, d, took)
}

// panicError describes a panic without its value, which can hold anything.
func panicError(p any) error {
	what := fmt.Sprintf("panic of type %T", p)
	if err, ok := p.(runtime.Error); ok {
		what = err.Error()
	}
	return fmt.Errorf("%s\n%s", what, debug.Stack())
}
