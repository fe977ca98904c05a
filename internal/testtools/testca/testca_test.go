package testca_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/internal/testtools/testca"
)

// leaf issues a certificate into files and reads it back with its key.
func leaf(t *testing.T, ca *testca.CA, l testca.Leaf) *x509.Certificate {
	t.Helper()
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	if err := ca.Issue(cert, key, l); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

func TestIssue(t *testing.T) {
	ca, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	other, err := testca.New()
	if err != nil {
		t.Fatal(err)
	}
	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	for name, test := range map[string]struct {
		ca    *testca.CA
		leaf  testca.Leaf
		name  string
		usage x509.ExtKeyUsage
		good  bool
	}{
		"zero as a server":      {ca, testca.Leaf{}, "localhost", server, true},
		"zero as a client":      {ca, testca.Leaf{}, "127.0.0.1", client, true},
		"a name of its own":     {ca, testca.Leaf{DNSNames: []string{"redis.test"}}, "redis.test", server, true},
		"another name":          {ca, testca.Leaf{DNSNames: []string{"redis.test"}}, "localhost", server, false},
		"an address of its own": {ca, testca.Leaf{IPs: []net.IP{net.IPv4(127, 0, 0, 2)}}, "127.0.0.2", server, true},
		"a URI":                 {ca, testca.Leaf{URIs: []string{"spiffe://test/envoy"}}, "", client, true},
		"a client as a server":  {ca, testca.Leaf{Client: true}, "localhost", server, false},
		"a server as a client":  {ca, testca.Leaf{Server: true}, "localhost", client, false},
		"past its end":          {ca, testca.Leaf{NotAfter: time.Now().Add(-time.Second)}, "localhost", server, false},
		"another authority's":   {other, testca.Leaf{}, "localhost", server, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := leaf(t, test.ca, test.leaf).Verify(x509.VerifyOptions{
				DNSName: test.name, Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{test.usage},
			})
			if (err == nil) != test.good {
				t.Errorf("verified with %v", err)
			}
		})
	}
}
