package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/coatcheck/coatcheck/sessions"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A stand is a server over a real Redis, with its log.
type stand struct {
	redis   *redistest.Server
	manager *sessions.Manager
	hand    *sessions.Manager // which waits for a machine that is busy
	server  *Server
	http    *httptest.Server
	log     *lines
	id      sessions.ID
	key     sessions.Key
}

// lines is a log that tests read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// What no caller may see, and no log, stands out.
const (
	secretField = "secret-field-name"
	secretValue = "secret-field-value"
	userID      = "secret-user-id"
	username    = "secret-username"
	role        = "secret-role"
)

// token is the token of a caller of tests.
func token(name string) string { return "token-of-" + name + strings.Repeat("-", MinToken) }

// caller is a caller with rights, and its token.
func caller(name string, rights ...Right) Caller {
	return Caller{Name: name, Tokens: []string{token(name)}, Rights: rights, Fields: []string{"cart", "theme"}}
}

// everyRight is a caller that may everything.
func everyRight() Caller { return caller("all", Rights()...) }

// newStand has callers with each right alone, with each right but one, and with all.
func newStand(t testing.TB, change func(*Config)) *stand {
	t.Helper()
	s := &stand{redis: redistest.Start(t), log: new(lines)}
	client, err := redisstore.NewClient(redisstore.ClientConfig{UniversalOptions: *universal(s.redis)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	store := redisstore.New(client, redisstore.Config{})
	if s.manager, err = sessions.NewManager(store, sessions.Config{MaxPerUser: -1}); err != nil {
		t.Fatal(err)
	}
	list := []Caller{everyRight()}
	for _, r := range Rights() {
		var others []Right
		for _, other := range Rights() {
			if other != r {
				others = append(others, other)
			}
		}
		list = append(list, caller("without-"+strings.ReplaceAll(string(r), "_", "-"), others...))
	}
	callers, err := NewCallers(list)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Callers: callers, Logger: slog.New(slog.NewJSONHandler(s.log, nil)), Timeout: 20 * time.Second, Decide: decideByPath, Track: func(ctx context.Context, l Listener, lease time.Duration) { store.Track(ctx, l, lease) }}
	if change != nil {
		change(&c)
	}
	if s.server, err = New(s.manager, c); err != nil {
		t.Fatal(err)
	}
	s.hand = s.patient(t)
	s.run(t)
	mux := http.NewServeMux()
	mux.Handle(s.server.Handler())
	s.http = httptest.NewUnstartedServer(mux)
	s.http.Config.Protocols = new(http.Protocols)
	s.http.Config.Protocols.SetHTTP1(true)
	s.http.Config.Protocols.SetUnencryptedHTTP2(true)
	s.http.Start()
	t.Cleanup(s.http.Close)
	s.id, s.key = s.signIn(t)
	return s
}

// run does what Watch needs until the test ends.
func (s *stand) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.server.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

// decideByPath allows paths that begin with /ok, and lets /public go without a session.
func decideByPath(ctx context.Context, q Question, lookup Lookup) Verdict {
	if q.Path == "/public" {
		return Verdict{Allowed: true, Reason: "public"}
	}
	session, err := lookup(ctx, []string{secretField})
	if err != nil {
		return Verdict{Err: err}
	}
	if session.Fields[secretField] == "" || !strings.HasPrefix(q.Path, "/ok") && q.Policy != "ok" {
		return Verdict{Reason: "condition_false"}
	}
	return Verdict{Allowed: true, Reason: "ok"}
}

func (s *stand) signIn(t testing.TB) (sessions.ID, sessions.Key) {
	t.Helper()
	id, session, err := s.manager.Create(context.Background(), sessions.NewSession{
		UserID: userID, Username: username, Roles: []string{role, "staff"},
		Address: "192.0.2.77", UserAgent: "secret-user-agent",
		Fields: map[string]string{secretField: secretValue, "cart": "three apples"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return id, session.Key
}

// as returns a client with the token of a caller.
func (s *stand) as(name string, options ...connect.ClientOption) sessionsv1connect.SessionServiceClient {
	return clientOf(s.http.URL, token(name), options...)
}

func clientOf(url, token string, options ...connect.ClientOption) sessionsv1connect.SessionServiceClient {
	options = append(options, connect.WithInterceptors(connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, q connect.AnyRequest) (connect.AnyResponse, error) {
			if token != "" {
				q.Header().Set("Authorization", "Bearer "+token)
			}
			return next(ctx, q)
		}
	})))
	return sessionsv1connect.NewSessionServiceClient(overHTTP2(), url, options...)
}

// overHTTP2 speaks HTTP/2 without TLS, as gRPC does.
func overHTTP2() *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), DisableKeepAlives: true}
	transport.Protocols.SetUnencryptedHTTP2(true)
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.DialContext = (&net.Dialer{}).DialContext
	return &http.Client{Transport: transport}
}

// post sends a body as curl does, and returns the status and the answer.
func (s *stand) post(t testing.TB, method, token, contentType, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.http.URL+"/"+sessionsv1connect.SessionServiceName+"/"+method, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := s.http.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(text)
}

func byKey(k sessions.Key) *pb.SessionName {
	return &pb.SessionName{Name: &pb.SessionName_Key{Key: string(k)}}
}

func byID(id sessions.ID) *pb.SessionName {
	return &pb.SessionName{Name: &pb.SessionName_Id{Id: id.Reveal()}}
}

func anyOf(roles ...string) *pb.CheckRequest_Roles {
	return &pb.CheckRequest_Roles{Roles: &pb.Roles{AnyOf: roles}}
}

// left is how long the record lasts.
func (s *stand) left(t testing.TB, key sessions.Key) time.Duration {
	t.Helper()
	client := s.redis.Client()
	defer client.Close()
	left, err := client.PTTL(context.Background(), string(key)).Result()
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// shorten leaves a session little time, so that a slide shows.
func (s *stand) shorten(t testing.TB, key sessions.Key) {
	t.Helper()
	client := s.redis.Client()
	defer client.Close()
	if err := client.PExpire(context.Background(), string(key), time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
}

// logged are the lines about calls.
func (s *stand) logged(t testing.TB) (all []map[string]any) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSpace(s.log.String()), "\n") {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, fields)
	}
	return all
}
