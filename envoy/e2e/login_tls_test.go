package e2e_test

import (
	"net/http"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
)

// TestLoginOverTLS signs in through an Envoy that speaks mutual TLS to login, as in
// docs/operations.md. Login does not answer without it, and Envoy sends no password
// to a server with another authority's certificate.
func TestLoginOverTLS(t *testing.T) {
	k := newKeys(t)
	s := pages(t, rig.Options{
		Arguments: []string{
			"--login-tls-cert-file", k.path("coatcheck.pem"), "--login-tls-key-file", k.path("coatcheck.key"),
			"--login-tls-client-ca-file", k.path("ca.pem"), "--login-tls-client-names", "envoy.test",
		},
		Bootstrap: func(b *bootstrapv3.Bootstrap) {
			for _, cluster := range b.GetStaticResources().GetClusters() {
				if cluster.GetName() == "login" {
					cluster.TransportSocket = withoutALPN(t, k.transportSocket())
				}
			}
		},
	})
	if from(t, s, "127.0.0.2").post(t, "/.auth/login", credentials("Ada", password)).came(t, 303) == "" {
		t.Error("the login sets no cookie")
	}
	stranger := k.client()
	stranger.Certificates, stranger.NextProtos = nil, nil
	for what, get := range map[string]func() (*http.Response, error){
		"in plain text": func() (*http.Response, error) { return http.Get("http://" + s.Login + "/.auth/login") },
		"without a certificate": func() (*http.Response, error) {
			transport := &http.Transport{TLSClientConfig: stranger}
			defer transport.CloseIdleConnections()
			return (&http.Client{Transport: transport}).Get("https://" + s.Login + "/.auth/login")
		},
	} {
		if response, err := get(); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == 200 {
				t.Errorf("login answers %s", what)
			}
		}
	}

	// Login itself starts with a certificate whose authority Envoy does not trust.
	other, err := testca.New()
	must(t, err)
	must(t, other.Issue(k.path("coatcheck.pem"), k.path("coatcheck.key"), testca.Leaf{Server: true}))
	must(t, s.Coatcheck.Stop())
	must(t, s.Start())
	from(t, s, "127.0.0.2").post(t, "/.auth/login", credentials("Ada", password)).came(t, 503)
}

// withoutALPN removes the ALPN of gRPC, which login does not speak.
func withoutALPN(t *testing.T, socket *corev3.TransportSocket) *corev3.TransportSocket {
	t.Helper()
	c := new(tlsv3.UpstreamTlsContext)
	must(t, socket.GetTypedConfig().UnmarshalTo(c))
	c.GetCommonTlsContext().AlpnProtocols = nil
	must(t, socket.GetTypedConfig().MarshalFrom(c))
	return socket
}
