package extauthz_test

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/coatcheck/coatcheck/extauthz"
)

// TestForgottenCodec: a gRPC server without the Codec answers no check, because gRPC
// itself ends a call whose message it cannot decode, and the log names what it lacks.
func TestForgottenCodec(t *testing.T) {
	var log bytes.Buffer
	server, err := extauthz.New(inMemory{}, extauthz.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.WaitForHandlers(true))
	extauthz.Register(g, server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = g.Serve(listener) }()
	client, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := authv3.NewAuthorizationClient(client).Check(t.Context(), request("/", nil, map[string]string{"coatcheck.session": "none"}))
	_ = client.Close()
	g.Stop()
	<-ended
	if err == nil {
		t.Errorf("it answers %v", answer)
	}
	if !strings.Contains(log.String(), "does the gRPC server use extauthz.Codec?") {
		t.Errorf("the log: %s", log.String())
	}
}
