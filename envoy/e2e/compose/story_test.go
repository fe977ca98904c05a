package compose_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// front is where the file publishes Envoy.
const front = "http://127.0.0.1:8000"

// sameOrigin is what browsers send from a page of the same origin. Origin alone would
// not do: envoy.yaml takes the port out of Host.
const sameOrigin = "Sec-Fetch-Site: same-origin"

// services are those that stay up.
var services = []string{"coatcheck", "envoy", "login", "redis", "upstream"}

// play brings the file up, plays the story, and takes it down again.
func play(t *testing.T, e *engine) {
	p := newProject(t)
	p.build(t)
	if e.own {
		makeImages(t, e)
	}
	p.environment = append(p.environment, "DOCKER_HOST="+e.host)
	t.Cleanup(func() { _ = p.command("down", "--volumes", "--timeout", "1").Run() })
	started := time.Now()
	if out, err := p.command("up", "--wait", "--wait-timeout", "180").CombinedOutput(); err != nil {
		logs, _ := p.command("logs", "--no-color").CombinedOutput()
		t.Fatalf("docker compose up --wait: %v\n%s\n%s", err, out, logs)
	}
	t.Logf("docker compose up --wait: %.1f s", time.Since(started).Seconds())
	client := &http.Transport{ResponseHeaderTimeout: 30 * time.Second}
	t.Cleanup(client.CloseIdleConnections)
	u := &user{p, client, strings.TrimSpace(p.read(t, ".build/passwords/ada"))}

	healthy(t, p)
	confined(t, p, e)
	if e.own { // else the engine's containers may be out of reach, as in a virtual machine
		closed(t, p, e)
	}
	u.signsIn(t)
	u.isRevoked(t)
	u.survivesEnvoy(t)
	u.runsRelease(t, e)
	ends(t, p, e)
}

// healthy: every service runs, and its health check says so.
func healthy(t *testing.T, p *project) {
	containers := p.containers(t)
	for _, name := range services {
		if c := containers[name]; c.State != "running" || c.Health != "healthy" {
			t.Errorf("%s is %s and %s", name, c.State, c.Health)
		}
	}
	if len(containers) != len(services) {
		t.Errorf("the services are %v", containers)
	}
}

// confined: the engine has taken what the file says of privileges.
func confined(t *testing.T, p *project, e *engine) {
	for name, c := range p.containers(t) {
		h := e.inspect(t, c.ID).HostConfig
		if !h.ReadonlyRootfs || len(h.CapAdd) > 0 || !slices.Equal(h.CapDrop, []string{"ALL"}) || !slices.Contains(h.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s runs with %+v", name, h)
		}
	}
}

// closed: of all that listens in Envoy's network, Envoy's port alone can be reached,
// also for a program of this machine that sends to the container's own address.
func closed(t *testing.T, p *project, e *engine) {
	addresses := []string{"127.0.0.1"}
	for _, network := range e.inspect(t, p.containers(t)["envoy"].ID).NetworkSettings.Networks {
		addresses = append(addresses, network.IPAddress)
	}
	if len(addresses) != 3 {
		t.Fatalf("Envoy's addresses are %q", addresses)
	}
	reaches := func(address, port string) bool {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, port), 2*time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	for _, address := range addresses {
		if !reaches(address, "8000") {
			t.Errorf("Envoy is not reached at %s", address)
		}
		for what, port := range map[string]string{"Envoy's admin": "9901", "checks": "9001", "login": "8080", "the upstream": "8081", "admin": "9102", "login's admin": "9103", "Redis": "6379"} {
			if reaches(address, port) {
				t.Errorf("%s is reached at %s:%s", what, address, port)
			}
		}
	}
}

// A user is ada, with a browser.
type user struct {
	*project
	client   *http.Transport
	password string
}

// An answer is what the browser got.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends a request, of the lines of a header, and does not follow redirects.
func (u *user) send(t *testing.T, method, path, body string, lines ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, front+path, strings.NewReader(body))
	must(t, err)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header[name] = append(r.Header[name], value) // in this spelling
	}
	response, err := u.client.RoundTrip(r)
	must(t, err)
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	must(t, err)
	return answer{response.StatusCode, response.Header, string(content)}
}

func (a answer) is(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// login sends the form, and returns the cookie's line.
func (u *user) login(t *testing.T) string {
	t.Helper()
	form := url.Values{"username": {"ada"}, "password": {u.password}, "rd": {"/orders?page=2"}}.Encode()
	a := u.send(t, "POST", "/.auth/login", form, "Content-Type: application/x-www-form-urlencoded", "Origin: "+front, sameOrigin).is(t, 303)
	cookie, attributes, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
	if !strings.HasPrefix(cookie, "__Host-session=") || !strings.Contains(attributes, "HttpOnly") || a.header.Get("Location") != "/orders?page=2" {
		t.Fatalf("the login answers %v", a.header)
	}
	return "Cookie: " + cookie
}

// signsIn goes from a protected page to the login page and back, and out again.
func (u *user) signsIn(t *testing.T) {
	u.send(t, "GET", "/", "").is(t, 401)
	sent := u.send(t, "GET", "/orders?page=2", "", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document").is(t, 302).header.Get("Location")
	if page := u.send(t, "GET", sent, "").is(t, 200); !strings.Contains(page.body, `name="password"`) {
		t.Errorf("%s is no login page:\n%s", sent, page.body)
	}
	cookie := u.login(t)
	a := u.send(t, "GET", "/orders?page=2", "", cookie+"; theme=dark", "X-User-Id: 1", "X.User.Roles: admin").is(t, 200)
	var seen struct{ Headers map[string][]string }
	must(t, json.Unmarshal([]byte(a.body), &seen))
	for name, want := range map[string]string{"X-User-Id": "42", "X-User-Name": "ada", "X-User-Roles": "staff", "Cookie": "theme=dark", "X.User.Roles": ""} {
		if got := strings.Join(seen.Headers[name], ", "); got != want {
			t.Errorf("the upstream saw %s: %q, want %q", name, got, want)
		}
	}
	u.send(t, "GET", "/admin", "", cookie).is(t, 403)
	u.send(t, "GET", "/public", "").is(t, 200)
	u.send(t, "GET", "/public/%2e%2e;/admin", "").is(t, 400)
	u.send(t, "POST", "/.auth/logout", "", cookie, "Origin: "+front, sameOrigin).is(t, 303)
	u.send(t, "GET", "/", "", cookie).is(t, 401)
}

// isRevoked: the file's session command finds the session, and ends it.
func (u *user) isRevoked(t *testing.T) {
	cookie := u.login(t)
	u.send(t, "GET", "/", "", cookie).is(t, 200)
	if list := u.compose(t, "run", "--rm", "session", "list", "42"); strings.Count(strings.TrimSpace(list), "\n") != 1 {
		t.Errorf("not one session is listed:\n%s", list)
	}
	u.compose(t, "run", "--rm", "session", "revoke", "--all", "--user", "42")
	u.send(t, "GET", "/", "", cookie).is(t, 401)
}

// survivesEnvoy: the restart that the file advises brings back what shares Envoy's
// network, and the sessions are still there.
func (u *user) survivesEnvoy(t *testing.T) {
	cookie := u.login(t)
	u.compose(t, "restart", "envoy")
	u.compose(t, "up", "--wait", "--wait-timeout", "180")
	healthy(t, u.project)
	u.send(t, "GET", "/", "", cookie).is(t, 200)
}

// ends: every program ends by itself when it is told to, and nothing is left.
func ends(t *testing.T, p *project, e *engine) {
	p.compose(t, "stop")
	for name, c := range p.containers(t) {
		if state := e.inspect(t, c.ID).State; state.ExitCode != 0 || state.OOMKilled {
			t.Errorf("%s ended with %+v", name, state)
		}
	}
	logs := p.compose(t, "logs", "--no-color", "coatcheck", "login")
	for _, secret := range []string{"ada", "check", "login", "manage"} {
		if strings.Contains(logs, strings.TrimSpace(p.read(t, ".build/passwords/"+secret))) {
			t.Errorf("the logs contain the password in %s", secret)
		}
	}
	if !strings.Contains(logs, `"reason":"ok"`) && !strings.Contains(logs, "reason=ok") {
		t.Errorf("the logs say of no request that it was allowed:\n%s", logs)
	}
	p.compose(t, "down", "--volumes")
	if left := p.containers(t); len(left) > 0 {
		t.Errorf("these are left: %v", left)
	}
}
