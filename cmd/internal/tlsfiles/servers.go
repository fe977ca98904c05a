package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"time"
)

// servers are those that a [Source.Dialer] has met, by their addresses, and when the
// certificates end that they have shown last. It is safe for concurrent use.
type servers struct {
	mu   sync.Mutex
	ends map[string]shown
}

type shown struct{ end, seen time.Time }

// forgotten is after how long a server is forgotten that was not connected to: it may be
// gone, as a node of a Cluster. Connections to those in use are made anew each hour or so.
const forgotten = 3 * time.Hour

// note learns from a handshake. One that fails says something of a certificate only if it
// has expired: of a stranger's nothing is of use.
func (s *servers) note(address string, conn net.Conn, err error) {
	var refused *tls.CertificateVerificationError
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		if over, ok := conn.(*tls.Conn); ok {
			s.show(address, over.ConnectionState().PeerCertificates)
		}
	case errors.As(err, &refused) && errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		s.show(address, refused.UnverifiedCertificates)
	}
}

// show takes the chain that a server has shown, of which the certificate that ends first
// counts.
func (s *servers) show(address string, chain []*x509.Certificate) {
	if len(chain) == 0 {
		return
	}
	first := chain[0].NotAfter
	for _, c := range chain[1:] {
		first = earlier(first, c.NotAfter)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends == nil {
		s.ends = make(map[string]shown)
	}
	s.ends[address] = shown{first, time.Now()}
}

// first is the earliest end; zero: none is known.
func (s *servers) first() (first time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for address, at := range s.ends {
		switch {
		case time.Since(at.seen) > forgotten:
			delete(s.ends, address)
		case first.IsZero():
			first = at.end
		default:
			first = earlier(first, at.end)
		}
	}
	return first
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// ServerExpiry returns when the first of the certificates ends that servers have shown to a
// [Source.Dialer] in the last hours, each the last time; the zero time if none has.
func (s *Source) ServerExpiry() time.Time { return s.servers.first() }
