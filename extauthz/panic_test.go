package extauthz

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/test/bufconn"

	"github.com/coatcheck/coatcheck/sessions"
)

// The parts of a server that others bring, each with a bug.
type (
	panickingSessions  struct{}
	panickingCondition struct{ fuzzCondition }
	panickingLogger    struct{ slog.Handler }
	panickingCodec     struct{ encoding.CodecV2 }
	nilSessions        struct{}
)

func (panickingSessions) Touch(context.Context, sessions.ID, ...string) (*sessions.Session, error) {
	var s *sessions.Session
	return s, errors.New(s.UserID)
}

func (nilSessions) Touch(context.Context, sessions.ID, ...string) (*sessions.Session, error) {
	return nil, nil
}

func (panickingCondition) Holds(context.Context, Input) (bool, error) { panic("condition") }

func (panickingLogger) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingLogger) Handle(context.Context, slog.Record) error { panic("logger") }

func (panickingCodec) Unmarshal(mem.BufferSlice, any) error { panic("codec") }

func (panickingCodec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*authv3.CheckResponse); ok && m.GetDynamicMetadata().GetFields()["reason"].GetStringValue() != string(Internal) {
		panic("codec")
	}
	return encoding.GetCodecV2("proto").Marshal(v)
}

// TestPanics: if any part panics, the request is denied, with an answer and not
// with an error, the process goes on, and nothing that was taken is kept.
func TestPanics(t *testing.T) {
	panics := func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		panic("interceptor")
	}
	passes := func(ctx context.Context, message any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		return next(ctx, message)
	}
	for name, test := range map[string]struct {
		sessions Sessions
		logger   slog.Handler
		policy   *Policy
		options  []grpc.ServerOption
		status   int
	}{
		"nothing":          {oneSession{fuzzID}, slog.DiscardHandler, nil, nil, 0},
		"sessions":         {panickingSessions{}, slog.DiscardHandler, nil, nil, 503},
		"sessions are nil": {(*sessions.Manager)(nil), slog.DiscardHandler, nil, nil, 503},
		"no session":       {nilSessions{}, slog.DiscardHandler, nil, nil, 503},
		"logger":           {oneSession{fuzzID}, panickingLogger{}, nil, nil, 503},
		"both":             {panickingSessions{}, panickingLogger{}, nil, nil, 503},
		"condition":        {oneSession{fuzzID}, slog.DiscardHandler, &Policy{Name: "p", Condition: panickingCondition{}}, nil, 503},
		"in shadow mode":   {oneSession{fuzzID}, slog.DiscardHandler, &Policy{Name: "p", Condition: panickingCondition{}, Shadow: true}, nil, 503},
		"interceptor":      {oneSession{fuzzID}, slog.DiscardHandler, nil, []grpc.ServerOption{grpc.UnaryInterceptor(panics)}, 503},
		"decoder":          {oneSession{fuzzID}, slog.DiscardHandler, nil, []grpc.ServerOption{grpc.ForceServerCodecV2(panickingUnmarshal{Codec()})}, 400},
		"encoder":          {oneSession{fuzzID}, slog.DiscardHandler, nil, []grpc.ServerOption{grpc.ForceServerCodecV2(codec{panickingCodec{}}), grpc.UnaryInterceptor(passes)}, 503},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := New(test.sessions, Config{Logger: slog.New(test.logger), Log: LogConfig{Decisions: LogAll}})
			if err == nil && test.policy != nil {
				err = server.SetPolicies(PolicySet{Policies: []Policy{*test.policy}, Default: "p"})
			}
			if err != nil {
				t.Fatal(err)
			}
			client := serving(t, server, test.options...)
			for range 3 {
				response, err := client.Check(t.Context(), browserCheck())
				if err != nil {
					t.Fatalf("an error is no verdict: %v", err)
				}
				if status := int(response.GetDeniedResponse().GetStatus().GetCode()); status != test.status {
					t.Errorf("status %d, want %d", status, test.status)
				}
				if noStore(response) != (test.status != 0) {
					t.Errorf("headers are %v", response.GetDeniedResponse().GetHeaders())
				}
			}
			if server.receiving.total != 0 || len(server.receiving.of) != 0 || server.lookups.inside.Load() != 0 {
				t.Errorf("kept: %d messages, %d lookups", server.receiving.total, server.lookups.inside.Load())
			}
		})
	}
}

// panickingUnmarshal is a codec of the program's own.
type panickingUnmarshal struct{ encoding.CodecV2 }

func (panickingUnmarshal) Unmarshal(mem.BufferSlice, any) error { panic("decoder") }

func noStore(response *authv3.CheckResponse) bool {
	for _, option := range response.GetDeniedResponse().GetHeaders() {
		if option.GetHeader().GetKey() == "cache-control" {
			return option.GetHeader().GetValue() == "no-store"
		}
	}
	return false
}

func browserCheck() *authv3.CheckRequest {
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
		Method: "GET", Path: "/x", Host: "a", Headers: map[string]string{"cookie": sessions.DefaultCookieName + "=" + fuzzID.Reveal()},
	}}}}
}

// serving runs a gRPC server until the test ends.
func serving(t *testing.T, server *Server, options ...grpc.ServerOption) authv3.AuthorizationClient {
	t.Helper()
	return authv3.NewAuthorizationClient(connected(t, server, options...))
}

// connected is [serving], for calls of any kind.
func connected(t *testing.T, server *Server, options ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	g := grpc.NewServer(append([]grpc.ServerOption{grpc.ForceServerCodecV2(Codec())}, options...)...)
	Register(g, server)
	go func() { _ = g.Serve(listener) }()
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient("passthrough:", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestAnswersThatCannotBeSent: one byte that is no UTF-8 in an answer, which none
// of ours has, would be a gRPC error.
func TestAnswersThatCannotBeSent(t *testing.T) {
	bad := &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{HeadersToRemove: []string{"\xff"}}}}
	data, err := Codec().Marshal(bad)
	if err != nil {
		t.Fatal(err)
	}
	got := new(authv3.CheckResponse)
	if err := Codec().Unmarshal(data, got); err != nil || got.GetDeniedResponse().GetStatus().GetCode() != 503 {
		t.Errorf("%v, %v", got, err)
	}
	for _, v := range []any{nil, 7, (*authv3.CheckRequest)(nil), (*authv3.CheckResponse)(nil)} {
		if _, err := Codec().Marshal(v); err == nil && v == any(7) {
			t.Errorf("%v was sent", v)
		}
	}
}
