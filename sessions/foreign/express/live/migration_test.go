package live_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"go.yaml.in/yaml/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// TestMigration does what docs/migration.md says, step by step and back, with one user
// who signed in before the first step. The files and the commands are those of the page.
func TestMigration(t *testing.T) {
	m := newMigration(t)
	m.runs(t, "begin", "")

	envoy := m.start(t, "coatcheck.yaml", "routes-1.yaml", false)
	m.runs(t, "step 1", envoy.URL)
	must(t, envoy.Coatcheck.Stop()) // it is not asked
	m.runs(t, "step 1", envoy.URL)
	envoy.Close()
	m.runs(t, "begin", "") // the way back

	m.looksOnAndRefuses(t)
	m.firstService(t)
	m.rotates(t)
	m.goesNative(t)
}

// A migration is at one of the page's steps.
type migration struct {
	site
	page     map[string]string // its files and commands
	monolith *app
	before   person // signed in before the first step
	orders   *app
	native   string // the Cookie header for the session of Coatcheck's own
}

func newMigration(t *testing.T) *migration {
	t.Helper()
	m := new(migration)
	m.cookie, m.prefix, m.dir = "connect.sid", "sess:", t.TempDir()
	var err error
	m.page, err = readPage()
	must(t, err)
	m.store, err = newRedis()
	must(t, err)
	t.Cleanup(m.store.Close)
	m.redis = m.store.Client()
	t.Cleanup(func() { _ = m.redis.Close() })
	must(t, allow(m.store, m.prefix))
	rights, err := os.ReadFile(filepath.Join(filepath.Dir(tools), "docs", "express.md"))
	must(t, err)
	if !strings.Contains(string(rights), m.page["file: users.acl"]) {
		t.Error("docs/express.md has other rights for checks than docs/migration.md")
	}
	for name, text := range map[string]string{
		"session.secrets": "keyboard cat\n", "redis.password": rig.RedisPassword(redisUser), "policies.yaml": m.page["file: policies-shadow.yaml"],
	} {
		must(t, os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600))
	}
	m.runMonolith(t, "keyboard cat")
	m.before = m.signIn(t, m.monolith, "uid=42&name=Ada+L%C3%B6we&roles=user")
	return m
}

// runMonolith runs it anew, with these secrets.
func (m *migration) runMonolith(t *testing.T, secrets string, more ...string) {
	t.Helper()
	if m.monolith != nil {
		_ = m.monolith.process.Stop()
	}
	p := program{"monolith", "monolith.js", []string{"STORE=6"}}
	a, err := p.start(m.redisURL(), append(more, "SECRETS="+secrets)...)
	must(t, err)
	t.Cleanup(func() { _ = a.process.Stop() })
	m.monolith = a
}

// readPage returns the blocks of the page behind comments, such as <!-- file: NAME -->.
func readPage() (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(tools), "docs", "migration.md"))
	if err != nil {
		return nil, err
	}
	blocks := make(map[string]string)
	for _, b := range regexp.MustCompile("(?s)<!-- ((?:file|run): [^>]+) -->\n```[a-z]+\n(.*?)```\n").FindAllStringSubmatch(string(text), -1) {
		blocks[b[1]] = b[2]
	}
	if marks := strings.Count(string(text), "\n<!-- "); len(blocks) != marks {
		return nil, fmt.Errorf("docs/migration.md has %d marks, of which %d stand before a block of their own", marks, len(blocks))
	}
	return blocks, nil
}

// file writes a file of the page where the commands find it, with the addresses and
// folders of the test.
func (m *migration) file(t *testing.T, name string) string {
	t.Helper()
	text, ok := m.page["file: "+name]
	if !ok {
		t.Fatalf("the page has no file %s", name)
	}
	path := filepath.Join(m.dir, name)
	text = strings.NewReplacer("/etc/coatcheck", m.dir, "127.0.0.1:6379", m.store.Addr).Replace(text)
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// start runs Envoy and Coatcheck with files of the page, until the test ends.
func (m *migration) start(t *testing.T, config, routes string, failOpen bool) *rig.Stack {
	t.Helper()
	stack, err := rig.Start(rig.Options{
		Coatcheck: binary, Patient: true,
		Environment:    []string{}, // the user of Redis is the file's
		RedisAddresses: []string{m.store.Addr},
		Arguments:      []string{"--config", m.file(t, config)},
		Bootstrap: func(b *bootstrapv3.Bootstrap) {
			m.replaceRoutes(t, b, m.page["file: "+routes])
			rig.ChangeFilter(b, func(f *extauthzv3.ExtAuthz) { f.FailureModeAllow = failOpen })
		},
	})
	must(t, err)
	t.Cleanup(stack.Close)
	return stack
}

// replaceRoutes keeps the route of envoy.yaml that refuses paths.
func (m *migration) replaceRoutes(t *testing.T, b *bootstrapv3.Bootstrap, list string) {
	t.Helper()
	for _, a := range []*app{m.monolith, m.orders} {
		if a != nil {
			addCluster(b, a)
		}
	}
	routes := routesOf(t, list)
	rig.ChangeFront(b, func(h *hcmv3.HttpConnectionManager) {
		all := h.GetRouteConfig().GetVirtualHosts()[0]
		for _, r := range all.GetRoutes() {
			if r.GetDirectResponse() != nil {
				routes = append([]*routev3.Route{r}, routes...)
			}
		}
		all.Routes = routes
	})
}

// routesOf reads a list of routes, strictly.
func routesOf(t *testing.T, list string) []*routev3.Route {
	t.Helper()
	const around = `{static_resources: {listeners: [{filter_chains: [{filters: [{name: front, typed_config: {
"@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: ROUTES}]}}}]}]}]}}`
	var tree []any
	must(t, yaml.Unmarshal([]byte(list), &tree))
	flow, err := json.Marshal(tree)
	must(t, err)
	b, err := rig.Parse([]byte(strings.Replace(around, "ROUTES", string(flow), 1)))
	must(t, err)
	var routes []*routev3.Route
	rig.ChangeFront(b, func(h *hcmv3.HttpConnectionManager) { routes = h.GetRouteConfig().GetVirtualHosts()[0].GetRoutes() })
	return routes
}

// runs runs commands of the page, each of which prints what stands behind its #.
func (m *migration) runs(t *testing.T, name, front string) {
	t.Helper()
	text, ok := m.page["run: "+name]
	if !ok {
		t.Fatalf("the page has no commands of %s", name)
	}
	definition := regexp.MustCompile(`(?m)^status\(\).*$`).FindString(m.page["run: begin"])
	for line := range strings.Lines(text) {
		command, want, found := strings.Cut(strings.TrimSpace(line), " # ")
		if !found {
			continue
		}
		for from, to := range map[string]string{"http://127.0.0.1:3000": "http://" + m.monolith.address, "http://127.0.0.1:8000": front} {
			command = strings.ReplaceAll(command, from, to)
		}
		shell := exec.Command("bash", "-c", definition+"\n"+command)
		shell.Dir = m.dir
		shell.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "COOKIE="+m.before.cookie, "NATIVE="+m.native)
		out, err := shell.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != strings.TrimSpace(want) {
			t.Errorf("%s: %s printed %q, %v", name, strings.TrimSpace(line), got, err)
		}
	}
}

// looksOnAndRefuses does steps 2 and 3, and their way back.
func (m *migration) looksOnAndRefuses(t *testing.T) {
	t.Helper()
	stack := m.start(t, "coatcheck.yaml", "routes-2.yaml", true)
	m.runs(t, "step 2", stack.URL)
	m.runs(t, "show", "")
	send(t, stack.URL, "", "GET /orders", m.cookie+"=unsigned").came(t, http.StatusUnauthorized)
	denied := send(t, stack.URL, "", "GET /orders", "")
	if strings.Contains(string(denied.body), "Sign in") {
		t.Error("Coatcheck itself has refused")
	}
	for _, told := range []string{`"shadow":true`, `"reason":"malformed_cookie"`, `"reason":"missing_role"`} {
		if !strings.Contains(stack.Coatcheck.Output(), told) {
			t.Errorf("the log does not tell what Coatcheck would refuse: %s", told)
		}
	}
	must(t, stack.Coatcheck.Stop())
	m.runs(t, "begin", "")
	send(t, stack.URL, "", "GET /orders", m.before.cookie).came(t, http.StatusOK) // by failure_mode_allow
	stack.Close()
	stack = m.start(t, "coatcheck.yaml", "routes-1.yaml", false) // the way back
	m.runs(t, "step 1", stack.URL)
	stack.Close()

	stack = m.start(t, "coatcheck.yaml", "routes-2.yaml", false)
	m.policies(t, "policies.yaml")
	refuses := func() bool {
		return strings.Contains(string(send(t, stack.URL, "", "GET /orders", "").body), "Sign in")
	}
	eventually(t, "Coatcheck refuses", refuses)
	m.runs(t, "step 3", stack.URL)
	for _, path := range []string{"/admin", "/ADMIN/", "/Admin/x"} { // pages of administrators to Express
		w := send(t, stack.URL, "", "GET "+path, m.before.cookie).came(t, http.StatusForbidden)
		if string(w.body) == "Forbidden" {
			t.Errorf("the monolith has refused %s, and not Coatcheck", path)
		}
	}
	m.policies(t, "policies-shadow.yaml")
	eventually(t, "Coatcheck refuses no more", func() bool { return !refuses() })
	m.policies(t, "policies.yaml")
	stack.Close()
}

func (m *migration) policies(t *testing.T, name string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(m.dir, "policies.yaml"), []byte(m.page["file: "+name]), 0o600))
}

// firstService does step 4 and its way back.
func (m *migration) firstService(t *testing.T) {
	t.Helper()
	m.orders = m.service(t, "orders")
	stack := m.start(t, "coatcheck.yaml", "routes-4.yaml", false)
	m.runs(t, "step 4", stack.URL)
	forged := send(t, stack.URL, "", "GET /orders", "", "")
	forged.came(t, http.StatusUnauthorized)
	send(t, "http://"+m.orders.address, "", "GET /orders", "").came(t, http.StatusUnauthorized)
	stack.Close()

	stack = m.start(t, "coatcheck.yaml", "routes-2.yaml", false)
	if w := send(t, stack.URL, "", "GET /orders", m.before.cookie); !strings.Contains(string(w.body), "monolith") {
		t.Errorf("after the way back the orders come from: %s", w.body)
	}
	stack.Close()
}

// service runs a service of the page.
func (m *migration) service(t *testing.T, name string) *app {
	t.Helper()
	p := program{name: name, file: m.file(t, name+".js")}
	a, err := p.start("", "PORT=0")
	must(t, err)
	t.Cleanup(func() { _ = a.process.Stop() })
	return a
}

// rotates does step 5: readers first, then the monolith; and back.
func (m *migration) rotates(t *testing.T) {
	t.Helper()
	stack := m.start(t, "coatcheck.yaml", "routes-4.yaml", false)
	secrets := filepath.Join(m.dir, "session.secrets")
	must(t, os.WriteFile(secrets, []byte("keyboard cat\nthe new secret\n"), 0o600))
	rotated := m.cookie + "=" + encoded(signed(m.before.sid, "the new secret"))
	eventually(t, "Coatcheck takes the new secret", func() bool { return send(t, stack.URL, "", "GET /orders", rotated).status == http.StatusOK })
	stack.Close()

	m.runMonolith(t, "the new secret,keyboard cat")
	stack = m.start(t, "coatcheck.yaml", "routes-4.yaml", false)
	m.runs(t, "step 5", stack.URL)
	after := m.signIn(t, m.monolith, "uid=7&name=bob&roles=admin")
	if after.cookie != m.cookie+"="+encoded(signed(after.sid, "the new secret")) {
		t.Error("the monolith does not sign with the new secret")
	}
	known := func() {
		t.Helper()
		send(t, stack.URL, "", "GET /orders", after.cookie).came(t, http.StatusOK)
		for _, p := range []person{m.before, after} {
			if w := send(t, "http://"+m.monolith.address, "", "GET /me", p.cookie); w.user(t) == "" {
				t.Error("the monolith does not know a user any more")
			}
		}
	}
	send(t, stack.URL, "", "GET /admin", after.cookie).came(t, http.StatusOK)
	known()
	m.runMonolith(t, "keyboard cat,the new secret") // the way back
	known()
	stack.Close()
}

// goesNative does step 6 and its way back.
func (m *migration) goesNative(t *testing.T) {
	t.Helper()
	m.runMonolith(t, "the new secret,keyboard cat", "NATIVE="+m.file(t, "native.js"), "NATIVE_KEY=0123456789abcdef0123456789abcdef")
	stack := m.start(t, "coatcheck.yaml", "routes-4.yaml", false)
	w := send(t, stack.URL, "", "GET /me", m.before.cookie).came(t, http.StatusOK)
	if m.native = w.cookie("__Host-session"); m.native == "" {
		t.Fatal("the monolith makes no session beside its own")
	}
	if again := send(t, stack.URL, "", "GET /me", m.before.cookie+"; "+m.native); again.cookie("__Host-session") != "" {
		t.Error("the monolith sets the cookie again that it was sent")
	}
	m.runs(t, "step 5", stack.URL) // still by the Express session
	stack.Close()

	must(t, os.WriteFile(filepath.Join(m.dir, "redis.password"), []byte(rig.RedisPassword(rig.CheckUser)), 0o600))
	stack = m.start(t, "coatcheck-native.yaml", "routes-4.yaml", false)
	m.runs(t, "step 6", stack.URL)
	m.nativeLogout(t, stack)
	stack.Close()

	must(t, os.WriteFile(filepath.Join(m.dir, "redis.password"), []byte(rig.RedisPassword(redisUser)), 0o600))
	stack = m.start(t, "coatcheck.yaml", "routes-4.yaml", false)
	m.runs(t, "step 4", stack.URL)
}

// nativeLogout: a login at the monolith signs in at services at once, and its logout ends
// both sessions, also while requests go on.
func (m *migration) nativeLogout(t *testing.T, stack *rig.Stack) {
	t.Helper()
	for range 60 {
		w := send(t, stack.URL, "", "GET /login?uid=8&name=eve&roles=user", "").came(t, http.StatusFound)
		both := w.cookie(m.cookie) + "; " + w.cookie("__Host-session")
		send(t, stack.URL, "", "GET /orders", both).came(t, http.StatusOK)
		begin := make(chan struct{})
		ended := make(chan struct{}, 3)
		for range cap(ended) {
			go func() {
				<-begin
				send(t, "http://"+m.monolith.address, "", "GET /me", w.cookie(m.cookie))
				ended <- struct{}{}
			}()
		}
		close(begin)
		send(t, "http://"+m.monolith.address, "", "GET /logout", both).came(t, http.StatusFound)
		for range cap(ended) {
			<-ended
		}
		send(t, stack.URL, "", "GET /orders", both).came(t, http.StatusUnauthorized)
	}
	if left := m.redis.ZCard(t.Context(), "user-sessions:8").Val(); left != 0 {
		t.Errorf("%d sessions are listed after their logouts", left)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
