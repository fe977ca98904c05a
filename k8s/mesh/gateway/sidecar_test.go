package gateway

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/proto"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
)

const edge = "../../overlays/sidecar/edge/envoy.yaml"

// TestUnixBackend: Envoy Gateway leads checks over a Unix socket, as beside its Envoys.
func TestUnixBackend(t *testing.T) {
	m := start(t)
	m.until(t, 401, "GET /orders")
	ada := m.signIn(t, "ada")
	socket, _ := sidecar(t, m.Stack)
	must(t, m.Coatcheck.Stop()) // and with it login: the socket alone is left
	m.until(t, 503, "GET /orders")
	endpoints := m.backends(t)
	for _, name := range []string{"gateway/coatcheck", "shop/coatcheck"} {
		endpoints[name] = object{"unix": object{"path": socket}}
	}
	m.write(t, overlay(t).onHost(t, m.front, endpoints))
	m.until(t, 200, "GET /orders", ada)
	m.send(t, "GET /orders", "").is(t, 401)
	m.send(t, "GET /admin", "", ada).is(t, 403)
}

// sidecar runs Coatcheck with the configuration of components/uds-sidecar, and returns its
// socket and itself.
func sidecar(t *testing.T, s *rig.Stack) (string, *rig.Process) {
	t.Helper()
	dir := t.TempDir()
	socket, secret := filepath.Join(dir, "check.sock"), filepath.Join(dir, "password")
	must(t, os.WriteFile(secret, []byte(rig.RedisPassword(rig.CheckUser)), 0o600))
	admin, err := testtools.Addr()
	must(t, err)
	p, err := rig.Run("sidecar", coatcheck, nil, "serve", "--config", "../../components/uds-sidecar/coatcheck.yaml", "--listen", "unix://"+socket,
		"--admin-listen", admin, "--redis-addresses", s.Redis.Addr, "--redis-password-file", secret, "--timeout", "9s")
	must(t, err)
	t.Cleanup(func() { _ = p.Stop() })
	must(t, p.Answers(admin))
	return socket, p
}

func parsed(t *testing.T, file string) *bootstrapv3.Bootstrap {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	b, err := rig.Parse(text)
	must(t, err)
	return b
}

// cluster finds one, which must be there.
func cluster(t *testing.T, b *bootstrapv3.Bootstrap, name string) *clusterv3.Cluster {
	t.Helper()
	for _, c := range b.GetStaticResources().GetClusters() {
		if c.GetName() == name {
			return c
		}
	}
	t.Fatalf("there is no cluster %s", name)
	return nil
}

// TestEdge: the Envoy of the overlay is the repository's envoy.yaml with other addresses.
func TestEdge(t *testing.T) {
	want, got := parsed(t, "../../../envoy/envoy.yaml"), parsed(t, edge)
	for _, name := range []string{"coatcheck", "login", "upstream"} {
		cluster(t, got, name).LoadAssignment = cluster(t, want, name).LoadAssignment
	}
	cluster(t, got, "coatcheck").ClusterDiscoveryType = cluster(t, want, "coatcheck").ClusterDiscoveryType
	if !proto.Equal(want, got) {
		t.Errorf("%s differs from envoy/envoy.yaml in more than addresses", edge)
	}
}

// TestSidecar: that Envoy asks the sidecar over the socket, and without it answers 503.
func TestSidecar(t *testing.T) {
	other, err := rig.Start(rig.Options{Coatcheck: coatcheck, Patient: true}) // its Redis is the sidecar's
	must(t, err)
	defer other.Close()
	socket, process := sidecar(t, other)
	s, err := rig.Start(rig.Options{Coatcheck: coatcheck, Patient: true, Bootstrap: func(b *bootstrapv3.Bootstrap) {
		ours := cluster(t, b, "coatcheck")
		proto.Reset(ours)
		proto.Merge(ours, cluster(t, parsed(t, edge), "coatcheck"))
		ours.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetPipe().Path = socket
	}})
	must(t, err)
	defer s.Close()
	must(t, s.Coatcheck.Stop()) // Envoy does not ask this one
	until(t, s.URL+"/orders", http.StatusUnauthorized)
	until(t, s.URL+"/public", http.StatusOK)
	must(t, process.Stop())
	until(t, s.URL+"/public", http.StatusServiceUnavailable)
}

// until asks until the answer has this status.
func until(t *testing.T, url string, want int) {
	t.Helper()
	transport, got := new(http.Transport), 0
	defer transport.CloseIdleConnections()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		must(t, err)
		response, err := transport.RoundTrip(request)
		must(t, err)
		must(t, response.Body.Close())
		if got = response.StatusCode; got == want {
			return
		}
	}
	t.Errorf("%s: %d, and never %d", url, got, want)
}
