package manifests

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
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

	"github.com/coatcheck/coatcheck/internal/testtools"
)

// The real program answers every probe of the manifests as the kubelet wants it,
// without a Redis, too, and when it is told to stop it is at once not ready, but
// alive until it has drained.
func TestProbesOfProgram(t *testing.T) {
	base, config := container(t, "base", "coatcheck")
	secured, _ := container(t, "overlays/example", "coatcheck")
	p := start(t, config, "COATCHECK_LISTEN")
	p.lives(t, base, secured)
	p.stops(t, base, secured)
}

// Clients that hold all connections of the checks, as many sidecars do, leave the
// kubelet its answers: else it would kill the pods one after the other, each of which
// serves the connections that it has.
func TestProbesOfFullProgram(t *testing.T) {
	c, config := container(t, "base", "coatcheck")
	p := start(t, config, "COATCHECK_LISTEN", "COATCHECK_GRPC_MAX_CONNECTIONS=2")
	p.lives(t, c)
	for range 2 {
		p.until(t, "another client", func() error { return p.hold(t) })
	}
	if err := p.ask(t, &corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Service: new(string)}}}); err == nil {
		t.Fatal("a third client gets in")
	}
	p.lives(t, c)
}

// hold takes a connection of the checks until the test ends.
func (p *program) hold(t *testing.T) error {
	conn, err := grpc.NewClient(p.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	watch, err := grpc_health_v1.NewHealthClient(conn).Watch(t.Context(), new(grpc_health_v1.HealthCheckRequest))
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		_ = conn.Close()
		return err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return nil
}

// The login side does likewise, without its database, too. It shows its pages and
// allows no client.
func TestProbesOfLogin(t *testing.T) {
	for _, dir := range []string{"base", "overlays/example"} {
		t.Run(dir, func(t *testing.T) {
			c, config := container(t, dir, "coatcheck-login")
			files := t.TempDir()
			users, err := os.ReadFile(filepath.Join(tree, "overlays/dev/passwords/users.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			authority := httptest.NewTLSServer(nil)
			defer authority.Close()
			for name, text := range map[string][]byte{
				"users.yaml": users, "password": []byte("x"),
				"ca.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate().Raw}),
			} {
				if err := os.WriteFile(filepath.Join(files, name), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p := start(t, strings.NewReplacer(
				"/etc/coatcheck/users", files, "/etc/coatcheck/postgres", files, "@users.example.com", "@"+free(t),
			).Replace(config), "COATCHECK_LOGIN_LISTEN")
			p.lives(t, c)
			p.page(t, http.MethodGet, http.StatusOK)
			p.page(t, http.MethodPost, http.StatusServiceUnavailable)
			p.stops(t, c)
			if !strings.Contains(p.output.String(), `"msg":"serving login"`) || strings.Contains(p.output.String(), `"listen":"127.0.0.1:9001"`) {
				t.Errorf("it does not serve login, or not login alone\n%s", &p.output)
			}
		})
	}
}

// page asks for the login page, or tries to sign in.
func (p *program) page(t *testing.T, method string, want int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.address+"/.auth/login", strings.NewReader("username=ada&password=x"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != want || len(response.Cookies()) > 0 {
		t.Errorf("%s: %s, with cookies %v", method, response.Status, response.Cookies())
	}
}

// container is the one of a Deployment, with its configuration.
func container(t *testing.T, dir, deployment string) (corev1.Container, string) {
	t.Helper()
	m := decode(build(t, dir), "coatcheck", nil)
	for _, d := range m.deployments {
		if d.Name == deployment {
			c := d.Spec.Template.Spec.Containers[0]
			config, _ := m.mounted(d, c, c.Args[2])
			return c, config
		}
	}
	t.Fatalf("%s: no Deployment %s", dir, deployment)
	return corev1.Container{}, ""
}

// A program is the real one, running on loopback.
type program struct {
	command        *exec.Cmd
	ended          chan error
	output         bytes.Buffer // to be read when it has ended
	address, admin string
}

// start runs it with that variable as its address.
func start(t *testing.T, config, variable string, more ...string) *program {
	t.Helper()
	dir := t.TempDir()
	file, password := filepath.Join(dir, "coatcheck.yaml"), filepath.Join(dir, "password")
	for name, text := range map[string]string{file: config, password: "x"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &program{ended: make(chan error, 1), address: free(t), admin: free(t)}
	p.command = exec.Command(binary, "serve", "--config", file)
	p.command.Env = append(more,
		variable+"="+p.address, "COATCHECK_ADMIN_LISTEN="+p.admin, "COATCHECK_SHUTDOWN_DRAIN=2s",
		"COATCHECK_REDIS_ADDRESSES="+free(t), "COATCHECK_REDIS_PASSWORD_FILE="+password,
	)
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

// lives wants good answers to every probe.
func (p *program) lives(t *testing.T, containers ...corev1.Container) {
	t.Helper()
	for _, c := range containers {
		for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
			p.until(t, name, func() error { return p.ask(t, probe) })
		}
	}
}

// stops tells it to, and watches it until it has ended.
func (p *program) stops(t *testing.T, containers ...corev1.Container) {
	t.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.until(t, "not ready", func() error {
		for _, c := range containers {
			if p.ask(t, c.ReadinessProbe) == nil {
				return fmt.Errorf("still ready")
			}
		}
		return nil
	})
	for _, c := range containers {
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
		t.Fatal("it does not end")
	}
}

// free is an address on which no server listens.
func free(t *testing.T) string {
	t.Helper()
	addr, err := testtools.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
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
	conn, err := grpc.NewClient(p.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
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
