// Package e2e_test sends requests through a real Envoy that runs envoy.yaml,
// to a real Coatcheck over a real Redis, and looks at what the client and the upstream
// receive. A test that mostly waits runs in parallel with others. COATCHECK_FULL=1
// runs the long form of those that try a sample otherwise.
package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// binary is coatcheck, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(attackVariable) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "coatcheck-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "coatcheck")
	if err := rig.Build(binary); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := m.Run()
	err = goleak.Find()
	for range 40 { // on a busy machine some take longer to end
		if err != nil {
			err = goleak.Find()
		}
	}
	if err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// start runs a stack until the test ends.
func start(t *testing.T, o rig.Options) *rig.Stack {
	t.Helper()
	o.Coatcheck = binary
	s, err := rig.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("coatcheck:\n%s", s.Coatcheck.Output())
			t.Logf("envoy:\n%s", s.Envoy.Output())
		}
		s.Close()
	})
	return s
}

// manager makes and ends sessions beside the stack.
func manager(t *testing.T, s *rig.Stack, config sessions.Config) *sessions.Manager {
	t.Helper()
	client := s.Redis.Client()
	t.Cleanup(func() { _ = client.Close() })
	config.MaxPerUser = -1 // one user signs in for all tests
	m, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ada is a user with every kind of data.
var ada = sessions.NewSession{
	UserID: "42", Username: "Ada Löwe", Roles: []string{"staff", "a,b"},
	Fields: map[string]string{"tenant": "acme\r\nx-user-id: 1", "big": strings.Repeat("x", 5000)},
}

// login creates a session and returns its cookie and key.
func login(t *testing.T, m *sessions.Manager, n sessions.NewSession) (cookie string, key sessions.Key) {
	t.Helper()
	id, session, err := m.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return cookieFor(id), session.Key
}

func cookieFor(id sessions.ID) string { return sessions.DefaultCookieName + "=" + id.Reveal() }

// An answer is what a client got, and the request that the upstream received, if any.
type answer struct {
	status int
	header http.Header
	body   string
	sent   *rig.Echoed
}

// send writes an HTTP/1.1 request unchanged: the request line without its version,
// and header lines.
func send(t *testing.T, s *rig.Stack, request string, lines ...string) answer {
	t.Helper()
	return sendAs(t, s, request, append([]string{"Host: shop.example"}, lines...)...)
}

// sendAs is send with the host among the header lines.
func sendAs(t *testing.T, s *rig.Stack, request string, lines ...string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s HTTP/1.1\r\n", request)
	for _, line := range append([]string{"Connection: close"}, lines...) {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	if _, err := conn.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s %q: %v", request, lines, err)
	}
	return read(t, response)
}

func read(t *testing.T, response *http.Response) answer {
	t.Helper()
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: response.StatusCode, header: response.Header, body: string(body)}
	if response.Header.Get("Content-Type") == "application/json" {
		a.sent = new(rig.Echoed)
		if err := json.Unmarshal(body, a.sent); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// is fails the test unless the client got this status. The upstream must have
// received the request exactly if the status is 200.
func (a answer) is(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status || (a.sent != nil) != (status == 200) {
		t.Errorf("status %d (%s), want %d", a.status, a.body, status)
	}
	if a.status != 200 && len(a.header["Set-Cookie"]) > 0 {
		t.Errorf("a refusal sets a cookie: %v", a.header["Set-Cookie"])
	}
	return a
}

// identity is the headers that the upstream received under the managed prefix, in any
// spelling.
func (a answer) identity() map[string]string {
	found := make(map[string]string)
	if a.sent == nil {
		return found
	}
	for name, values := range a.sent.Headers {
		normal := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, strings.ToLower(name))
		if strings.HasPrefix(normal, "x-user-") {
			found[name] = strings.Join(values, " AND ")
		}
	}
	return found
}

// cookies is the Cookie lines that the upstream received.
func (a answer) cookies() []string {
	if a.sent == nil {
		return nil
	}
	return a.sent.Headers["Cookie"]
}

func wantCookies(t *testing.T, a answer, want ...string) {
	t.Helper()
	if !slices.Equal(a.cookies(), want) {
		t.Errorf("the upstream was sent the cookies %q, want %q", a.cookies(), want)
	}
}
