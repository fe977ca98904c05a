package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"go.uber.org/goleak"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/envoy/faults/stage"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// A planted server stands before a right one, and spoils some of its answers.
type planted struct {
	authv3.UnimplementedAuthorizationServer
	right authv3.AuthorizationClient
	spoil func(*authv3.CheckRequest, *authv3.CheckResponse) *authv3.CheckResponse
}

func (p *planted) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	answer, err := p.right.Check(ctx, r)
	if err != nil {
		return nil, err
	}
	return p.spoil(r, answer), nil
}

// front starts a planted server before the one at address.
func front(spoil func(*authv3.CheckRequest, *authv3.CheckResponse) *authv3.CheckResponse) func(string) (string, func(), error) {
	return func(address string) (string, func(), error) {
		conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return "", nil, err
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", nil, err
		}
		server := grpc.NewServer()
		authv3.RegisterAuthorizationServer(server, &planted{right: authv3.NewAuthorizationClient(conn), spoil: spoil})
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(listener) })
		end := func() { server.Stop(); serving.Wait(); _ = conn.Close() }
		return listener.Addr().String(), end, nil
	}
}

func isError(a *authv3.CheckResponse) bool { return a.GetDeniedResponse().GetStatus().GetCode() == 503 }

func right(_ *authv3.CheckRequest, a *authv3.CheckResponse) *authv3.CheckResponse { return a }

func allowOnError(_ *authv3.CheckRequest, a *authv3.CheckResponse) *authv3.CheckResponse {
	if !isError(a) {
		return a
	}
	return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.OK)}}
}

func loginOnError(_ *authv3.CheckRequest, a *authv3.CheckResponse) *authv3.CheckResponse {
	if isError(a) {
		a.GetDeniedResponse().Status = &typev3.HttpStatus{Code: typev3.StatusCode_Unauthorized}
	}
	return a
}

// remember answers with the last allow for the cookie on the route, as a cache of decisions
// does that nothing empties: also when the session was revoked since. It forgets nothing, so
// that it is as wrong on a slow machine as on a fast one.
func remember() func(*authv3.CheckRequest, *authv3.CheckResponse) *authv3.CheckResponse {
	type decision struct{ cookie, rule string }
	var mu sync.Mutex
	allowed := make(map[decision]*authv3.CheckResponse)
	return func(r *authv3.CheckRequest, a *authv3.CheckResponse) *authv3.CheckResponse {
		mu.Lock()
		defer mu.Unlock()
		d := decision{cookieOf(r), fmt.Sprint(r.GetAttributes().GetContextExtensions())}
		if len(a.GetOkResponse().GetHeaders()) > 0 {
			allowed[d] = proto.CloneOf(a)
		} else if earlier, ok := allowed[d]; ok {
			return earlier
		}
		return a
	}
}

func cookieOf(r *authv3.CheckRequest) string {
	http := r.GetAttributes().GetRequest().GetHttp()
	for _, h := range http.GetHeaderMap().GetHeaders() {
		if h.GetKey() == "cookie" {
			return string(h.GetRawValue())
		}
	}
	return http.GetHeaders()["cookie"]
}

// identityOfLast answers with the identity of the allow before, as a server does that mixes
// up two answers.
func identityOfLast() func(*authv3.CheckRequest, *authv3.CheckResponse) *authv3.CheckResponse {
	var mu sync.Mutex
	var last []*corev3.HeaderValueOption
	return func(_ *authv3.CheckRequest, a *authv3.CheckResponse) *authv3.CheckResponse {
		mu.Lock()
		defer mu.Unlock()
		if ok := a.GetOkResponse(); len(ok.GetHeaders()) > 0 {
			last, ok.Headers = ok.Headers, last
		}
		return a
	}
}

// hang has Redis answer no client for a second.
var hang = stage.Fault{
	Name: "hang", Rows: []string{"F3"}, On: []stage.Kind{stage.Single}, What: "Redis answers no client", For: time.Second, Bound: time.Second,
	Inject: func(ctx context.Context, s *stage.Stage, _ *rand.Rand) (func() error, error) {
		client, err := redisstore.NewClient(s.Config())
		if err != nil {
			return nil, err
		}
		return client.Close, client.Do(ctx, "client", "pause", 1000, "all").Err()
	},
}

// plantedRate is low: with the race detector all traffic between the servers and Redis goes
// through this process, and more than it can carry looks like a Redis that is away.
const plantedRate = 100

// TestPlanted runs the load and the history against servers that are wrong, with a real
// fault: each must be found, and the right one must not be accused.
func TestPlanted(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "coatcheck")
	if err := rig.Build(binary); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(*authv3.CheckRequest, *authv3.CheckResponse) *authv3.CheckResponse
		want  history.Rule // empty: no violation at all
		allow bool         // it is a wrong allow
	}{
		"right":                         {spoil: right},
		"allow on error":                {spoil: allowOnError, want: history.Open, allow: true},
		"401 on error":                  {spoil: loginOnError, want: history.Gone},
		"an answer from before revokes": {spoil: remember(), want: history.Revoked, allow: true},
		"another identity":              {spoil: identityOfLast(), want: history.Identity, allow: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sums := suffering(t, setting{coatcheck: binary, stage: stage.Options{Kind: stage.Single, Seed: 1}, rate: plantedRate, apart: 3 * time.Second, proxied: front(c.spoil)})
			t.Logf("%+v", sums)
			switch {
			case sums.Checks < plantedRate || sums.Revoked == 0 || sums.Verdicts[history.Unavailable]+sums.Wrong() == 0:
				t.Errorf("too little happened: %+v", sums)
			case c.want == "" && sums.Wrong() > 0:
				t.Errorf("the right server is accused: %v", sums.Violations)
			case c.want != "" && sums.Violations[c.want] == 0:
				t.Errorf("not found: %s; found: %v", c.want, sums.Violations)
			case c.want != "" && c.allow != (sums.WrongAllows() > sums.Violations[history.Returned]):
				t.Errorf("%d wrong allows: %v", sums.WrongAllows(), sums.Violations)
			}
		})
	}
}

// suffering plays the fault on a stage, and returns what came of it.
func suffering(t *testing.T, set setting) history.Sums {
	t.Helper()
	if err := rig.LookAtSources(); err != nil {
		t.Fatal(err)
	}
	s, err := raise(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	pause(t.Context(), warm)
	res, err := s.suffer(t.Context(), hang, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.failed) > 0 {
		for _, v := range s.history.Violations()[:min(2, len(s.history.Violations()))] {
			t.Log(v)
		}
	}
	return res.sums
}
