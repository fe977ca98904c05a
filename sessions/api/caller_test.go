package api

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// TestCertificateNames: a caller's DNS name counts where it is a DNS name of the certificate, and
// its URI where it is a URI, since an authority may look at one kind alone; a certificate that
// has ended on an open connection is no caller's any more.
func TestCertificateNames(t *testing.T) {
	const dns, spiffe, urn = "billing.example.org", "spiffe://example.org/shop", "urn:example:Chat"
	callers, err := NewCallers([]Caller{
		{Name: "billing", Certificate: "Billing.example.org", Rights: []Right{Get}}, {Name: "shop", Certificate: spiffe, Rights: []Right{Get}},
		{Name: "chat", Certificate: urn, Rights: []Right{Get}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		what, dns, uri string
		left           time.Duration
		want           string
	}{
		{"a DNS name", dns, "", time.Hour, "billing"},
		{"a DNS name in capitals", "BILLING.example.org", "", time.Hour, "billing"},
		{"a URI", "", spiffe, time.Hour, "shop"},
		{"a URI of another kind", "", urn, time.Hour, "chat"},
		{"a URI in another case", "", "spiffe://example.org/Shop", time.Hour, ""},
		{"a URI that is a DNS name", "", dns, time.Hour, ""},
		{"a DNS name that is a URI", spiffe, "", time.Hour, ""},
		{"two callers", dns, spiffe, time.Hour, ""},
		{"one that has ended", dns, "", -time.Second, ""},
	} {
		leaf := &x509.Certificate{NotAfter: time.Now().Add(test.left)}
		if test.dns != "" {
			leaf.DNSNames = []string{test.dns}
		}
		if test.uri != "" {
			uri, err := url.Parse(test.uri)
			if err != nil {
				t.Fatal(err)
			}
			leaf.URIs = []*url.URL{uri}
		}
		q := httptest.NewRequest(http.MethodPost, "/", nil)
		q.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
		got := ""
		if caller := callers.authenticate(q); caller != nil {
			got = caller.Name
		}
		if got != test.want {
			t.Errorf("%s: the caller %q, want %q", test.what, got, test.want)
		}
	}
}
