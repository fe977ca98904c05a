package serve

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestHardStop: a call that does not end, as with a Redis that hangs and a
// timeout of minutes, holds the end up for the grace and no longer.
func TestHardStop(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	_, cookie := signIn(t, server)
	c := configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}")
	c.Timeout, c.ShutdownGrace, c.RedisBreakerFailures = time.Minute, time.Second, 0
	r := start(t, c)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Resume() }()
	hung := make(chan error, 1)
	go func() {
		_, err := r.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
				Method: "GET", Path: "/x", Headers: map[string]string{"cookie": cookie},
			}},
		}})
		hung <- err
	}()
	awaits(t, c.AdminListen, "coatcheck_checks_in_flight 1")
	r.stop()
	select {
	case err := <-hung:
		if err == nil {
			t.Error("a check that cannot have been decided was answered")
		}
	case <-time.After(time.Minute):
		t.Fatal("the call is still in flight")
	}
	_ = server.Resume() // the handler itself ends by its own deadline, or when Redis answers
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	if !strings.Contains(r.log.String(), "cut off") {
		t.Errorf("the log does not tell:\n%s", r.log)
	}
}

// TestLiveness: the process says that it lives while it drains.
func TestLiveness(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	c := configure(t, server.Addr, "listen: "+free(t))
	c.Drain = longDrain
	r := start(t, c)
	r.waits(t, LivenessService, healthv1.HealthCheckResponse_SERVING) // which also connects, before the end can come
	r.stop()
	r.waits(t, AuthorizationService, healthv1.HealthCheckResponse_NOT_SERVING)
	r.waits(t, LivenessService, healthv1.HealthCheckResponse_SERVING)
}

// TestRefusedCredentials: a Redis that answers and does not let us in ends the
// start, before anything listens.
func TestRefusedCredentials(t *testing.T) {
	server := redistest.Start(t)
	c := configure(t, server.Addr, "listen: "+free(t))
	c.RedisPassword = "wrong-password"
	err := Run(t.Context(), c, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "refuses the credentials: ") || !strings.Contains(err.Error(), server.Addr) ||
		strings.Contains(err.Error(), "wrong-password") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		t.Fatalf("the port is taken: %v", err)
	}
	listener.Close()
}

// TestOverloadedServer: with a Redis that hangs, what does not fit gets its 503
// while those that fit are still waiting.
func TestOverloadedServer(t *testing.T) {
	server := redistest.Start(t)
	_, cookie := signIn(t, server)
	c := configure(t, server.Addr, "listen: "+free(t), "max_in_flight: 2")
	c.Timeout, c.RedisBreakerFailures = time.Minute, 0
	r := start(t, c)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Resume() }()
	answered := make(chan int, 10)
	for range 10 {
		go func() { answered <- r.check(t, cookie) }()
	}
	for range 8 {
		if got := <-answered; got != 503 {
			t.Errorf("one that does not fit: %d", got)
		}
	}
	if err := server.Resume(); err != nil { // for which the two that fit have waited
		t.Fatal(err)
	}
	for range 2 {
		if got := <-answered; got != 200 {
			t.Errorf("one that fits: %d", got)
		}
	}
	overloaded := func() int { return strings.Count(r.log.String(), `"reason":"overloaded"`) }
	for end := time.Now().Add(time.Minute); overloaded() < 8 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := overloaded(); n != 8 {
		t.Errorf("%d were refused for being too many, want 8", n)
	}
	if got := r.check(t, sessions.DefaultCookieName+"=x"); got != 401 {
		t.Errorf("what needs no lookup: %d", got)
	}
}
