package mesh_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A form is a place where an Istio mesh checks, and the Envoy that does it.
type form struct {
	name string
	// manifests are the overlay's, for the ports of this machine.
	manifests func(t *testing.T, front string) string
	proxy     proxy
}

// forms are those that a real Envoy runs. It has no certificates of a mesh, so a
// waypoint, which speaks HBONE, is not among them.
var forms = []form{
	{"gateway", atGateway, gatewayProxy},
	{"sidecar", atSidecar, withMetadata(shopProxy, "INTERCEPTION_MODE", "NONE")},
}

func withMetadata(p proxy, key, value string) proxy {
	p.metadata = map[string]string{key: value}
	return p
}

// atGateway is the overlay as it is, but for the gateway's port, and without its
// certificate.
func atGateway(t *testing.T, front string) string {
	_, at, _ := strings.Cut(front, ":")
	all := replaced(t, build(t, "istio"), "        - \"80\"\n        - \"443\"\n", "        - \""+at+"\"\n")
	number, err := strconv.Atoi(at)
	if err != nil {
		t.Fatal(err)
	}
	gateway := gatewayPod
	gateway.ports = []port{{"http2", 80, number}}
	return together(without(t, all, "Gateway", "shop"), gateway.manifests(), `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop, namespace: istio-ingress}
spec:
  selector: {istio: ingress}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com], bind: 127.0.0.1}`)
}

// atSidecar is the check of a namespace. The Sidecar is in place of the iptables rules
// that lead connections to Envoy in a pod. Its socket is for requests of the application
// to Coatcheck, which it has none of; but without it istiod would not tell it of Coatcheck.
func atSidecar(t *testing.T, front string) string {
	_, at, _ := strings.Cut(front, ":")
	all := replaced(t, sidecars(t, "istio/namespace"), "mode: STRICT", "mode: DISABLE") // the tests have no certificate
	return together(replaced(t, all, "- \"8080\"", "- \""+at+"\""), fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec:
  ingress:
  - {port: {number: %s, protocol: HTTP, name: http}, bind: 127.0.0.1, captureMode: NONE, defaultEndpoint: "127.0.0.1:UPSTREAM"}
  egress:
  - {port: {protocol: HTTP, name: egress}, bind: "unix://%s/egress", captureMode: NONE, hosts: ["coatcheck/*"]}`, at, t.TempDir()))
}

// A mesh is a real Envoy that follows istiod, before a real Coatcheck.
type mesh struct {
	*rig.Stack
	front string
	host  string
}

// start runs a mesh until the test ends.
func (f form) start(t *testing.T, o rig.Options, changes ...func(manifests string) string) *mesh {
	t.Helper()
	front, err := testtools.Addr()
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{front: front, host: "shop.example.com"}
	o.Front, o.Coatcheck = front, coatcheck
	o.Arguments = append([]string{"--policy-file", overlays + "istio/policies.yaml", "--login-url", "/.auth/login"}, o.Arguments...)
	settings := meshConfig(t) + "enableAutoMtls: false\n"
	if o.Patient {
		settings = replaced(t, settings, "timeout: 0.2s", "timeout: 10s")
	}
	manifests := f.manifests(t, front)
	for _, change := range changes {
		manifests = change(manifests)
	}
	o.Bootstrap = func(b *bootstrapv3.Bootstrap) {
		pods, upstream := programs(t, b)
		istiod := startIstiod(t, settings, together(strings.ReplaceAll(manifests, "127.0.0.1:UPSTREAM", upstream), pods), plain...)
		follow(t, b, f.proxy, istiod)
	}
	if m.Stack, err = rig.Start(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("coatcheck:\n%.20000s\nenvoy:\n%.20000s", m.Coatcheck.Output(), m.Envoy.Output())
		}
		m.Close()
	})
	m.acceptsAll(t)
	return m
}

// acceptsAll fails the test if Envoy has refused a part of what istiod told it, and so
// runs without it.
func (m *mesh) acceptsAll(t *testing.T) {
	t.Helper()
	response, err := http.Get(m.Admin + "/stats?filter=update_rejected")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	lines := 0
	for line := range strings.Lines(string(text)) {
		if lines++; !strings.HasSuffix(line, ": 0\n") {
			t.Fatalf("Envoy has refused something: %s\n%s", line, m.Envoy.Output())
		}
	}
	if lines < 2 {
		t.Fatalf("Envoy does not count what it refuses: %s", text)
	}
}

// programs are the pods and endpoints of the Services: the rig's programs, of which the
// clusters of envoy.yaml tell.
func programs(t *testing.T, b *bootstrapv3.Bootstrap) (manifests, upstream string) {
	t.Helper()
	at := func(cluster string) string {
		for _, c := range b.GetStaticResources().GetClusters() {
			if c.GetName() == cluster {
				a := c.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress()
				return net.JoinHostPort(a.GetAddress(), strconv.Itoa(int(a.GetPortValue())))
			}
		}
		t.Fatalf("envoy.yaml has no cluster %s", cluster)
		return ""
	}
	_, number, _ := strings.Cut(at("upstream"), ":")
	target, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	shop := shopPod
	shop.ip, shop.ports = "127.0.0.1", []port{{"http", 8080, target}}
	return together(shop.manifests(),
		endpoints("coatcheck", "coatcheck-mesh", "grpc", at("coatcheck")),
		endpoints("coatcheck", "coatcheck-login", "http", at("login"))), at("upstream")
}

// follow makes Envoy's configuration one that takes all from istiod.
func follow(t *testing.T, b *bootstrapv3.Bootstrap, p proxy, istiod string) {
	t.Helper()
	host, port, _ := strings.Cut(istiod, ":")
	parsed, err := rig.Parse([]byte(fmt.Sprintf(`
dynamic_resources:
  ads_config: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: istiod}}]}
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
static_resources:
  clusters:
  - name: istiod
    type: STATIC
    connect_timeout: 5s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: istiod
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: %s, port_value: %s}}}}]}]
`, host, port)))
	if err != nil {
		t.Fatal(err)
	}
	parsed.Admin, parsed.Node = proto.CloneOf(b.GetAdmin()), p.node()
	proto.Reset(b)
	proto.Merge(b, parsed)
}

// An answer is what a client got, and the request that the upstream received, if any.
type answer struct {
	status int
	header http.Header
	body   string
	sent   *rig.Echoed
}

// identity are the headers that an upstream could take for the client's identity.
func (a answer) identity() map[string]string {
	if a.sent == nil {
		return nil
	}
	found := make(map[string]string)
	for name, values := range a.sent.Headers {
		if normal := strings.Map(dashed, name); strings.HasPrefix(normal, "x-user-") {
			found[name] = strings.Join(values, "|")
		}
	}
	return found
}

// dashed is how the most liberal upstream reads the names of headers.
func dashed(r rune) rune {
	switch {
	case r >= 'A' && r <= 'Z':
		return r + 'a' - 'A'
	case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
		return r
	}
	return '-'
}

// is fails the test unless the answer has this status.
func (a answer) is(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d (%s), want %d", a.status, a.body, status)
	}
	if reached := a.sent != nil; status >= 400 && reached {
		t.Fatalf("the upstream was sent %+v", a.sent)
	}
	return a
}

// send writes an HTTP/1.1 request unchanged: the request line without its version, header
// lines, and behind an empty line a body.
func (m *mesh) send(t *testing.T, request string, lines ...string) answer {
	t.Helper()
	a, err := m.try(request, lines...)
	if err != nil {
		t.Fatalf("%s %q: %v", request, lines, err)
	}
	return a
}

func (m *mesh) try(request string, lines ...string) (answer, error) {
	conn, err := net.Dial("tcp", m.front)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	var body string
	if i := slices.Index(lines, ""); i >= 0 {
		body, lines = strings.Join(lines[i+1:], "\r\n"), append(slices.Clone(lines[:i]), "Content-Length: "+strconv.Itoa(len(strings.Join(lines[i+1:], "\r\n"))))
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", request, m.host)
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n" + body)
	if _, err := conn.Write(b.Bytes()); err != nil {
		return answer{}, err
	}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	a := answer{status: response.StatusCode, header: response.Header, body: string(text)}
	if err == nil && response.Header.Get("Content-Type") == "application/json" && bytes.Contains(text, []byte(`"headers"`)) {
		a.sent = new(rig.Echoed)
		err = json.Unmarshal(text, a.sent)
	}
	return a, err
}

// password is the password of all users.
const password = "correct horse, battery"

var hash = sync.OnceValues(func() (string, error) { return passwords.HashPassword(password) })

// usersFile has Ada, who is an administrator, and Bob, who is not.
func usersFile(t *testing.T) string {
	t.Helper()
	hashed, err := hash()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("- {id: \"42\", username: Ada, password_hash: %q, roles: [staff, admin]}\n- {id: \"7\", username: Bob, password_hash: %q, roles: [staff]}\n", hashed, hashed)
}

// session makes a session beside the mesh, and returns its cookie and key.
func (m *mesh) session(t *testing.T, n sessions.NewSession) (cookie string, key sessions.Key) {
	t.Helper()
	client := m.Redis.Client()
	defer func() { _ = client.Close() }()
	manager, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{MaxPerUser: -1})
	if err != nil {
		t.Fatal(err)
	}
	id, session, err := manager.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return sessions.DefaultCookieName + "=" + id.Reveal(), session.Key
}
