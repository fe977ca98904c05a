// Package testca is a certificate authority for tests: it lives as long as the
// test, and signs certificates for servers and clients on this machine.
package testca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// A CA signs certificates. It is safe for concurrent use.
type CA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// A Leaf says what a certificate holds. The zero Leaf is one for localhost,
// 127.0.0.1 and ::1, good for servers and clients, for a day.
type Leaf struct {
	// DNSNames, URIs and IPs are the subject's alternative names. Without any of
	// them the names are those of this machine.
	DNSNames []string
	URIs     []string
	IPs      []net.IP
	// NotBefore and NotAfter are the time in which it is valid. Zero: from an hour
	// ago, to a day from now.
	NotBefore, NotAfter time.Time
	// Server and Client are what it may be used for. Neither: both.
	Server, Client bool
}

// New makes an authority with a key of its own, valid for two days.
func New() (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "test authority " + rand.Text()[:8]},
		NotBefore:             time.Now().Add(-24 * time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	cert, err := sign(template, nil, key, key)
	if err != nil {
		return nil, err
	}
	return &CA{cert: cert, key: key}, nil
}

// PEM is the authority's certificate.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// Pool holds the authority alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Write writes the authority's certificate to a file.
func (ca *CA) Write(path string) error { return replace(path, ca.PEM()) }

// Issue writes a new certificate and its key to files, the key readable by
// this user alone. Files that are there are replaced whole, each at a stroke.
func (ca *CA) Issue(certPath, keyPath string, leaf Leaf) error {
	cert, key, err := ca.Pair(leaf)
	if err != nil {
		return err
	}
	if err := replace(keyPath, key); err != nil {
		return err
	}
	return replace(certPath, cert)
}

// Pair returns a new certificate and its key as PEM, as [tls.X509KeyPair]
// takes them.
func (ca *CA) Pair(leaf Leaf) (cert, key []byte, err error) {
	template, err := leaf.template()
	if err != nil {
		return nil, nil, err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	signed, err := sign(template, ca.cert, private, ca.key)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed.Raw})
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (l Leaf) template() (*x509.Certificate, error) {
	t := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "test"},
		NotBefore: l.NotBefore,
		NotAfter:  l.NotAfter,
		KeyUsage:  x509.KeyUsageDigitalSignature,
		DNSNames:  l.DNSNames, IPAddresses: l.IPs,
	}
	for _, text := range l.URIs {
		uri, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("testca: %w", err)
		}
		t.URIs = append(t.URIs, uri)
	}
	if t.DNSNames == nil && t.URIs == nil && t.IPAddresses == nil {
		t.DNSNames, t.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = time.Now().Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if l.Server || !l.Client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if l.Client || !l.Server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	return t, nil
}

// sign signs template for subject's key with signer's; without a parent it
// signs itself.
func sign(template, parent *x509.Certificate, subject, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	if parent == nil {
		parent = template
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, subject.Public(), signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// replace writes a file that a reader sees either as it was or as it is.
func replace(path string, content []byte) error {
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".next")
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return err
	}
	return os.Rename(next, path)
}
