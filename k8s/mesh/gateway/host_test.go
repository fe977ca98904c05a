package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// envoyVersion is the Envoy of .ci/envoy.txt. Envoy Gateway 1.9.1 would fetch 1.39.1.
const envoyVersion = "1.40.0"

const password = "correct horse, battery"

// A mesh is Envoy Gateway with the Envoy that it runs, in front of a stack of the rig,
// whose own Envoy is not used.
type mesh struct {
	*rig.Stack
	gateway *rig.Process
	front   string
	file    string // what Envoy Gateway reads
}

// start runs a mesh with the overlay until the test ends.
func start(t *testing.T, arguments ...string) *mesh {
	t.Helper()
	hash, err := passwords.HashPassword(password)
	must(t, err)
	users := fmt.Sprintf("- {id: \"42\", username: ada, password_hash: %q, roles: [staff]}\n- {id: \"1\", username: root, password_hash: %q, roles: [staff, admin]}\n", hash, hash)
	stack, err := rig.Start(rig.Options{Coatcheck: coatcheck, Users: users, Patient: true, Arguments: append([]string{"--login-url", "/.auth/login"}, arguments...)})
	must(t, err)
	front, err := testtools.Addr()
	must(t, err)
	m := &mesh{Stack: stack, front: front}
	t.Cleanup(func() { m.stop(t) })
	m.startGateway(t)
	return m
}

func (m *mesh) stop(t *testing.T) {
	if m.gateway != nil {
		_ = m.gateway.Stop()
	}
	if t.Failed() && m.gateway != nil {
		out := m.gateway.Output()
		t.Logf("envoy-gateway:\n%s", out[max(0, len(out)-6000):])
		t.Logf("coatcheck:\n%s", m.Coatcheck.Output())
	}
	m.Close()
}

// backends are the addresses behind the Services of the overlay.
func (m *mesh) backends(t *testing.T) map[string]object {
	return map[string]object{
		"gateway/coatcheck": at(t, m.Checks), "shop/coatcheck": at(t, m.Checks),
		"coatcheck/coatcheck-login": at(t, m.Login), "shop/shop": at(t, m.Upstream.Addr),
	}
}

// startGateway runs Envoy Gateway, which runs Envoy, and waits for the listener.
func (m *mesh) startGateway(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	binary, err := testtools.Program("envoy", "ENVOY")
	must(t, err)
	// Where func-e, which runs Envoy, looks before it would fetch one.
	place := filepath.Join(dir, "data/envoy-versions", envoyVersion, "bin")
	must(t, os.MkdirAll(place, 0o700))
	binary, err = filepath.EvalSymlinks(binary)
	must(t, err)
	must(t, os.Symlink(binary, filepath.Join(place, "envoy")))
	files := filepath.Join(dir, "files")
	must(t, os.Mkdir(files, 0o700))
	m.file = filepath.Join(files, "overlay.yaml")
	m.apply(t, overlay(t))
	config := filepath.Join(dir, "gateway.yaml")
	must(t, os.WriteFile(config, []byte(object{
		"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyGateway",
		"gateway":       object{"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
		"extensionApis": object{"enableBackend": true},
		"logging":       object{"level": object{"default": "warn"}},
		"provider": object{"type": "Custom", "custom": object{
			"resource": object{"type": "File", "file": object{"paths": []any{files}}},
			"infrastructure": object{"type": "Host", "host": object{
				"configHome": filepath.Join(dir, "config"), "dataHome": filepath.Join(dir, "data"), "stateHome": filepath.Join(dir, "state"), "runtimeDir": filepath.Join(dir, "run"),
			}},
		}},
	}.text(t)), 0o600))
	certgen, err := rig.Run("certgen", envoyGateway, nil, "certgen", "--local", "--config-home", filepath.Join(dir, "config"))
	must(t, err)
	<-certgen.Exited()
	m.gateway, err = rig.Run("envoy-gateway", envoyGateway, nil, "server", "--config-path", config)
	must(t, err)
	if err := m.gateway.Answers(m.front); err != nil {
		t.Fatal(err)
	}
}

func (o object) text(t *testing.T) string { return objects{o}.text(t) }

// apply gives Envoy Gateway other files. It takes a moment until Envoy has them.
func (m *mesh) apply(t *testing.T, list objects) {
	t.Helper()
	m.write(t, list.onHost(t, m.front, m.backends(t)))
}

// write replaces the file at once, so that half of it is never read.
func (m *mesh) write(t *testing.T, list objects) {
	t.Helper()
	part := filepath.Join(filepath.Dir(filepath.Dir(m.file)), "part")
	must(t, os.WriteFile(part, []byte(list.text(t)), 0o600))
	must(t, os.Rename(part, m.file))
}

// An answer is what the client got, and what the upstream received, if it did.
type answer struct {
	status int
	header http.Header
	body   string
	sent   *rig.Echoed
}

// send sends a request as it stands, "GET /path" and header lines, over TLS. A closed
// connection without an answer is status 0.
func (m *mesh) send(t *testing.T, request, body string, lines ...string) answer {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}} // the certificate is a test's
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", m.front)
	if err != nil {
		return answer{}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	text := request + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n"
	for _, line := range lines {
		text += line + "\r\n"
	}
	if body != "" {
		text += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	_, err = conn.Write([]byte(text + "\r\n" + body))
	must(t, err)
	return readAnswer(conn)
}

func readAnswer(conn net.Conn) answer {
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answer{}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}
	}
	a := answer{status: response.StatusCode, header: response.Header, body: string(text)}
	if sent := new(rig.Echoed); json.Unmarshal(text, sent) == nil && sent.Method != "" {
		a.sent = sent
	}
	return a
}

// is fails the test unless the answer has the status.
func (a answer) is(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %.200s", a.status, status, a.body)
	}
	return a
}

// until sends a request until it has this status.
func (m *mesh) until(t *testing.T, status int, request string, lines ...string) answer {
	t.Helper()
	var a answer
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if a = m.send(t, request, "", lines...); a.status == status {
			return a
		}
	}
	t.Fatalf("%s: status %d, and never %d", request, a.status, status)
	return a
}

// signIn makes a session through the front, and returns its Cookie line.
func (m *mesh) signIn(t *testing.T, username string) string {
	t.Helper()
	form := "username=" + username + "&password=" + strings.ReplaceAll(password, " ", "+") + "&rd=/orders"
	a := m.send(t, "POST /.auth/login", form, "Content-Type: application/x-www-form-urlencoded", "Origin: https://"+host).is(t, 303)
	cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
	if !strings.HasPrefix(cookie, "__Host-session=") || a.header.Get("Location") != "/orders" {
		t.Fatalf("sign-in set %q and leads to %q", cookie, a.header.Get("Location"))
	}
	return "Cookie: " + cookie
}
