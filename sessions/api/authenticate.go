package api

import (
	"net/http"
	"strings"
	"time"
)

// authenticate finds who sends a request: by a token, which is then the one credential that
// counts, or by the client's certificate. A token that no caller has does not become a
// certificate's caller, and a token of one caller over the connection of another is neither's:
// a proxy that adds its certificate to other services' calls must not lend them its rights.
func (c *Callers) authenticate(r *http.Request) *Caller {
	var certified *Caller
	// A connection may last longer than the certificate that it began with.
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && time.Now().Before(r.TLS.PeerCertificates[0].NotAfter) {
		certified = c.ofCertificate(r.TLS.PeerCertificates[0])
	}
	lines := r.Header["Authorization"]
	if len(lines) == 0 {
		return certified
	}
	token, ok := bearer(lines)
	if !ok {
		return nil
	}
	caller := c.ofToken(token)
	if caller == nil || certified != nil && certified != caller {
		return nil
	}
	return caller
}

// bearer is the token of an Authorization header (RFC 6750, section 2.1), which must be there
// once.
func bearer(lines []string) (string, bool) {
	if len(lines) != 1 || len(lines[0]) > len("Bearer ")+MaxToken {
		return "", false
	}
	scheme, token, ok := strings.Cut(lines[0], " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || len(token) < MinToken {
		return "", false
	}
	return token, true
}
