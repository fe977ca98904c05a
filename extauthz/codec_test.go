package extauthz

import (
	"context"
	"net"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// withoutCodec runs a gRPC server that was not given the Codec.
func withoutCodec(t *testing.T, server *Server, options ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	g := grpc.NewServer(append(options, grpc.WaitForHandlers(true))...)
	Register(g, server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = g.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); g.Stop(); <-ended })
	return conn
}

// TestForgottenCodec: a gRPC server without the Codec decides as one with it, also by
// bytes that generated code cannot read. An error would be an allow to an Envoy with
// failure_mode_allow.
func TestForgottenCodec(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	http := func(parts ...[]byte) []byte { return onWire(1, onWire(4, onWire(2, parts...))) }
	method, path, host := onWire(2, []byte("GET")), onWire(4, []byte("/x")), onWire(5, []byte("a\xff"))
	cookie := onWire(13, headerOnWire("cookie", "a=\xff; __Host-session="+fuzzID.Reveal()))
	messages := map[Reason][]byte{
		OK:         http(method, path, host, cookie),
		NoCookie:   http(method, path, host),
		BadRequest: http(onWire(2, []byte("get")), path, host, cookie),
	}
	passes := func(ctx context.Context, m any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		answer, err := next(ctx, m)
		if _, ok := answer.(*authv3.CheckResponse); !ok || err != nil {
			t.Errorf("the interceptor saw %T, %v", answer, err)
		}
		return answer, err
	}
	for name, conns := range map[string][2]*grpc.ClientConn{
		"alone":                 {withoutCodec(t, server), connected(t, server)},
		"behind an interceptor": {withoutCodec(t, server, grpc.UnaryInterceptor(passes)), connected(t, server, grpc.UnaryInterceptor(passes))},
	} {
		for want, message := range messages {
			var answers [2]*authv3.CheckResponse
			for i, conn := range conns {
				answers[i] = new(authv3.CheckResponse)
				if err := conn.Invoke(t.Context(), authv3.Authorization_Check_FullMethodName, message, answers[i], grpc.ForceCodecV2(verbatim{encoding.GetCodecV2("proto")})); err != nil {
					t.Fatalf("%s, %s: an error is no verdict: %v", name, want, err)
				}
			}
			if got := Reason(answers[0].GetDynamicMetadata().GetFields()["reason"].GetStringValue()); got != want || !proto.Equal(answers[0], answers[1]) {
				t.Errorf("%s: %s, want %s; without the Codec %v, with it %v", name, got, want, answers[0], answers[1])
			}
		}
	}
}

// TestAnswerTwice: should a codec of the program's own marshal an answer twice, both
// are the answer, and its memory is given back once.
func TestAnswerTwice(t *testing.T) {
	server, err := New(oneSession{fuzzID}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	message, err := proto.Marshal(browserCheck())
	if err != nil {
		t.Fatal(err)
	}
	response, err := handle(server, t.Context(), func(r any) error {
		return Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(message)}, r)
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	first, _ := Codec().Marshal(response)
	second, err := Codec().Marshal(response)
	if err != nil || string(first.Materialize()) != string(second.Materialize()) {
		t.Fatalf("%q and %q, %v", first.Materialize(), second.Materialize(), err)
	}
	first.Free()
	second.Free()
	for range 100 {
		other := server.checkWire(t.Context(), message)
		if string(other.Materialize()) != string(second.Materialize()) {
			t.Fatalf("%q was %q", other.Materialize(), second.Materialize())
		}
		other.Free()
	}
}
