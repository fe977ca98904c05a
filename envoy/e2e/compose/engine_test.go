package compose_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An engine is a Docker engine, which is asked by its HTTP API.
type engine struct {
	host      string // for DOCKER_HOST
	transport *http.Transport
	own       bool // and not one that was there
}

// newEngine is the engine at a host, unix://PATH or tcp://ADDRESS.
func newEngine(t *testing.T, host string) *engine {
	t.Helper()
	network, address, ok := strings.Cut(host, "://")
	if !ok || network != "unix" && network != "tcp" {
		t.Fatalf("DOCKER_HOST=%s: this test knows unix:// and tcp:// alone", host)
	}
	dialer := new(net.Dialer)
	e := &engine{host: host, transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
	}}
	t.Cleanup(e.transport.CloseIdleConnections)
	return e
}

// startEngine runs a dockerd until the test ends. All its files are in one folder.
func startEngine(t *testing.T) *engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "coatcheck-engine-") //nolint:usetesting // t.TempDir is too long for a socket
	must(t, err)
	group := filepath.Base(dir) // of its containers
	t.Cleanup(func() {
		_ = os.RemoveAll(dir)
		for _, left := range []string{"/sys/fs/cgroup/" + group, "/sys/fs/cgroup/*/" + group} {
			folders, _ := filepath.Glob(left)
			for _, folder := range folders {
				_ = os.Remove(folder)
			}
		}
	})
	e := newEngine(t, "unix://"+filepath.Join(dir, "sock"))
	e.own = true
	var log bytes.Buffer
	dockerd := exec.Command(tool(t, "dockerd", "DOCKERD"), "--host", e.host, "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"), "--cgroup-parent", "/"+group, "--log-level", "error")
	dockerd.Stdout, dockerd.Stderr = &log, &log
	must(t, dockerd.Start())
	ended := make(chan error, 1)
	go func() { ended <- dockerd.Wait() }()
	t.Cleanup(func() {
		_ = dockerd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = dockerd.Process.Kill()
			<-ended
			t.Error("dockerd did not end by SIGTERM within 30 seconds")
		}
		if t.Failed() {
			t.Logf("dockerd said:\n%s", log.String())
		}
	})
	e.await(t, ended)
	return e
}

// await waits until the engine answers.
func (e *engine) await(t *testing.T, ended chan error) {
	t.Helper()
	deadline := time.After(time.Minute)
	for e.ping(t) != nil {
		select {
		case err := <-ended:
			ended <- err // for the cleanup
			t.Fatalf("dockerd ended: %v", err)
		case <-deadline:
			t.Fatal("dockerd does not answer after a minute")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (e *engine) ping(t *testing.T) error {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://engine/_ping", nil)
	must(t, err)
	response, err := e.transport.RoundTrip(r)
	if err == nil {
		_ = response.Body.Close()
	}
	return err
}

// call sends a request to the engine and returns its answer.
func (e *engine) call(t *testing.T, method, path string, query url.Values, body io.Reader) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://engine"+path+"?"+query.Encode(), body)
	must(t, err)
	r.Header.Set("Content-Type", "application/x-tar")
	response, err := e.transport.RoundTrip(r)
	must(t, err)
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode >= 300 || bytes.Contains(answer, []byte(`"errorDetail"`)) {
		t.Fatalf("the engine answers %s %s with %s: %s", method, path, response.Status, answer)
	}
	return answer
}

// An inspection is what the engine knows of a container.
type inspection struct {
	State struct {
		Pid, ExitCode int
		OOMKilled     bool
	}
	HostConfig struct {
		ReadonlyRootfs bool
		CapAdd         []string
		CapDrop        []string
		SecurityOpt    []string
	}
	NetworkSettings struct {
		Networks map[string]struct{ IPAddress string }
	}
}

func (e *engine) inspect(t *testing.T, container string) (i inspection) {
	t.Helper()
	must(t, json.Unmarshal(e.call(t, http.MethodGet, "/containers/"+container+"/json", nil, nil), &i))
	return i
}

// TestEngineStarts: a dockerd of the test's own starts, answers and ends.
func TestEngineStarts(t *testing.T) {
	if os.Getenv("DOCKER_HOST") == "" {
		startEngine(t)
	}
}
