package manifests

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
)

// The real program answers every probe of the manifests as the kubelet wants it,
// without a Redis, too, and when it is told to stop it is at once not ready, but
// alive until it has drained.
func TestProbesOfProgram(t *testing.T) {
	m, secured := decode(build(t, "base")), decode(build(t, "overlays/example"))
	var config string
	for _, data := range m.configs {
		config = data["coatcheck.yaml"]
	}
	probes := func(m *manifests) corev1.Container { return m.deployments[0].Spec.Template.Spec.Containers[0] }
	p := start(t, config)
	for _, c := range []corev1.Container{probes(m), probes(secured)} {
		for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
			p.until(t, name, func() error { return p.ask(t, probe) })
		}
	}

	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.until(t, "not ready", func() error {
		for _, c := range []corev1.Container{probes(m), probes(secured)} {
			if p.ask(t, c.ReadinessProbe) == nil {
				return fmt.Errorf("still ready")
			}
		}
		return nil
	})
	for _, c := range []corev1.Container{probes(m), probes(secured)} {
		if err := p.ask(t, c.LivenessProbe); err != nil {
			t.Errorf("while draining: %v", err)
		}
	}
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("it ended with %v\n%s", err, &p.output)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("it does not end\n%s", &p.output)
	}
}

// A program is the real one, running on loopback.
type program struct {
	command     *exec.Cmd
	ended       chan error
	output      bytes.Buffer // to be read when it has ended
	grpc, admin string
}

func start(t *testing.T, config string) *program {
	t.Helper()
	dir := t.TempDir()
	file, password := filepath.Join(dir, "coatcheck.yaml"), filepath.Join(dir, "password")
	for name, text := range map[string]string{file: config, password: "x"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &program{ended: make(chan error, 1), grpc: free(t), admin: free(t)}
	p.command = exec.Command(binary, "serve", "--config", file)
	p.command.Env = []string{
		"COATCHECK_LISTEN=" + p.grpc, "COATCHECK_ADMIN_LISTEN=" + p.admin, "COATCHECK_SHUTDOWN_DRAIN=2s",
		"COATCHECK_REDIS_ADDRESSES=" + free(t), "COATCHECK_REDIS_PASSWORD_FILE=" + password,
	}
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.ended <- p.command.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() { _ = p.command.Process.Kill(); <-p.ended })
	return p
}

// free is an address on which nobody listens.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func (p *program) until(t *testing.T, what string, good func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = good(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// ask does what the kubelet would.
func (p *program) ask(t *testing.T, probe *corev1.Probe) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if probe.HTTPGet != nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+probe.HTTPGet.Path, nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		if response.StatusCode < 200 || response.StatusCode >= 400 {
			return fmt.Errorf("%s: %s", probe.HTTPGet.Path, response.Status)
		}
		return nil
	}
	conn, err := grpc.NewClient(p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: *probe.GRPC.Service})
	if err != nil {
		return err
	}
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s: %s", *probe.GRPC.Service, strings.ToLower(answer.GetStatus().String()))
	}
	return nil
}
