package extauthz

import (
	"context"
	"net"
	"time"

	"github.com/coatcheck/coatcheck/extauthz/internal/answer"
	"github.com/coatcheck/coatcheck/extauthz/internal/redact"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Register adds the service to a gRPC server, which should use [Codec]: with another
// codec the verdicts are the same, and cost more. The unary
// interceptors of that server get each *authv3.CheckRequest, and the check decides
// the message that they pass on; one that they leave as it is, it decides from the
// bytes that arrived. A message that generated code cannot read, because its bytes are
// not UTF-8, they get as far as it can be read; if they change it, the check refuses
// it with [BadRequest]. They see each answer as an *authv3.CheckResponse. Without
// interceptors no such messages are made.
func Register(registrar grpc.ServiceRegistrar, s *Server) {
	desc := authv3.Authorization_ServiceDesc
	desc.Methods = []grpc.MethodDesc{{MethodName: "Check", Handler: handle}}
	registrar.RegisterService(&desc, s)
}

// handle is the generated handler but for the types that it decodes into and returns.
// gRPC receives the message only when it is asked to decode it. gRPC does not survive a
// panic, so every one ends here: a bug is a denial, of one request.
func handle(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (response any, err error) {
	s, start := srv.(*Server), time.Now()
	p := s.policies.Load()
	r := newReader(&p.wanted)
	r.keepRaw = interceptor != nil
	defer func() {
		if value := recover(); value != nil {
			response, err = answer.Encode(s.survive(ctx, p, &r.request, value, start)), nil
		}
	}()
	received, err := s.receive(ctx, decode, r)
	switch {
	case !received:
		return sent(r, s.answer(ctx, &r.request, &decision{reason: Overloaded, choice: choice{policy: p.plain}}, start)), nil
	case err != nil && !undecodable(err):
		return nil, err // the caller has gone, or sends what gRPC does not take: a verdict has no reader
	case err != nil:
		// Not an error to Envoy, which could take it for an allow.
		*r = reader{wanted: &p.wanted, request: request{memory: r.memory, malformed: true}}
		s.decisions.undecodable(err)
	}
	if interceptor == nil {
		return sent(r, s.check(ctx, p, &r.request)), nil
	}
	return s.intercept(ctx, p, r, interceptor)
}

// sent is an answer for gRPC, after which r is free for another check.
func sent(r *reader, a *answer.Answer) *answer.Encoded {
	e := answer.Encode(a)
	r.release()
	return e
}

// intercept checks behind the interceptors of the program, as [Register] says.
func (s *Server) intercept(ctx context.Context, p *policies, arrived *reader, interceptor grpc.UnaryServerInterceptor) (any, error) {
	message := new(authv3.CheckRequest)
	unreadable := proto.Unmarshal(arrived.raw, message) != nil
	unchanged := proto.CloneOf(message)
	info := &grpc.UnaryServerInfo{Server: s, FullMethod: authv3.Authorization_Check_FullMethodName}
	return interceptor(ctx, message, info, func(ctx context.Context, passed any) (any, error) {
		m, ok := passed.(*authv3.CheckRequest)
		own := arrived.request // an interceptor may come here more than once
		own.memory = nil
		switch {
		case !ok || proto.Equal(m, unchanged):
			return s.check(ctx, p, &own).Message(), nil
		case unreadable:
			own.malformed = true
			return s.check(ctx, p, &own).Message(), nil
		}
		return s.check(ctx, p, p.wanted.read(m)).Message(), nil
	})
}

// receive decodes a message into r, if there is room for one more.
func (s *Server) receive(ctx context.Context, decode func(any) error, r *reader) (received bool, err error) {
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
	if err = decode(r); err == nil {
		r.fromOtherCodec()
	}
	return received, err
}

// undecodable distinguishes a message that came and could not be decoded from one
// that did not come.
func undecodable(err error) bool {
	code := status.Code(err)
	return code == codes.Internal || code == codes.Unknown
}

// Check decides one request. It never returns an error: Envoy's
// failure_mode_allow turns errors into allows, and so a fault is a denial with
// status 503. A server of [Register] does the same from the bytes on the wire.
func (s *Server) Check(ctx context.Context, m *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	p := s.policies.Load()
	return s.check(ctx, p, p.wanted.read(m)).Message(), nil
}

// check decides and answers, and survives a bug in doing so.
func (s *Server) check(ctx context.Context, p *policies, r *request) (a *answer.Answer) {
	start := time.Now()
	defer func() {
		if value := recover(); value != nil {
			a = s.survive(ctx, p, r, value, start)
		}
	}()
	ctx = s.tracing.begin(ctx, r)
	d := s.decide(ctx, p, r)
	return s.answer(ctx, r, &d, start)
}

// survive answers a request that met a bug. Where the bug is in the answer, the
// metrics or the logger, these are left out.
func (s *Server) survive(ctx context.Context, p *policies, r *request, value any, start time.Time) (a *answer.Answer) {
	a = lastResort()
	defer func() { _ = recover() }()
	d := decision{reason: Internal, err: redact.Panic(value), choice: choice{policy: p.plain}}
	a = s.sendable(r, &d)
	s.record(ctx, r, &d, start)
	return a
}

// answer makes the answer to a decision, and counts and logs it: no caller can do
// one without the others.
func (s *Server) answer(ctx context.Context, r *request, d *decision, start time.Time) *answer.Answer {
	a := s.sendable(r, d)
	s.record(ctx, r, d, start)
	return a
}

// sendable is the answer to a decision, or a denial where Envoy could not read it.
func (s *Server) sendable(r *request, d *decision) *answer.Answer {
	if a := s.respond(r, d); a.Valid() {
		return a
	}
	return lastResort()
}

func (s *Server) record(ctx context.Context, r *request, d *decision, start time.Time) {
	took := time.Since(start)
	s.metrics.observe(d, took, s.tracing.end(ctx, d))
	s.decisions.write(ctx, r, d, took)
	s.cookies.look(r, &d.identity)
}
