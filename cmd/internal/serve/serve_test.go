package serve

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A running is a server and a client of it.
type running struct {
	authv3.AuthorizationClient
	health healthv1.HealthClient
	stop   context.CancelFunc
	ended  chan error
	log    *logBuffer
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func free(t *testing.T) string {
	t.Helper()
	addr, err := testtools.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// configure loads what a file says, with patience in it.
func configure(t *testing.T, redis string, more ...string) *config.Config {
	t.Helper()
	text := "timeout: 9s\nshutdown: {drain: 0s, grace: 10s}\nredis: {addresses: [\"" + redis + "\"], password: " + redistest.Password + "}\n" +
		"log: {decisions: all, level: debug}\n" + strings.Join(more, "\n")
	if !strings.Contains(text, "admin:") {
		text += "\nadmin: {listen: \"\"}\n"
	}
	path := filepath.Join(t.TempDir(), "coatcheck.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Check(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func start(t *testing.T, c *config.Config) *running {
	t.Helper()
	return startAs(t, c, insecure.NewCredentials())
}

// startAs starts a server and a client that connects in its own way.
func startAs(t *testing.T, c *config.Config, transport credentials.TransportCredentials) *running {
	t.Helper()
	r := launch(t, c)
	target := c.Listen
	if path, ok := strings.CutPrefix(target, "unix://"); ok {
		target = "unix:" + path
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(transport))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r.AuthorizationClient, r.health = authv3.NewAuthorizationClient(conn), healthv1.NewHealthClient(conn)
	r.waits(t, "", healthv1.HealthCheckResponse_SERVING)
	return r
}

// launch starts a server until the test ends, and does not wait for it.
func launch(t *testing.T, c *config.Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, ended: make(chan error, 1), log: new(logBuffer)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := Run(ctx, c, r.log)
		fmt.Fprintf(r.log, "Run ended: %v\n", err)
		r.ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

// waits polls a service's health until it is as wanted.
func (r *running) waits(t *testing.T, service string, want healthv1.HealthCheckResponse_ServingStatus) {
	t.Helper()
	var got *healthv1.HealthCheckResponse
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got, err = r.health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err == nil && got.GetStatus() == want {
			return
		}
	}
	t.Fatalf("health of %q is %v, %v; want %v\n%s", service, got, err, want, r.log)
}

// logs waits until the log holds a text: a server writes some lines after it has
// answered, or closed a connection.
func (r *running) logs(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(r.log.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log has no %s:\n%s", text, r.log)
		}
	}
}

func (r *running) check(t *testing.T, cookie string) (status int) {
	t.Helper()
	response, err := r.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/x", Headers: map[string]string{"cookie": cookie},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if denied := response.GetDeniedResponse(); denied != nil {
		return int(denied.GetStatus().GetCode())
	}
	return 200
}

// signIn makes a session beside the server.
func signIn(t *testing.T, server *redistest.Server) (sessions.ID, string) {
	t.Helper()
	client := server.Client()
	defer client.Close()
	m, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	return id, sessions.DefaultCookieName + "=" + id.Reveal()
}

func TestServe(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	id, cookie := signIn(t, server)
	c := configure(t, server.Addr, "listen: "+free(t))
	r := start(t, c)
	if got := r.check(t, cookie); got != 200 {
		t.Errorf("live: %d", got)
	}
	if got := r.check(t, ""); got != 401 {
		t.Errorf("without a session: %d", got)
	}
	for _, service := range []string{"envoy.service.auth.v3.Authorization", RedisService} {
		r.waits(t, service, healthv1.HealthCheckResponse_SERVING)
	}
	if err := Run(t.Context(), c, io.Discard); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second one on the port: %v", err)
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	for _, secret := range []string{id.Reveal(), redistest.Password} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("the log holds %s:\n%s", secret, r.log)
		}
	}
}

// TestOutage: it starts without Redis, answers 503, and heals; its own health
// does not follow Redis.
func TestOutage(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	_, cookie := signIn(t, server)
	server.Kill()
	r := start(t, configure(t, server.Addr, "listen: "+free(t)))
	r.waits(t, RedisService, healthv1.HealthCheckResponse_NOT_SERVING)
	if got := r.check(t, cookie); got != 503 {
		t.Errorf("without Redis: %d", got)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	r.waits(t, RedisService, healthv1.HealthCheckResponse_SERVING)
	_, cookie = signIn(t, server) // it came back empty
	if got := r.check(t, cookie); got != 200 {
		t.Errorf("with Redis again: %d", got)
	}
	server.Kill()
	r.waits(t, RedisService, healthv1.HealthCheckResponse_NOT_SERVING)
	r.waits(t, "", healthv1.HealthCheckResponse_SERVING)
	if strings.Contains(r.log.String(), redistest.Password) {
		t.Errorf("the log holds the password:\n%s", r.log)
	}
}

// longDrain is long enough for what happens meanwhile, on a busy machine too.
const longDrain = 8 * time.Second

// TestDrain: not ready, but serving, for as long as configured.
func TestDrain(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	_, cookie := signIn(t, server)
	c := configure(t, server.Addr, "listen: "+free(t))
	c.Drain = longDrain
	r := start(t, c)
	if got := r.check(t, cookie); got != 200 {
		t.Errorf("before: %d", got)
	}
	begin := time.Now()
	r.stop()
	r.waits(t, "", healthv1.HealthCheckResponse_NOT_SERVING)
	for checked := 0; time.Since(begin) < time.Second || checked == 0; checked++ {
		if got := r.check(t, cookie); got != 200 {
			t.Errorf("while draining: %d", got)
		}
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took < longDrain {
		t.Errorf("drained for %v, want %v", took, longDrain)
	}
}

// TestPasswordStaysOutOfErrors serves with a Redis that does not know AUTH and, as
// such servers do, repeats the arguments.
func TestPasswordStaysOutOfErrors(t *testing.T) {
	t.Parallel() // it waits
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b := make([]byte, 4096)
				for {
					n, err := conn.Read(b)
					if err != nil {
						return
					}
					for range bytes.Count(b[:n], []byte("*")) {
						fmt.Fprintf(conn, "-ERR unknown command, with args beginning with: '%s'\r\n", redistest.Password)
					}
				}
			}()
		}
	}()
	r := start(t, configure(t, listener.Addr().String(), "listen: "+free(t)))
	if got := r.check(t, sessions.DefaultCookieName+"="+sessions.NewID().Reveal()); got != 503 {
		t.Errorf("status %d", got)
	}
	if strings.Contains(r.log.String(), redistest.Password) {
		t.Errorf("the log holds the password:\n%s", r.log)
	}
	if !strings.Contains(r.log.String(), `"reason":"unavailable"`) {
		t.Errorf("the log does not tell:\n%s", r.log)
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	_, cookie := signIn(t, server)
	path := filepath.Join(t.TempDir(), "coatcheck.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	c := configure(t, server.Addr, "listen: unix://"+path)
	r := start(t, c)
	if got := r.check(t, cookie); got != 200 {
		t.Errorf("status %d", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := Run(t.Context(), c, io.Discard); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second one: %v", err)
	}
	if got := r.check(t, cookie); got != 200 {
		t.Errorf("after the second one: %d", got)
	}
}

func TestFileInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := configure(t, "127.0.0.1:1", "listen: unix://"+path)
	if err := Run(t.Context(), c, io.Discard); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Error(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
}
