package extauthz_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/coatcheck/coatcheck/extauthz"
)

// TestNothingReceived: a call whose message did not come is no decision. It is
// not counted as one and not logged as one.
func TestNothingReceived(t *testing.T) {
	var out bytes.Buffer
	registry := prometheus.NewRegistry()
	server, err := extauthz.New(&fake{session: ada}, extauthz.Config{
		Logger: slog.New(slog.NewJSONHandler(&out, nil)), Log: extauthz.LogConfig{Decisions: extauthz.LogAll}, Metrics: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // where connections have addresses of their own
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.ForceServerCodecV2(extauthz.Codec()), grpc.MaxRecvMsgSize(1000), grpc.MaxConcurrentStreams(5000))
	extauthz.Register(g, server)
	go func() { _ = g.Serve(listener) }()
	defer g.Stop()
	connect := func() (*grpc.ClientConn, authv3.AuthorizationClient) {
		conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn, authv3.NewAuthorizationClient(conn)
	}
	conn, client := connect()
	_, other := connect()

	_, err = client.Check(t.Context(), check{request: "GET /" + strings.Repeat("x", 2000)}.message())
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message over the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	begin := func(n int) {
		for range n {
			if _, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, authv3.Authorization_Check_FullMethodName); err != nil {
				t.Fatal(err)
			}
		}
	}
	begin(250)
	live := check{request: "GET /x", lines: []string{"cookie: " + ours(liveID)}}
	ask := func() answer {
		response, err := client.Check(t.Context(), live.message())
		if err != nil {
			t.Fatal(err)
		}
		return read(t, response)
	}
	if a := ask(); a.status != 200 {
		t.Errorf("beside 250 calls without a message: %d %s", a.status, a.reason)
	}
	begin(250)
	for deadline := time.Now().Add(20 * time.Second); ask().reason != "overloaded"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("500 calls without a message are held open")
		}
	}
	// Another connection is served all the same.
	if r, err := other.Check(t.Context(), live.message()); err != nil || r.GetOkResponse() == nil {
		t.Errorf("another connection: %v, %v", r, err)
	}
	cancel()
	for deadline := time.Now().Add(20 * time.Second); ask().status != 200; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("calls that are gone leave no room")
		}
	}
	g.Stop()
	if strings.Contains(out.String(), "Codec") {
		t.Errorf("the log blames the codec:\n%s", out.String())
	}
	if n := series(t, registry)["coatcheck_checks_total,reason=bad_request,verdict=deny"]; n != 0 {
		t.Errorf("%v are counted as bad requests", n)
	}
}

// TestCutIDs: from a session ID at any place in a long text, no more comes out than a
// guess is worth.
func TestCutIDs(t *testing.T) {
	id := liveID.Reveal()
	var out bytes.Buffer
	server, err := extauthz.New(&fake{}, extauthz.Config{Log: extauthz.LogConfig{Decisions: extauthz.LogAll}, Logger: slog.New(slog.NewJSONHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"a", "a/", strings.Repeat("A", 60) + "/", "\u00f6/"} {
		for n := range 2200 {
			if n > 320 && n < 1990 {
				continue
			}
			out.Reset()
			path := "/" + strings.Repeat(word, n/len(word)) + strings.Repeat("x", n%len(word)) + "/" + id
			if _, err := server.Check(t.Context(), check{request: "GET " + path}.message()); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out.String(), id[:20]) {
				t.Fatalf("%d times %q in front: %s", n, word, out.String())
			}
		}
	}
}
