package serve

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// identities are certificates for a server, and for a client by the name of
// envoy.test, in a directory.
type identities struct {
	*testing.T
	ca  *testca.CA
	dir string
}

func newIdentities(t *testing.T) *identities {
	ca, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	i := &identities{t, ca, t.TempDir()}
	i.must(ca.Write(i.path("ca.pem")))
	i.issue("server", testca.Leaf{Server: true})
	i.issue("envoy", testca.Leaf{Client: true, DNSNames: []string{"envoy.test"}})
	return i
}

func (i *identities) path(name string) string { return filepath.Join(i.dir, name) }

func (i *identities) must(err error) {
	i.Helper()
	if err != nil {
		i.Fatal(err)
	}
}

func (i *identities) issue(name string, leaf testca.Leaf) {
	i.Helper()
	i.must(i.ca.Issue(i.path(name+".pem"), i.path(name+".key"), leaf))
}

// section is the configuration of a listener with mTLS.
func (i *identities) section() string {
	return "tls: {cert_file: " + i.path("server.pem") + ", key_file: " + i.path("server.key") +
		", client_ca_file: " + i.path("ca.pem") + ", client_names: [envoy.test]}"
}

// as is a client that presents the named certificate, or no certificate if the name is
// empty.
func (i *identities) as(name string) credentials.TransportCredentials {
	i.Helper()
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(i.path("ca.pem"))
	i.must(err)
	pool.AppendCertsFromPEM(pem)
	c := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(i.path(name+".pem"), i.path(name+".key"))
		i.must(err)
		c.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(c)
}

// mutual configures mTLS on the gRPC listener and to a Redis that asks for it,
// with a session there.
func mutual(t *testing.T) (i *identities, c *config.Config, cookie string) {
	t.Helper()
	i = newIdentities(t)
	i.issue("coatcheck", testca.Leaf{Client: true, DNSNames: []string{"coatcheck.test"}})
	server := redistest.StartWith(t, redistest.Options{TLS: &redistest.TLS{
		CertFile: i.path("server.pem"), KeyFile: i.path("server.key"), CAFile: i.path("ca.pem"), ClientCerts: true,
	}})
	_, cookie = signIn(t, server)
	c = configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}", i.section())
	c.RedisAddresses, c.RedisTLS = []string{server.TLSAddr}, true
	c.RedisTLSFiles.CAFile, c.RedisTLSFiles.CertFile, c.RedisTLSFiles.KeyFile = i.path("ca.pem"), i.path("coatcheck.pem"), i.path("coatcheck.key")
	return i, c, cookie
}

// TestDocsMetrics: docs/operations.md lists the metrics of a server that uses
// everything and has had a login, and promtool finds no fault with them.
func TestDocsMetrics(t *testing.T) {
	i, c, cookie := mutual(t)
	c.LoginListen, c.Users[usersource.UsersFile], c.CountEvery = free(t), i.path("users.yaml"), time.Hour
	c.NearCache = true
	c.LoginTLS.CertFile, c.LoginTLS.KeyFile = i.path("server.pem"), i.path("server.key")
	writeUsers(t, i.path("users.yaml"), "ada")
	c.APIListen, c.APITimeout = free(t), time.Second
	c.APICallersFile, _ = withCallers(t, oneCaller)
	c.APITLS.CertFile, c.APITLS.KeyFile = i.path("server.pem"), i.path("server.key")
	startAs(t, c, i.as("envoy")).check(t, cookie)
	if response, err := postTLS(c, i.client("")); err != nil || response.StatusCode != 200 {
		t.Fatalf("login: %v, %v", response, err)
	}
	_, metrics := get(t, "http://"+c.AdminListen+"/metrics")
	for _, want := range []string{`coatcheck_logins_total{outcome="success"} 1`, "coatcheck_login_duration_seconds_count 1", "coatcheck_login_hash_queue_full_total 0", "coatcheck_login_hashes_in_flight 0"} {
		if !strings.Contains(metrics, "\n"+want+"\n") {
			t.Errorf("after a login there is no %s", want)
		}
	}
	promtool(t, metrics)
	docsMetrics(t, metrics)
}

// TestMutualTLS: a client that presents the right name is served. Other clients are not,
// and the log and a metric say so. Certificates change while it runs, and Redis is
// reached by mTLS, too.
func TestMutualTLS(t *testing.T) {
	i, c, cookie := mutual(t)
	i.issue("stranger", testca.Leaf{Client: true, DNSNames: []string{"stranger.test"}})
	r := startAs(t, c, i.as("envoy"))
	if got := r.check(t, cookie); got != 200 {
		t.Errorf("Envoy: %d", got)
	}
	for _, name := range []string{"stranger", ""} {
		if err := healthOf(t, c.Listen, i.as(name)); err == nil {
			t.Errorf("%q got in", name)
		}
	}
	r.logs(t, "bears none of the names")
	metrics := awaitsWithout(t, c.AdminListen, "coatcheck_grpc_handshakes_failed_total 0")
	for _, want := range []string{
		`coatcheck_tls_certificate_expiry_timestamp_seconds{source="grpc_tls"} 1`, `coatcheck_tls_certificate_expiry_timestamp_seconds{source="redis_tls"} 1`,
		`coatcheck_reloads_total{result="ok",source="grpc_tls"} 0`, "coatcheck_redis_up 1",
	} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}

	i.must(os.WriteFile(i.path("server.pem"), []byte("rubbish"), 0o600))
	awaits(t, c.AdminListen, `coatcheck_reloads_total{result="error",source="grpc_tls"} 1`, `coatcheck_reload_failing{source="grpc_tls"} 1`)
	if err := healthOf(t, c.Listen, i.as("envoy")); err != nil {
		t.Errorf("with rubbish on disk: %v", err)
	}
	i.issue("server", testca.Leaf{Server: true, NotAfter: time.Now().Add(99 * time.Hour)})
	awaits(t, c.AdminListen, `coatcheck_reload_failing{source="grpc_tls"} 0`)
	if err := healthOf(t, c.Listen, i.as("envoy")); err != nil {
		t.Errorf("with a new certificate: %v", err)
	}
	r.logs(t, "the former contents stay in use")
}

// TestExpiredCertificates: a certificate that expires in use is known by the metric, and
// ends what it is for: no client that looks at it is served on the gRPC port, nor is a
// Redis with one believed. Neither side ever goes on in plain text.
func TestExpiredCertificates(t *testing.T) {
	t.Parallel() // it waits
	i, c, cookie := mutual(t)
	ends := time.Now().Add(12 * time.Second)
	i.issue("server", testca.Leaf{Server: true, NotAfter: ends})
	certified := redistest.StartWith(t, redistest.Options{TLS: &redistest.TLS{
		CertFile: i.path("server.pem"), KeyFile: i.path("server.key"), CAFile: i.path("ca.pem"), ClientCerts: true,
	}})
	way := firstBytes(t, certified.TLSAddr)
	c.RedisAddresses = []string{way.addr}
	r := startAs(t, c, i.as("envoy"))
	if got := r.check(t, cookie); got != 401 { // this Redis is empty
		t.Errorf("before the end: %d", got)
	}
	expiry := fmt.Sprintf(`coatcheck_tls_certificate_expiry_timestamp_seconds{source="grpc_tls"} %g`, float64(ends.Unix()))
	ofRedis := strings.Replace(expiry, "grpc_tls", "redis_server", 1)
	awaits(t, c.AdminListen, expiry, ofRedis)
	time.Sleep(time.Until(ends) + 1100*time.Millisecond)
	if err := healthOf(t, c.Listen, i.as("envoy")); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a client of the gRPC port: %v", err)
	}
	if err := healthOf(t, c.Listen, insecure.NewCredentials()); err == nil {
		t.Error("the gRPC port serves in plain text")
	}
	awaits(t, c.AdminListen, expiry) // it is still the one in use

	admin := certified.Client()
	defer func() { _ = admin.Close() }()
	if err := admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal").Err(); err != nil {
		t.Fatal(err)
	}
	if got := r.check(t, cookie); got != 503 { // on the connection from before the end
		t.Errorf("behind a Redis whose certificate has expired: %d", got)
	}
	r.logs(t, "expired")
	awaits(t, c.AdminListen, ofRedis) // though no connection to it lives
	if plain := way.notTLS(); len(plain) > 0 {
		t.Errorf("connections to Redis that do not begin with a TLS handshake: %q", plain)
	}
}

// A recorder stands before a server, and notes how connections begin.
type recorder struct {
	addr   string
	mu     sync.Mutex
	begins []byte
}

func firstBytes(t *testing.T, to string) *recorder {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{addr: listener.Addr().String()}
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { r.pass(client, to) })
		}
	})
	return r
}

func (r *recorder) pass(client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	first := make([]byte, 1)
	if _, err := io.ReadFull(client, first); err != nil {
		return
	}
	r.mu.Lock()
	r.begins = append(r.begins, first[0])
	r.mu.Unlock()
	_, _ = server.Write(first)
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	_, _ = io.Copy(client, server)
}

// notTLS are the first bytes of connections but for those of a handshake.
func (r *recorder) notTLS() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.ReplaceAll(r.begins, []byte{0x16}, nil)
}

// healthOf asks for the server's health on a connection of its own.
func healthOf(t *testing.T, address string, transport credentials.TransportCredentials) error {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: authv3.Authorization_ServiceDesc.ServiceName})
	return err
}

// awaitListener waits until an address takes connections.
func awaitListener(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return
		}
	}
	t.Fatalf("nothing listens on %s", address)
}

// awaits polls the metrics until they have all of the lines.
func awaits(t *testing.T, admin string, lines ...string) {
	t.Helper()
	var text string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		_, text = get(t, "http://"+admin+"/metrics")
		missing := false
		for _, line := range lines {
			missing = missing || !strings.Contains(text, "\n"+line+"\n")
		}
		if !missing {
			return
		}
	}
	t.Fatalf("the metrics never have %q:\n%s", lines, text)
}

// awaitsWithout polls the metrics until a line is gone, and returns them.
func awaitsWithout(t *testing.T, admin, line string) string {
	t.Helper()
	var text string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, text = get(t, "http://"+admin+"/metrics"); !strings.Contains(text, "\n"+line+"\n") {
			return text
		}
	}
	t.Fatalf("the metrics keep %q:\n%s", line, text)
	return ""
}
