package tlsfiles

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/internal/testtools/testca"
)

// FuzzAuthorities: a bundle is taken whole or refused. What is taken is what the
// standard library finds there, block for block, and nothing is left over.
func FuzzAuthorities(f *testing.F) {
	a, b := bundle(f), bundle(f)
	for _, seed := range [][]byte{
		nil, a, append(bytes.Clone(a), b...), append(bytes.Clone(a), b[:len(b)/2]...), a[:len(a)-3], append([]byte("# a comment\n"), a...),
		bytes.ReplaceAll(a, []byte("CERTIFICATE"), []byte("X509 CRL")), bytes.ReplaceAll(a, []byte("\n"), []byte("\r\n")), append(bytes.Clone(a), "-----BEGIN "...),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		pool, err := parseAuthorities(text)
		blocks, all := 0, true
		for rest := text; ; blocks++ {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				all = all && !bytes.Contains(rest, []byte("-----BEGIN"))
				break
			}
			_, err := x509.ParseCertificate(block.Bytes)
			all = all && err == nil && block.Type == "CERTIFICATE"
		}
		if want := all && blocks > 0; want != (err == nil) || (pool == nil) != (err != nil) {
			t.Fatalf("%d blocks, all of them certificates: %v; %v", blocks, all, err)
		}
		if err != nil {
			return
		}
		theirs := x509.NewCertPool()
		if theirs.AppendCertsFromPEM(text); !pool.Equal(theirs) {
			t.Fatal("the standard library finds other authorities")
		}
	})
}

// FuzzCertificate: a certificate with its key is refused, or it is one that is valid now
// and with which a handshake can be signed; no error quotes the key.
func FuzzCertificate(f *testing.F) {
	ca, err := testca.New()
	if err != nil {
		f.Fatal(err)
	}
	cert, key, err := ca.Pair(testca.Leaf{})
	if err != nil {
		f.Fatal(err)
	}
	_, other, _ := ca.Pair(testca.Leaf{})
	expired, itsKey, _ := ca.Pair(testca.Leaf{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	for _, seed := range [][2][]byte{{cert, key}, {cert, other}, {expired, itsKey}, {key, cert}, {cert, nil}, {append(bytes.Clone(cert), ca.PEM()...), key}, {cert[:len(cert)/2], key}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		m := &material{raw: [3][]byte{cert, key, nil}}
		if err := m.parse(Files{CertFile: "cert.pem", KeyFile: "key.pem"}); err != nil {
			if block, _ := pem.Decode(key); m.certificate != nil || block != nil && len(block.Bytes) > 40 && bytes.Contains([]byte(err.Error()), block.Bytes) {
				t.Fatal(err)
			}
			return
		}
		if now := time.Now(); now.After(m.certificate.Leaf.NotAfter) || now.Before(m.certificate.Leaf.NotBefore) {
			t.Fatal("a certificate out of its time is taken")
		}
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			t.Fatal(err)
		}
	})
}

func bundle(f *testing.F) []byte {
	f.Helper()
	ca, err := testca.New()
	if err != nil {
		f.Fatal(err)
	}
	return ca.PEM()
}
