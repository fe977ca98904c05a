package serve

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/version"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// get asks an HTTP listener and returns the status and the body.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// TestAdmin: ready until it drains, alive to the end, and nothing but what
// belongs there; profiles on their own listener alone.
func TestAdmin(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	admin, pprof := free(t), free(t)
	c := configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+admin+", pprof_listen: "+pprof+"}")
	c.Drain = longDrain
	r := start(t, c)
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/metrics": 200, "/": 404, "/debug/pprof/": 404, "/metrics/": 404,
	} {
		if status, _ := get(t, "http://"+admin+path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	for path, want := range map[string]int{"/debug/pprof/": 200, "/debug/pprof/heap": 200, "/metrics": 404} {
		if status, _ := get(t, "http://"+pprof+path); status != want {
			t.Errorf("pprof %s: %d, want %d", path, status, want)
		}
	}
	server.Kill()
	time.Sleep(2 * probeEvery)
	if status, _ := get(t, "http://"+admin+"/readyz"); status != 200 {
		t.Errorf("without Redis it is not ready: %d", status)
	}
	r.stop()
	awaitNotReady(t, admin)
	if status, _ := get(t, "http://"+admin+"/healthz"); status != 200 {
		t.Errorf("dead while draining: %d", status)
	}
	if status, body := get(t, "http://"+admin+"/metrics"); status != 200 || !strings.Contains(body, "\ncoatcheck_ready 0\n") {
		t.Errorf("metrics while draining: %d", status)
	}
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// awaitNotReady waits until the admin listener says that the server drains.
func awaitNotReady(t *testing.T, admin string) {
	t.Helper()
	status := 0
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if status, _ = get(t, "http://"+admin+"/readyz"); status == 503 {
			return
		}
	}
	t.Fatalf("ready while draining: %d", status)
}

// TestMetrics: what is exported is what docs/operations.md lists, promtool has
// nothing to say against it, and requests add no series.
func TestMetrics(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	id, cookie := signIn(t, server)
	admin := free(t)
	r := start(t, configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+admin+"}"))
	_, before := get(t, "http://"+admin+"/metrics")
	for _, c := range []string{"", cookie, cookie + "; " + cookie, sessions.DefaultCookieName + "=x"} {
		r.check(t, c)
	}
	_, body := get(t, "http://"+admin+"/metrics")
	if strings.Count(before, "\ncoatcheck_") != strings.Count(body, "\ncoatcheck_") {
		t.Error("requests have added series")
	}
	for _, want := range []string{
		`coatcheck_checks_total{reason="ok",verdict="allow"} 1`, `coatcheck_checks_total{reason="no_cookie",verdict="deny"} 1`,
		"coatcheck_check_duration_seconds_count 4", "coatcheck_redis_up 1", "coatcheck_ready 1", `coatcheck_redis_duration_seconds_count{operation="touch"}`,
		"coatcheck_grpc_connections 1", "go_goroutines", "process_resident_memory_bytes", `coatcheck_build_info{go_version="go1.`,
		fmt.Sprintf(`coatcheck_build_info{go_version=%q,revision=%q`, version.Read().Go, version.Read().Revision),
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(body, id.Reveal()) || strings.Contains(body, redistest.Password) {
		t.Error("the metrics hold a secret")
	}
	promtool(t, body)
}

// promtool has Prometheus' own tool read an exposition.
func promtool(t *testing.T, exposition string) {
	t.Helper()
	tool, err := testtools.Program("promtool", "PROMTOOL")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
	cmd.Stdin = strings.NewReader(exposition)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// TestConnectionLimit: what is too much is closed at once, and makes room again
// when others leave.
func TestConnectionLimit(t *testing.T) {
	server := redistest.Start(t)
	_, cookie := signIn(t, server)
	c := configure(t, server.Addr, "listen: "+free(t), "grpc: {max_connections: 3}")
	r := start(t, c) // has one of its own
	open := func() (net.Conn, bool) {
		conn, err := net.Dial("tcp", c.Listen)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		_, err = conn.Read(make([]byte, 1)) // the server speaks first: its settings
		return conn, err == nil
	}
	a, good := open()
	if !good {
		t.Error("the second connection is closed")
	}
	b, good := open()
	if !good {
		t.Error("the third connection is closed")
	}
	if extra, good := open(); good {
		t.Error("a fourth connection is served")
	} else {
		extra.Close()
	}
	if got := r.check(t, cookie); got != 200 {
		t.Errorf("meanwhile: %d", got)
	}
	a.Close()
	b.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, good := open()
		conn.Close()
		if good {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("closed connections leave no room")
		}
	}
}
