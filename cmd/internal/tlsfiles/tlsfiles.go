// Package tlsfiles keeps TLS settings in files that change while they are in use:
// certificates are renewed and authorities replaced without a restart.
//
//	source, err := tlsfiles.Open(files)
//	go source.Watch(ctx, time.Second, nil, report)
//	server := &http.Server{TLSConfig: source.Server("http/1.1", nil)}
//
// A new handshake always uses one whole set of files. A set that cannot be read, or
// whose files do not fit together, changes nothing.
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

	"github.com/coatcheck/coatcheck/internal/filewatch"
)

// Files names PEM files. An empty name stands for no file.
type Files struct {
	CertFile string // the certificate, then the certificates that signed it
	KeyFile  string // its private key
	CAFile   string // the authorities that sign the other side's certificate
}

// A Source is the last set of files that was read whole. It is safe for concurrent
// use.
type Source struct {
	files   Files
	current atomic.Pointer[material]
	servers servers
}

// material is one set of files.
type material struct {
	raw         [3][]byte
	certificate *tls.Certificate // nil: no certificate
	authorities *x509.CertPool   // nil: no authorities
}

// Open reads the files. Its error names the file that cannot be used.
func Open(f Files) (*Source, error) {
	s := &Source{files: f}
	m, err := s.look()
	if err != nil {
		return nil, err
	}
	s.current.Store(m)
	return s, nil
}

// look reads the files. It returns the set in use if they have not changed, so that
// a certificate in use that expires is no error.
func (s *Source) look() (*material, error) {
	m := new(material)
	for i, name := range []string{s.files.CertFile, s.files.KeyFile, s.files.CAFile} {
		if name == "" {
			continue
		}
		var err error
		if m.raw[i], err = os.ReadFile(name); err != nil {
			return nil, err
		}
	}
	if last := s.current.Load(); last != nil && slices.EqualFunc(last.raw[:], m.raw[:], bytes.Equal) {
		return last, nil
	}
	return m, m.parse(s.files)
}

// contents joins the files; PEM holds no zero byte.
func (m *material) contents() []byte { return bytes.Join(m.raw[:], []byte{0}) }

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

// parseAuthorities takes the whole bundle or refuses it. AppendCertsFromPEM passes
// over what it cannot read, which may be the rest of a file that is being written,
// and with it an authority that is in use.
func parseAuthorities(bundle []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for {
		block, rest := pem.Decode(bundle)
		if block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, fmt.Errorf("its block %d is not a certificate (PEM)", n+1)
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

// Expiry returns the end of the certificate's validity, and the zero time without a
// certificate.
func (s *Source) Expiry() time.Time {
	if c := s.current.Load().certificate; c != nil {
		return c.Leaf.NotAfter
	}
	return time.Time{}
}

// Watch looks at the files each interval, and at once after a signal from now, until
// ctx is done. It calls report when new files are in use (nil) and when the files
// can no longer be used. What it finds counts at the second look that finds it: see
// package filewatch.
func (s *Source) Watch(ctx context.Context, interval time.Duration, now <-chan os.Signal, report func(error)) {
	var next *material
	filewatch.Watch(ctx, filewatch.Config{
		Interval: interval, Now: now, InUse: s.current.Load().contents(), Report: report,
		// The files are parsed at each look, since time can make a certificate valid.
		Read: func() (_ []byte, err error) {
			if next, err = s.look(); err != nil {
				return nil, err
			}
			return next.contents(), nil
		},
		Use: func([]byte) error { s.current.Store(next); return nil },
	})
}

// Server returns the configuration of a server that speaks the ALPN protocol. With
// authorities, a client must present a certificate that one of them signed for
// client use and that bears one of names as DNS name or URI.
func (s *Source) Server(protocol string, names []string) *tls.Config {
	return s.server([]string{protocol}, func(c *tls.Config) {
		c.ClientAuth = tls.RequireAndVerifyClientCert
		c.VerifyConnection = func(state tls.ConnectionState) error { return verifyName(state, names) }
	})
}

// ServerForCallers is [Source.Server] for HTTP/1.1 and HTTP/2, and for clients of which the
// server learns who they are: with authorities and without names, a client may present no
// certificate, and one that it presents must be signed by an authority.
func (s *Source) ServerForCallers(names []string) *tls.Config {
	return s.server([]string{"h2", "http/1.1"}, func(c *tls.Config) {
		c.ClientAuth = tls.VerifyClientCertIfGiven
		if len(names) > 0 {
			c.ClientAuth = tls.RequireAndVerifyClientCert
			c.VerifyConnection = func(state tls.ConnectionState) error { return verifyName(state, names) }
		}
	})
}

// server has ask say what clients must present, where there are authorities.
func (s *Source) server(protocols []string, ask func(*tls.Config)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m := s.current.Load()
			c := &tls.Config{
				MinVersion:   tls.VersionTLS12,
				NextProtos:   protocols,
				Certificates: []tls.Certificate{*m.certificate},
				// A resumed session would not be checked against new authorities. Envoy's
				// connections are few and long.
				SessionTicketsDisabled: true,
			}
			if m.authorities != nil {
				c.ClientCAs = m.authorities
				ask(c)
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

// Dialer returns a function that connects with TLS, by the set of files in use at
// that moment. The certificate must bear serverName, or the dialled host if it is
// empty. The protocols are for ALPN.
func (s *Source) Dialer(timeout time.Duration, serverName string, protocols ...string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		m := s.current.Load()
		c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName, RootCAs: m.authorities, NextProtos: protocols}
		if m.certificate != nil {
			c.Certificates = []tls.Certificate{*m.certificate}
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, network, address)
		s.servers.note(address, conn, err)
		return conn, err
	}
}
