package e2e_test

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
)

// TestRotations replaces, under load, the certificates of Coatcheck and of
// Envoy, the authority that signs them, and Redis's password, as
// docs/operations.md says, and with its configuration of Envoy. No request may fail,
// and afterwards the replaced certificate and password must be refused.
func TestRotations(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	password := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(password, []byte(rig.RedisPassword(rig.CheckUser)+"\n"), 0o600))
	s := start(t, rig.Options{
		Replicas: 2, Patient: true, Environment: []string{},
		Arguments: []string{
			"--log-decisions", "faults", "--grpc-max-connection-age", "1s",
			"--tls-cert-file", k.path("coatcheck.pem"), "--tls-key-file", k.path("coatcheck.key"),
			"--tls-client-ca-file", k.path("ca.pem"), "--tls-client-names", "envoy.test",
			"--redis-username", rig.CheckUser, "--redis-password-file", password,
		},
		Bootstrap: func(b *bootstrapv3.Bootstrap) {
			for _, cluster := range b.GetStaticResources().GetClusters() {
				if cluster.GetName() == "coatcheck" {
					cluster.TransportSocket = k.transportSocket()
				}
			}
		},
	})
	c := newClients(t, s, 8)
	former := k.client()
	rotations := count(1, 5)
	for range rotations {
		k.rotate(s)
		rotatePassword(t, s, password)
	}
	sent := c.stop()
	t.Logf("%d rotations, %d requests, %d failed", rotations, sent, c.failed.Load())
	for _, r := range s.Replicas {
		if conn, err := tls.Dial("tcp", r.Checks, former); err == nil {
			_, err = conn.Read(make([]byte, 1)) // the server speaks first, unless it refuses
			if err == nil {
				t.Errorf("%s accepts the former certificate", r.Checks)
			}
			_ = conn.Close()
		}
		metrics := body(t, r.Operator+"/metrics")
		for _, bad := range []string{`coatcheck_reload_failing{source="grpc_tls"} 1`, `coatcheck_reloads_total{result="ok",source="grpc_tls"} 0`} {
			if strings.Contains(metrics, "\n"+bad+"\n") {
				t.Errorf("%s: %s", r.Operator, bad)
			}
		}
	}
}

// keys are certificates in one directory, for both sides.
type keys struct {
	*testing.T
	dir string
	ca  *testca.CA
}

func newKeys(t *testing.T) *keys {
	k := &keys{T: t, dir: t.TempDir()}
	k.newCA()
	must(t, k.ca.Write(k.path("ca.pem")))
	k.issue()
	for _, name := range []string{"certificate.yaml", "authorities.yaml"} {
		must(t, os.WriteFile(k.path(name), k.block(name), 0o600))
	}
	return k
}

func (k *keys) path(name string) string { return filepath.Join(k.dir, name) }

func (k *keys) newCA() {
	ca, err := testca.New()
	must(k.T, err)
	k.ca = ca
}

// issue makes new certificates for both sides.
func (k *keys) issue() {
	must(k.T, k.ca.Issue(k.path("coatcheck.pem"), k.path("coatcheck.key"), testca.Leaf{Server: true}))
	must(k.T, k.ca.Issue(k.path("envoy.pem"), k.path("envoy.key"), testca.Leaf{Client: true, DNSNames: []string{"envoy.test"}}))
}

// client is a client with Envoy's certificate as it is now, that accepts any
// server.
func (k *keys) client() *tls.Config {
	c, err := clientTLS(k.dir)
	must(k.T, err)
	return c
}

// clientTLS is such a client, with the keys of a folder.
func clientTLS(dir string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "envoy.pem"), filepath.Join(dir, "envoy.key"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{pair}}, nil
}

// rotate replaces everything, in the order of docs/operations.md, and lets both
// sides notice each step and connect anew.
func (k *keys) rotate(s *rig.Stack) {
	k.noticed(s, k.issue)
	former := k.ca.PEM()
	k.newCA()
	k.noticed(s, func() { k.write("ca.pem", append(former, k.ca.PEM()...)) })
	k.noticed(s, k.issue)
	k.noticed(s, func() { k.write("ca.pem", k.ca.PEM()) })
}

// noticed makes a change, waits until every Coatcheck and Envoy have taken it up,
// and then until Envoy has a new connection to each.
func (k *keys) noticed(s *rig.Stack, change func()) {
	k.Helper()
	takenUp := func() []int {
		counts := []int{k.counter(s.Admin+"/stats", "cluster.coatcheck.client_ssl_socket_factory.ssl_context_update_by_sds: ")}
		for _, r := range s.Replicas {
			counts = append(counts, k.counter(r.Operator+"/metrics", `coatcheck_reloads_total{result="ok",source="grpc_tls"} `))
		}
		return counts
	}
	connections := func() []int {
		return []int{k.counter(s.Admin+"/stats", "cluster.coatcheck.upstream_cx_total: ")}
	}
	before := takenUp()
	change()
	k.grow(takenUp, before, 1)
	k.grow(connections, connections(), len(s.Replicas)+1) // so that each replica has one of them
}

// grow waits until each of some counters has grown by so much.
func (k *keys) grow(counters func() []int, before []int, by int) {
	k.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		now, grown := counters(), true
		for i := range now {
			grown = grown && now[i] >= before[i]+by
		}
		if grown {
			return
		}
		if time.Now().After(deadline) {
			k.Fatalf("counters stay at %v, where %v should grow by %d", now, before, by)
		}
	}
}

// counter reads a line of a page of counters.
func (k *keys) counter(url, name string) int {
	k.Helper()
	_, rest, found := strings.Cut("\n"+body(k.T, url), "\n"+name)
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(line)
	if !found || err != nil {
		k.Fatalf("%s has no %s", url, name)
	}
	return n
}

// write replaces a file atomically.
func (k *keys) write(name string, content []byte) {
	must(k.T, os.WriteFile(k.path(name+".next"), content, 0o600))
	must(k.T, os.Rename(k.path(name+".next"), k.path(name)))
}

// block is a block of docs/operations.md, with the paths of our directory.
func (k *keys) block(name string) []byte {
	text, err := os.ReadFile("../../docs/operations.md")
	must(k.T, err)
	_, rest, found := strings.Cut(string(text), "```yaml\n# envoy: "+name+"\n")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		k.Fatalf("docs/operations.md has no block for envoy: %s", name)
	}
	return []byte(strings.ReplaceAll(block, "/etc/envoy/coatcheck", k.dir))
}

// transportSocket is the cluster's transport socket of that page.
func (k *keys) transportSocket() *corev3.TransportSocket {
	var tree struct {
		TransportSocket map[string]any `yaml:"transport_socket"`
	}
	must(k.T, yaml.Unmarshal(k.block("cluster"), &tree))
	text, err := json.Marshal(tree.TransportSocket)
	must(k.T, err)
	socket := new(corev3.TransportSocket)
	must(k.T, protojson.Unmarshal(text, socket))
	return socket
}

// rotatePassword replaces the ACL user's password and cuts every connection, so
// that each must be made anew with the new one.
func rotatePassword(t *testing.T, s *rig.Stack, file string) {
	t.Helper()
	former, err := os.ReadFile(file)
	must(t, err)
	old := strings.TrimSpace(string(former))
	next := old + "+"
	admin := s.Redis.Client()
	defer func() { _ = admin.Close() }()
	must(t, admin.Do(t.Context(), "ACL", "SETUSER", rig.CheckUser, ">"+next).Err())
	must(t, os.WriteFile(file+".next", []byte(next), 0o600))
	must(t, os.Rename(file+".next", file))
	must(t, admin.Do(t.Context(), "ACL", "SETUSER", rig.CheckUser, "<"+old).Err())
	must(t, admin.Do(t.Context(), "CLIENT", "KILL", "USER", rig.CheckUser).Err())
	if err := admin.Conn().AuthACL(t.Context(), rig.CheckUser, old).Err(); err == nil {
		t.Error("Redis accepts the former password")
	}
	time.Sleep(time.Second)
}

func body(t *testing.T, url string) string {
	t.Helper()
	response, err := http.DefaultTransport.RoundTrip(request(t, url))
	must(t, err)
	return read(t, response).body
}
