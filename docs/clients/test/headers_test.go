package clients_test

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// A user is what a service makes of a request.
type user struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Roles   []string `json:"roles"`
	Session string   `json:"session"`
	Tenant  string   `json:"tenant"`
}

func cookie(id string) string { return "Cookie: " + sessions.DefaultCookieName + "=" + id }

// ask sends a request through Envoy to a page of a service.
func ask(t *testing.T, service, kind, page string, lines ...string) *http.Response {
	t.Helper()
	return request(t, strings.TrimPrefix(at.URL, "http://"), service, kind, page, lines...)
}

// request sends lines as they are, which net/http would not.
func request(t *testing.T, address, service, kind, page string, lines ...string) *http.Response {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	head := append([]string{fmt.Sprintf("GET /%s/%s/%s HTTP/1.1", service, kind, page), "Host: shop.example", "Connection: close"}, lines...)
	if _, err := io.WriteString(conn, strings.Join(head, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	response.Body = io.NopCloser(strings.NewReader(string(body)))
	return response
}

// who reads the answer of a page; nil: no user.
func who(t *testing.T, r *http.Response) *user {
	t.Helper()
	text, _ := io.ReadAll(r.Body)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%d: %s", r.StatusCode, text)
	}
	var u *user
	if err := json.Unmarshal(text, &u); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return u
}

func onEvery(t *testing.T, run func(t *testing.T, service string)) {
	for _, service := range services {
		t.Run(service, func(t *testing.T) { run(t, service) })
	}
}

// TestHeaders: what Coatcheck sends arrives, through a real Envoy.
func TestHeaders(t *testing.T) {
	it := hostile("ü, 100%41\n+")
	it.Roles = append(it.Roles, "a,b")
	it.Fields["tenant"] = "a%2Cb,c\t ü+🦊"
	id, key := at.make(t, sessions.NewSession{UserID: it.UserID, Username: it.Username, Roles: it.Roles, Fields: it.Fields})
	plain, plainKey := at.make(t, sessions.NewSession{UserID: "42"})
	onEvery(t, func(t *testing.T, service string) {
		for _, kind := range []string{"optional", "required"} {
			u := who(t, ask(t, service, kind, "whoami", cookie(id)))
			if u == nil || u.ID != it.UserID || u.Name != it.Username || !slices.Equal(u.Roles, it.Roles) || u.Session != string(key) || u.Tenant != it.Fields["tenant"] {
				t.Errorf("%s: %s", kind, asJSON(u))
			}
			u = who(t, ask(t, service, kind, "whoami", cookie(plain)))
			if u == nil || u.ID != "42" || u.Name != "" || u.Roles == nil || len(u.Roles) != 0 || u.Session != string(plainKey) || u.Tenant != "" {
				t.Errorf("%s, of the least: %s", kind, asJSON(u))
			}
		}
	})
}

// forged are headers by which a client claims to be an administrator. Envoy itself refuses
// names with underscores.
var forged = []string{
	"X-User-Id: admin", "x-user-roles: admin", "x.user.id: admin", "X~User!Roles: admin", "x-user-name: admin",
	"X-User-Session: session:" + strings.Repeat("A", 43), "x-user-tenant: admin", "x-user-id: admin\r\nX-User-Id: other",
}

// TestForged: a client's own identity headers do not arrive, through a real Envoy.
func TestForged(t *testing.T) {
	id, _ := at.make(t, sessions.NewSession{UserID: "42", Roles: []string{"staff"}})
	onEvery(t, func(t *testing.T, service string) {
		all := strings.Join(forged, "\r\n")
		for _, lines := range append(slices.Clone(forged), all) {
			if u := who(t, ask(t, service, "optional", "whoami", lines)); u != nil {
				t.Errorf("%q makes %s", lines, asJSON(u))
			}
			u := who(t, ask(t, service, "required", "whoami", lines, cookie(id)))
			if u == nil || u.ID != "42" || !slices.Equal(u.Roles, []string{"staff"}) || u.Name != "" || u.Tenant != "" {
				t.Errorf("%q makes %s of 42", lines, asJSON(u))
			}
		}
		for _, line := range []string{"X_User_Id: admin", "X-User_Roles: admin"} {
			if status := ask(t, service, "optional", "admin", line).StatusCode; status != http.StatusBadRequest {
				t.Errorf("%q: %d", line, status)
			}
		}
		if status := ask(t, service, "required", "admin", all, cookie(id)).StatusCode; status != http.StatusForbidden {
			t.Errorf("the page for administrators answers %d", status)
		}
	})
}

// TestRefusals: what the middleware refuses, and how.
func TestRefusals(t *testing.T) {
	staff, _ := at.make(t, sessions.NewSession{UserID: "42", Roles: []string{"staff"}})
	admin, _ := at.make(t, sessions.NewSession{UserID: "43", Roles: []string{"staff", "admin"}})
	onEvery(t, func(t *testing.T, service string) {
		for _, test := range []struct {
			page, cookie string
			want         int
		}{
			{"whoami", "", 200}, {"signed-in", "", 401}, {"admin", "", 401},
			{"signed-in", staff, 200}, {"admin", staff, 403}, {"admin", admin, 200},
		} {
			r := ask(t, service, "optional", test.page, cookie(test.cookie))
			if r.StatusCode != test.want {
				t.Errorf("%s: %d, want %d", test.page, r.StatusCode, test.want)
			}
			if (test.want > 200) != (r.Header.Get("Cache-Control") == "no-store") || (test.want == 401) != (r.Header.Get("WWW-Authenticate") == "Session") {
				t.Errorf("%s: %v", test.page, r.Header)
			}
		}
	})
}

// TestAltered: headers that Coatcheck does not send, at a service that is reached beside
// Envoy. Such a service believes headers that are in order: hence the condition that every
// client's file states.
func TestAltered(t *testing.T) {
	onEvery(t, func(t *testing.T, service string) {
		u := who(t, request(t, at.address[service], service, "optional", "whoami", "X-User-Id: %C3%BC+%25", "x-user-roles: a%2Cb,c"))
		if u == nil || u.ID != "ü+%" || !slices.Equal(u.Roles, []string{"a,b", "c"}) {
			t.Errorf("headers in order make %s", asJSON(u))
		}
		for _, lines := range []string{
			"x-user-id: a\r\nX-User-Id: a", "x-user-roles: a\r\nx-user-roles: b", "X_User_Id: a", "x-user_roles: a", "x.user.name: a",
			"x-user-id:", "x-user-roles:", "x-user-roles: a,", "x-user-roles: ,a", "x-user-roles: a,,b", "x-user-id: a,b", "x-user-name: a b",
			"x-user-id: %", "x-user-id: %4", "x-user-id: %zz", "x-user-id: %41", "x-user-id: %c3%bc", "x-user-id: %FF", "x-user-id: %ED%A0%80",
			"x-user-id: \xc3\xbc", "x-user-id: \xfc", "x-user-tenant: a,b", "x-user-id: %C3", "x-user-id: %C0%AF", "x-user-id: a%2",
		} {
			r := request(t, at.address[service], service, "optional", "whoami", "x-user-id: 42", lines)
			if strings.Contains(strings.ToLower(lines), "x-user-id") {
				r = request(t, at.address[service], service, "optional", "whoami", lines)
			}
			if r.StatusCode != http.StatusBadRequest {
				text, _ := io.ReadAll(r.Body)
				t.Errorf("%q: %d %s", lines, r.StatusCode, text)
			}
		}
	})
}

// pieces are what random headers are made of: what programs decode in different ways.
var pieces = []string{"a", "Z", "0", "%", "%2", "%25", "%2C", ",", "%41", "%c3%bc", "%C3%BC", "%FF", "%00", "+", " ", "%20", "\xc3\xbc", ";", "=", "\"", "%E2%82", "%AC", "&#44;", "\\", "%u00fc", "~", "!", "%ED%A0%80", "%F0%9F%A6%8A", "'", "\t"}

// TestHeadersAgree: every language reads random headers as the library does, which is
// Coatcheck's own reader.
func TestHeadersAgree(t *testing.T) {
	taken := 0
	for i := range 300 {
		text := make([]byte, 1+i%6)
		if _, err := rand.Read(text); err != nil {
			t.Fatal(err)
		}
		var value strings.Builder
		for _, b := range text {
			value.WriteString(pieces[int(b)%len(pieces)])
		}
		lines := []string{"x-user-id: 42", []string{"x-user-tenant: ", "x-user-roles: "}[i%2] + value.String()}
		want := readAs(t, "go", lines...)
		if want != "400" && want != "null" {
			taken++
		}
		for _, service := range services[1:] {
			if got := readAs(t, service, lines...); got != want {
				t.Errorf("%q: %s reads %s, the library %s", lines, service, got, want)
			}
		}
	}
	if taken < 20 {
		t.Errorf("%d of 300 were taken: the test sees too little", taken)
	}
}

// readAs is what a service makes of headers: a user, null, or a status.
func readAs(t *testing.T, service string, lines ...string) string {
	t.Helper()
	r := request(t, at.address[service], service, "optional", "whoami", lines...)
	if r.StatusCode != http.StatusOK {
		return fmt.Sprint(r.StatusCode)
	}
	return asJSON(who(t, r))
}

// TestWebSocket: the ASGI middleware looks at WebSockets, too, and refuses them before they
// are accepted.
func TestWebSocket(t *testing.T) {
	fetched, err := packages("python")
	if err != nil {
		t.Fatal(err)
	}
	const script = `
import asyncio, sys
from identity import Identity
async def app(scope, receive, send): await send({"type": "websocket.accept", "user": scope["user"] and scope["user"]["id"]})
async def send(message): print(message["type"], message.get("code", message.get("user")))
app = Identity(app, required=True)
for headers in [], [(b"x-user-id", b"42")], [(b"x-user-id", b"a,b")], [(b"X-User-Id", b"4"), (b"x-user-id", b"2")]:
    asyncio.run(app({"type": "websocket", "headers": headers}, None, send))
`
	cmd := exec.Command(filepath.Join(fetched, "bin", "python"), "-c", script)
	cmd.Dir = filepath.Join(at.dir, "python")
	out, err := cmd.CombinedOutput()
	if want := "websocket.close 1008\nwebsocket.accept 42\nwebsocket.close 1008\nwebsocket.close 1008\n"; err != nil || string(out) != want {
		t.Errorf("%v\n%swant\n%s", err, out, want)
	}
}
