// Package tlsfiles keeps TLS settings on files that change while they are in
// use: certificates are renewed, authorities replaced, without a restart. What a
// new handshake goes by is always one whole set of files; a set that cannot be
// read, or does not fit together, changes nothing.
package tlsfiles

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Files names PEM files, each of which may be empty for none.
type Files struct {
	CertFile string // the certificate and what signed it, in this order
	KeyFile  string // its private key
	CAFile   string // the authorities that sign the other side's certificate
}

// A Source is the set of files as it was last read whole. It is safe for
// concurrent use.
type Source struct {
	files   Files
	current atomic.Pointer[material]
}

// material is what one reading of the files gave.
type material struct {
	raw         [3][]byte
	certificate *tls.Certificate // nil: none
	authorities *x509.CertPool   // nil: none
}

// Open reads the files, or says what is wrong with them.
func Open(f Files) (*Source, error) {
	s := &Source{files: f}
	_, err := s.Reload()
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Reload reads the files again and tells whether they have changed. After an
// error what was read before stays in use.
func (s *Source) Reload() (changed bool, err error) {
	var next material
	for i, name := range []string{s.files.CertFile, s.files.KeyFile, s.files.CAFile} {
		if name == "" {
			continue
		}
		if next.raw[i], err = os.ReadFile(name); err != nil {
			return false, err
		}
	}
	last := s.current.Load()
	if last != nil && slices.EqualFunc(last.raw[:], next.raw[:], bytes.Equal) {
		return false, nil
	}
	if err := next.parse(s.files); err != nil {
		return false, err
	}
	s.current.Store(&next)
	return true, nil
}

func (m *material) parse(f Files) error {
	if f.CertFile != "" {
		// The error of X509KeyPair names neither file, nor does it quote them.
		pair, err := tls.X509KeyPair(m.raw[0], m.raw[1])
		if err != nil {
			return fmt.Errorf("%s and %s: %w", f.CertFile, f.KeyFile, err)
		}
		switch now := time.Now(); {
		case now.After(pair.Leaf.NotAfter):
			return fmt.Errorf("%s: the certificate has expired on %s", f.CertFile, pair.Leaf.NotAfter.UTC().Format(time.DateOnly))
		case now.Before(pair.Leaf.NotBefore):
			return fmt.Errorf("%s: the certificate is not valid before %s", f.CertFile, pair.Leaf.NotBefore.UTC().Format(time.RFC3339))
		}
		m.certificate = &pair
	}
	if f.CAFile != "" {
		var err error
		if m.authorities, err = parseAuthorities(m.raw[2]); err != nil {
			return fmt.Errorf("%s: %w", f.CAFile, err)
		}
	}
	return nil
}

// parseAuthorities takes all of a bundle or nothing. What AppendCertsFromPEM
// passes over may be the rest of a file that is being written, and with it an
// authority that is in use.
func parseAuthorities(bundle []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		block, rest := pem.Decode(bundle)
		if block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, fmt.Errorf("its block %d is no certificate (PEM)", n+1)
		}
		pool.AddCert(certificate)
		bundle = rest
		n++
	}
	switch {
	case bytes.Contains(bundle, []byte("-----BEGIN")):
		return nil, fmt.Errorf("it breaks off in block %d", n+1)
	case n == 0:
		return nil, errors.New("it holds no certificate (PEM)")
	}
	return pool, nil
}

// Expiry is the end of the certificate's validity; zero where there is none.
func (s *Source) Expiry() time.Time {
	if c := s.current.Load().certificate; c != nil {
		return c.Leaf.NotAfter
	}
	return time.Time{}
}

// Watch reads the files each interval until ctx is done, and calls report when
// they have changed (nil) and when they can no longer be used, once for each
// error. It compares contents: renewals come as writes, as renames and, in
// Kubernetes, as a symbolic link that moves, and all of these look alike so. An
// error counts when it is there at two looks in a row: a certificate and its key
// are two files, and between the two writes they do not fit.
func (s *Source) Watch(ctx context.Context, interval time.Duration, report func(error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	seen, told := "", ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		changed, err := s.Reload()
		if err != nil {
			if text := err.Error(); text == seen && text != told {
				told = text
				report(err)
			}
			seen = err.Error()
			continue
		}
		if changed || told != "" {
			report(nil)
		}
		seen, told = "", ""
	}
}

// Server is the configuration of a server that speaks the ALPN protocol. With
// authorities, a client must show a certificate that one of them signed for client
// use, and that bears one of names as DNS name or URI.
func (s *Source) Server(protocol string, names []string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m := s.current.Load()
			c := &tls.Config{
				MinVersion:   tls.VersionTLS12,
				NextProtos:   []string{protocol},
				Certificates: []tls.Certificate{*m.certificate},
				// A resumed session would not be held against new authorities. Envoy's
				// connections are few and long.
				SessionTicketsDisabled: true,
			}
			if m.authorities != nil {
				c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, m.authorities
				c.VerifyConnection = func(state tls.ConnectionState) error { return verifyName(state, names) }
			}
			return c, nil
		},
	}
}

var errName = errors.New("the client's certificate bears none of the names that may connect")

func verifyName(state tls.ConnectionState, names []string) error {
	leaf := state.PeerCertificates[0]
	for _, name := range names {
		if slices.ContainsFunc(leaf.DNSNames, func(n string) bool { return strings.EqualFold(n, name) }) {
			return nil
		}
		for _, uri := range leaf.URIs {
			if uri.String() == name {
				return nil
			}
		}
	}
	return errName
}

// Dialer returns a function that connects with TLS by the files as they are at
// that moment. An empty serverName is the host that is dialled.
func (s *Source) Dialer(timeout time.Duration, serverName string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		m := s.current.Load()
		c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName, RootCAs: m.authorities}
		if m.certificate != nil {
			c.Certificates = []tls.Certificate{*m.certificate}
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		return (&tls.Dialer{Config: c}).DialContext(ctx, network, address)
	}
}
