package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/coatcheck/coatcheck/internal/madepart"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

const benchToken = "a-token-of-the-benchmark-long-enough"

// apiInFlight are how many calls are in flight at once.
var apiInFlight = []int{1, 8, 64}

// measureAPI measures Get and Check of the session API beside a bare connect-go handler of
// the same messages that asks Redis once. Both serve in this process, by HTTP/2 over loopback,
// and take turns; a ratio is the median of those of the rounds.
func measureAPI(args []string) error {
	flags := flag.NewFlagSet("api", flag.ContinueOnError)
	rounds := flags.Int("rounds", 15, "how often each is measured")
	length := flags.Duration("for", 400*time.Millisecond, "time for one measurement")
	docs := flags.String("docs", "", "folder of performance.md, which is written anew between its marks; empty: only print")
	if err := flags.Parse(args); err != nil {
		return err
	}
	stage, err := newAPIStage()
	if err != nil {
		return err
	}
	defer stage.close()
	text, err := stage.compare(*rounds, *length)
	if err != nil {
		return err
	}
	if *docs == "" {
		fmt.Print(text)
		return nil
	}
	return madepart.Write(filepath.Join(*docs, "performance.md"), "api", text)
}

// An apiStage is the two servers, their Redis and a client of each.
type apiStage struct {
	bare, ours sessionsv1connect.SessionServiceClient
	name       *sessionsv1.SessionName
	closers    []func()
}

func (s *apiStage) close() {
	for i := range s.closers {
		s.closers[len(s.closers)-1-i]()
	}
}

func newAPIStage() (s *apiStage, err error) {
	s = new(apiStage)
	server, err := redistest.New()
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, server.Close)
	client, err := redisstore.NewClient(redisstore.ClientConfig{UniversalOptions: redis.UniversalOptions{Addrs: []string{server.Addr}, Password: redistest.Password, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() { _ = client.Close() })
	manager, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		return nil, err
	}
	_, session, err := manager.Create(context.Background(), sessions.NewSession{UserID: "42", Username: "ada", Roles: []string{"staff"}, Fields: map[string]string{"cart": "three apples"}})
	if err != nil {
		return nil, err
	}
	s.name = &sessionsv1.SessionName{Name: &sessionsv1.SessionName_Key{Key: string(session.Key)}}
	callers, err := api.NewCallers([]api.Caller{{Name: "bench", Tokens: []string{benchToken}, Rights: api.Rights(), Fields: []string{"cart"}}})
	if err != nil {
		return nil, err
	}
	logger := slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // its lines cost what those of a server cost
	ours, err := api.New(manager, api.Config{Callers: callers, Timeout: 5 * time.Second, Logger: logger, Metrics: prometheus.NewRegistry()})
	if err != nil {
		return nil, err
	}
	if s.bare, err = s.serve(sessionsv1connect.NewSessionServiceHandler(bareAPI{redis: client}, connect.WithCompression("gzip", nil, nil))); err != nil {
		return nil, err
	}
	s.ours, err = s.serve(ours.Handler())
	return s, err
}

// serve serves a handler, and returns its client.
func (s *apiStage) serve(path string, handler http.Handler) (sessionsv1connect.SessionServiceClient, error) {
	mux := http.NewServeMux()
	mux.Handle(path, handler)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: protocols, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	transport := &http.Transport{Protocols: protocols}
	s.closers = append(s.closers, func() { transport.CloseIdleConnections(); _ = server.Close() })
	authorize := connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, q connect.AnyRequest) (connect.AnyResponse, error) {
			q.Header().Set("Authorization", "Bearer "+benchToken)
			return next(ctx, q)
		}
	})
	return sessionsv1connect.NewSessionServiceClient(&http.Client{Transport: transport}, "http://"+listener.Addr().String(), connect.WithGRPC(), connect.WithInterceptors(authorize)), nil
}

// A bareAPI is the simplest handler that asks Redis: no caller, no right, no log and no metric,
// and it believes what Redis holds. Neither of the two compresses its answers, which connect-go
// does by default and which costs more than the rest.
type bareAPI struct {
	sessionsv1connect.UnimplementedSessionServiceHandler
	redis redis.UniversalClient
}

func (b bareAPI) read(ctx context.Context, name *sessionsv1.SessionName, fields []string) (*sessionsv1.Session, error) {
	got, err := b.redis.HMGet(ctx, name.GetKey(), append([]string{"v", "user_id", "username", "roles", "expires_at"}, fields...)...).Result()
	if err != nil {
		return nil, err
	}
	text := func(i int) string { s, _ := got[i].(string); return s }
	s := &sessionsv1.Session{Key: name.GetKey(), UserId: text(1), Username: text(2), Roles: []string{text(3)}, Fields: map[string]string{}}
	for i, f := range fields {
		s.Fields[f] = text(5 + i)
	}
	return s, nil
}

func (b bareAPI) Get(ctx context.Context, q *connect.Request[sessionsv1.GetRequest]) (*connect.Response[sessionsv1.GetResponse], error) {
	s, err := b.read(ctx, q.Msg.GetSession(), q.Msg.GetFields())
	return connect.NewResponse(&sessionsv1.GetResponse{Session: s}), err
}

func (b bareAPI) Check(ctx context.Context, q *connect.Request[sessionsv1.CheckRequest]) (*connect.Response[sessionsv1.CheckResponse], error) {
	s, err := b.read(ctx, q.Msg.GetSession(), q.Msg.GetFields())
	return connect.NewResponse(&sessionsv1.CheckResponse{Allowed: true, Reason: "ok", Session: s}), err
}

// apiCalls are what is measured.
func (s *apiStage) calls() []apiCall {
	roles := &sessionsv1.CheckRequest_Roles{Roles: &sessionsv1.Roles{AnyOf: []string{"staff"}}}
	get := &sessionsv1.GetRequest{Session: s.name, Fields: []string{"cart"}}
	check := &sessionsv1.CheckRequest{Session: s.name, Question: roles, Fields: []string{"cart"}}
	touch := &sessionsv1.CheckRequest{Session: s.name, Question: roles, Touch: true}
	checks := func(q *sessionsv1.CheckRequest) func(context.Context, sessionsv1connect.SessionServiceClient) error {
		return func(ctx context.Context, c sessionsv1connect.SessionServiceClient) error {
			a, err := c.Check(ctx, connect.NewRequest(q))
			if err == nil && !a.Msg.GetAllowed() {
				err = errors.New("a session is refused")
			}
			return err
		}
	}
	return []apiCall{
		{"Get, one field", func(ctx context.Context, c sessionsv1connect.SessionServiceClient) error {
			_, err := c.Get(ctx, connect.NewRequest(get))
			return err
		}},
		{"Check by roles, one field", checks(check)},
		{"Check by roles, with touch", checks(touch)},
	}
}

type apiCall struct {
	name string
	send func(context.Context, sessionsv1connect.SessionServiceClient) error
}

// compare measures in rounds, in which the two take turns.
func (s *apiStage) compare(rounds int, length time.Duration) (string, error) {
	var text strings.Builder
	text.WriteString("| call | in flight | bare | session API | ratio |\n|---|---|---|---|---|\n")
	for _, call := range s.calls() {
		for _, inFlight := range apiInFlight {
			var bare, ours, ratios []float64
			for round := range rounds + 1 {
				pair := [2]float64{}
				for turn := range 2 {
					i := (turn + round) % 2
					took, err := perCall([2]sessionsv1connect.SessionServiceClient{s.bare, s.ours}[i], call, inFlight, length)
					if err != nil {
						return "", fmt.Errorf("%s: %w", call.name, err)
					}
					pair[i] = took
				}
				if round == 0 {
					continue // connections are made
				}
				bare, ours, ratios = append(bare, pair[0]), append(ours, pair[1]), append(ratios, pair[1]/pair[0])
			}
			fmt.Fprintf(&text, "| %s | %d | %.0f µs | %.0f µs | %.2f |\n", call.name, inFlight, median(bare), median(ours), median(ratios))
		}
	}
	fmt.Fprintf(&text, "\n%d rounds of %v each; time for an answer divided by the calls in flight.\n", rounds, length)
	return text.String(), nil
}

// perCall is the time for each call, in microseconds, while so many are in flight.
func perCall(client sessionsv1connect.SessionServiceClient, call apiCall, inFlight int, length time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), length+10*time.Second)
	defer cancel()
	var n atomic.Int64
	var running errgroup.Group
	begin := time.Now()
	for range inFlight {
		running.Go(func() error {
			for time.Since(begin) < length {
				if err := call.send(ctx, client); err != nil {
					return err
				}
				n.Add(1)
			}
			return nil
		})
	}
	err := running.Wait()
	return micros(time.Since(begin)) / float64(n.Load()), err
}
