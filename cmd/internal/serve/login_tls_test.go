package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// client is a TLS configuration that presents the named certificate, or no certificate
// if the name is empty.
func (i *identities) client(name string) *tls.Config {
	i.Helper()
	pem, err := os.ReadFile(i.path("ca.pem"))
	i.must(err)
	c := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	c.RootCAs.AppendCertsFromPEM(pem)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(i.path(name+".pem"), i.path(name+".key"))
		i.must(err)
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// encrypted configures login with TLS, for ada, beside checks.
func encrypted(t *testing.T, i *identities, redis, more string) *config.Config {
	t.Helper()
	users := filepath.Join(t.TempDir(), "users.yaml")
	writeUsers(t, users, "ada")
	return configure(t, redis, "listen: "+free(t), "admin: {listen: "+free(t)+"}", fmt.Sprintf(
		"login: {listen: %q, users_file: %q, tls: {cert_file: %q, key_file: %q%s}}", free(t), users, i.path("server.pem"), i.path("server.key"), more))
}

// postTLS signs ada in over https, on a connection of its own.
func postTLS(c *config.Config, client *tls.Config) (*http.Response, error) {
	r, err := http.NewRequest(http.MethodPost, "https://"+c.LoginListen+"/.auth/login", strings.NewReader(`{"username": "ada", "password": "`+password+`"}`))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{TLSClientConfig: client}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response, err
}

// TestLoginTLS: passwords travel encrypted, by TLS 1.2 or newer alone; the
// certificate is renewed while it runs, and probes go on over HTTP.
func TestLoginTLS(t *testing.T) {
	t.Parallel() // it waits
	i := newIdentities(t)
	c := encrypted(t, i, redistest.Start(t).Addr, "")
	r := start(t, c)
	signIn := func(when string) *x509.Certificate {
		t.Helper()
		response, err := postTLS(c, i.client(""))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if response.StatusCode != 200 || len(response.Cookies()) != 1 || response.Proto != "HTTP/1.1" || response.TLS.Version != tls.VersionTLS13 {
			t.Fatalf("%s: %v", when, response)
		}
		if got := r.check(t, response.Cookies()[0].Name+"="+response.Cookies()[0].Value); got != 200 {
			t.Errorf("%s: the check answers %d", when, got)
		}
		return response.TLS.PeerCertificates[0]
	}
	first := signIn("first")

	old := i.client("")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err := postTLS(c, old); err == nil {
		t.Error("TLS 1.1 got in")
	}
	stranger := i.client("")
	stranger.RootCAs = x509.NewCertPool()
	if _, err := postTLS(c, stranger); err == nil {
		t.Error("a client trusts an authority that it does not know")
	}
	if status, _ := post(t, c, "ada", password); status != http.StatusBadRequest {
		t.Errorf("plain HTTP: %d", status)
	}
	if status, _ := get(t, "http://"+c.AdminListen+"/readyz"); status != 200 {
		t.Errorf("ready: %d", status)
	}
	r.logs(t, "TLS handshake error")
	r.logs(t, `"tls":true`)
	metrics := awaitsWithout(t, c.AdminListen, "coatcheck_login_handshakes_failed_total 0")
	if !strings.Contains(metrics, `coatcheck_tls_certificate_expiry_timestamp_seconds{source="login_tls"} 1`) {
		t.Error("the metrics do not have the certificate's end")
	}

	i.must(os.WriteFile(i.path("server.pem"), []byte("rubbish"), 0o600))
	awaits(t, c.AdminListen, `coatcheck_reload_failing{source="login_tls"} 1`)
	if got := signIn("with rubbish on disk"); !got.Equal(first) {
		t.Error("another certificate is shown")
	}
	i.issue("server", testca.Leaf{Server: true, NotAfter: time.Now().Add(99 * time.Hour)})
	awaits(t, c.AdminListen, `coatcheck_reload_failing{source="login_tls"} 0`)
	if got := signIn("renewed"); got.Equal(first) {
		t.Error("the former certificate is shown")
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// TestLoginMutualTLS: with authorities, only a proxy by the right name gets in.
func TestLoginMutualTLS(t *testing.T) {
	t.Parallel() // it waits
	i := newIdentities(t)
	i.issue("stranger", testca.Leaf{Client: true, DNSNames: []string{"stranger.test"}})
	c := encrypted(t, i, redistest.Start(t).Addr, fmt.Sprintf(", client_ca_file: %q, client_names: [envoy.test]", i.path("ca.pem")))
	start(t, c)
	if response, err := postTLS(c, i.client("envoy")); err != nil || response.StatusCode != 200 {
		t.Errorf("Envoy: %v, %v", response, err)
	}
	for _, name := range []string{"stranger", ""} {
		if response, err := postTLS(c, i.client(name)); err == nil {
			t.Errorf("%q got in: %v", name, response)
		}
	}
}
