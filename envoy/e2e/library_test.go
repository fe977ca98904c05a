package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
	"github.com/coatcheck/coatcheck/sessions/web"
)

// TestDocsLibrary builds the programs of docs/library.md as they stand there, but for
// addresses, and runs them. They stay short.
func TestDocsLibrary(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(docstest.Root, "docs/library.md"))
	if err != nil {
		t.Fatal(err)
	}
	programs := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	tests := []struct {
		name  string
		lines int
		run   func(t *testing.T, source string)
	}{{"sessions", 30, sessionsProgram}, {"login", 35, loginProgram}, {"checks", 30, checksProgram}}
	if len(programs) != len(tests) {
		t.Fatalf("the page has %d programs", len(programs))
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			source := programs[i][1]
			if n := strings.Count(source, "\n"); n > test.lines {
				t.Errorf("it has %d lines, and may have %d", n, test.lines)
			}
			test.run(t, source)
		})
	}
}

// build compiles a program with other addresses.
func build(t *testing.T, source string, instead ...string) string {
	t.Helper()
	dir := t.TempDir()
	file, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(file, []byte(strings.NewReplacer(instead...).Replace(source)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, file)
	cmd.Dir, cmd.Env = docstest.Root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// background runs a program until the test ends.
func background(t *testing.T, binary, dir, address string) *rig.Process {
	t.Helper()
	p, err := rig.Run("program", "/bin/sh", nil, "-c", `cd "$1" && exec "$2"`, "sh", dir, binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop() })
	if err := p.Answers(address); err != nil {
		t.Fatal(err)
	}
	return p
}

// openRedis is a Redis that asks for no password.
func openRedis(t *testing.T) string {
	t.Helper()
	server := redistest.Start(t)
	client := server.Client()
	defer client.Close()
	if err := client.ConfigSet(t.Context(), "requirepass", "").Err(); err != nil {
		t.Fatal(err)
	}
	return server.Addr
}

func sessionsProgram(t *testing.T, source string) {
	program := func(redis string) string {
		cmd := exec.Command(build(t, source, "127.0.0.1:6379", redis))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	want := "create: <nil>\nlist: 1 <nil>\nadd: <nil> again: field exists already\nrevoke: <nil>\ntouch: session not found absent: true\n"
	if got := program(openRedis(t)); got != want {
		t.Errorf("it prints\n%s, want\n%s", got, want)
	}
	down := program("127.0.0.1:1")
	if !strings.HasPrefix(down, "create: ") || !strings.Contains(down, "refused absent: false\n") || strings.Contains(down, "redis: connection pool") {
		t.Errorf("without Redis it prints\n%s", down)
	}
}

func loginProgram(t *testing.T, source string) {
	address, err := testtools.Addr()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := passwords.HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	users := "- {id: '42', username: ada, password_hash: '" + hash + "'}\n"
	if err := os.WriteFile(filepath.Join(dir, "users.yaml"), []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, build(t, source, "127.0.0.1:6379", openRedis(t), "127.0.0.1:8080", address), dir, address)

	ask := func(r *http.Request) (*http.Response, string) {
		t.Helper()
		r.Header.Set("Accept", "text/html")
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response, string(body)
	}
	page, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/cart", nil)
	if r, _ := ask(page); r.StatusCode != 302 || r.Header.Get("Location") != "/.auth/login?rd=%2Fcart" {
		t.Fatalf("without a session: %d %v", r.StatusCode, r.Header)
	}
	form := url.Values{"username": {"ada"}, "password": {"correct horse"}, "rd": {"/cart"}}
	post, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/.auth/login", strings.NewReader(form.Encode()))
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r, _ := ask(post)
	if r.StatusCode != 303 || r.Header.Get("Location") != "/cart" || len(r.Cookies()) != 1 {
		t.Fatalf("signing in: %d %v", r.StatusCode, r.Header)
	}
	page.AddCookie(r.Cookies()[0])
	if r, body := ask(page); r.StatusCode != 200 || body != "hello ada\n" {
		t.Errorf("with the session: %d %s", r.StatusCode, body)
	}
}

func checksProgram(t *testing.T, source string) {
	address, err := testtools.Addr()
	if err != nil {
		t.Fatal(err)
	}
	p := background(t, build(t, source, "127.0.0.1:9001", address), t.TempDir(), address)
	s := start(t, rig.Options{Patient: true, Bootstrap: func(b *bootstrapv3.Bootstrap) { pointAt(t, b, "coatcheck", address) }})
	cookie := regexp.MustCompile(`session: <nil> cookie: (\S+);`).FindStringSubmatch(p.Output())
	if cookie == nil {
		t.Fatalf("it prints %s", p.Output())
	}
	send(t, s, "GET /cart").is(t, 401)
	allowed := send(t, s, "GET /cart", "Cookie: "+cookie[1], "X.User.Id: 1").is(t, 200)
	if got := allowed.identity(); got["X-User-Id"] != "42" || len(got) != 2 {
		t.Errorf("the upstream was sent %v", got)
	}
	send(t, s, "GET /admin", "Cookie: "+cookie[1]).is(t, 403)
}

// pointAt moves a cluster to another address.
func pointAt(t *testing.T, b *bootstrapv3.Bootstrap, cluster, address string) {
	host, port, err := net.SplitHostPort(address)
	n, err2 := strconv.ParseUint(port, 10, 16)
	if err != nil || err2 != nil {
		t.Error(err, err2)
	}
	for _, c := range b.GetStaticResources().GetClusters() {
		if c.GetName() != cluster {
			continue
		}
		for _, locality := range c.GetLoadAssignment().GetEndpoints() {
			for _, e := range locality.GetLbEndpoints() {
				socket := e.GetEndpoint().GetAddress().GetSocketAddress()
				socket.Address, socket.PortSpecifier = host, &corev3.SocketAddress_PortValue{PortValue: uint32(n)}
			}
		}
	}
}

// TestGuardBehind: a Go service with web.Behind, behind Envoy and Coatcheck, sees who is
// signed in and no other identity, however a client writes its headers; and it refuses
// what has not come through Coatcheck as it came.
func TestGuardBehind(t *testing.T) {
	t.Parallel()
	guard, err := web.Behind(web.HeaderConfig{Fields: map[string]string{"plan": "x-user-plan"}})
	if err != nil {
		t.Fatal(err)
	}
	who := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Service", "reached")
		if r.Header.Get("Upgrade") == "websocket" {
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(http.StatusSwitchingProtocols)
			return
		}
		_ = json.NewEncoder(w).Encode(web.FromContext(r.Context()))
	})
	mux := http.NewServeMux()
	mux.Handle("/", guard.Require(who))
	mux.Handle("/public/", guard.Optional(who))
	mux.Handle("/optional/", guard.Optional(who))
	service := httptest.NewServer(mux)
	defer service.Close()
	s := start(t, rig.Options{
		Patient: true, Arguments: []string{"--headers-fields", "plan"},
		Bootstrap: func(b *bootstrapv3.Bootstrap) {
			pointAt(t, b, "upstream", strings.TrimPrefix(service.URL, "http://"))
			rig.ChangeFront(b, func(m *hcmv3.HttpConnectionManager) { // else Envoy refuses x_user_id itself
				m.GetCommonHttpProtocolOptions().HeadersWithUnderscoresAction = corev3.HttpProtocolOptions_ALLOW
			})
		},
	})
	m := manager(t, s, sessions.Config{})
	n := sessions.NewSession{UserID: "ä,%1", Username: "Ada Löwe", Roles: []string{"staff", "a,b", "%2C"}, Fields: map[string]string{"plan": "free, of charge"}}
	cookie, key := login(t, m, n)

	forged := [][]string{
		nil, {"X-User-Id: 1"}, {"X-User-Id: 1", "X-User-Id: 2"}, {"x_user_id: 1"}, {"X.User.Roles: admin", "X_User_Roles: admin"},
		{"X-User-Session: session:x"}, {"X-User-Plan: gold", "x-user_plan: gold"}, {"X-User-Id:"}, {"X-User-Id: %31"}, {"X-User-Name: \xff"},
	}
	for _, lines := range forged {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS"} {
			a := send(t, s, method+" /cart", append([]string{"Cookie: " + cookie, "Content-Length: 0"}, lines...)...)
			var got *sessions.Session
			if a.status != 200 || json.Unmarshal([]byte(a.body), &got) != nil || got == nil {
				t.Errorf("%s with %q: %d %s", method, lines, a.status, a.body)
				continue
			}
			if got.UserID != n.UserID || got.Username != n.Username || strings.Join(got.Roles, "|") != strings.Join(n.Roles, "|") || got.Key != key || got.Fields["plan"] != n.Fields["plan"] {
				t.Errorf("%s with %q: the service sees %+v", method, lines, got)
			}
		}
		for _, path := range []string{"/public/x", "/optional/x"} {
			if a := send(t, s, "GET "+path, lines...); a.status != 200 || strings.TrimSpace(a.body) != "null" {
				t.Errorf("%s with %q: %d %s", path, lines, a.status, a.body)
			}
		}
		if a := send(t, s, "GET /cart", lines...); a.status != 401 || a.header.Get("X-Service") != "" {
			t.Errorf("without a session, with %q: %d %v", lines, a.status, a.header)
		}
	}
	upgrade := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	for want, lines := range map[int][]string{101: {"Cookie: " + cookie}, 401: {"X-User-Id: 1"}} {
		if got := handshake(t, s, append(lines, upgrade...)...); got != want {
			t.Errorf("a WebSocket with %d lines: %d, want %d", len(lines), got, want)
		}
	}

	// A request that did not come through Coatcheck, of a client that knows no better.
	direct, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, service.URL+"/cart", nil)
	direct.Header["X-User-Id"] = []string{"1", "2"}
	response, err := http.DefaultTransport.RoundTrip(direct)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if response.StatusCode != 400 {
		t.Errorf("two user IDs: %d", response.StatusCode)
	}
}

// handshake asks for a WebSocket and returns the status.
func handshake(t *testing.T, s *rig.Stack, lines ...string) int {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.URL, "http://"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "GET /cart HTTP/1.1\r\nHost: shop.example\r\n%s\r\n\r\n", strings.Join(lines, "\r\n"))
	first := make([]byte, len("HTTP/1.1 101"))
	if _, err := io.ReadFull(conn, first); err != nil {
		t.Fatal(err)
	}
	_, code, _ := bytes.Cut(first, []byte(" "))
	status, _ := strconv.Atoi(string(code))
	return status
}
