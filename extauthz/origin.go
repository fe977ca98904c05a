package extauthz

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical"
)

// origins are the origins of other sites whose pages may send unsafe requests.
type origins struct{ others []string }

// newOrigins checks a policy's list. Nil stays nil.
func newOrigins(list []string) (*origins, error) {
	if list == nil {
		return nil, nil
	}
	for _, origin := range list {
		scheme, host, ok := splitOrigin(origin)
		if !ok || scheme+"://"+host != strings.ToLower(origin) && !strings.HasPrefix(strings.ToLower(origin), scheme+"://"+host+":") {
			return nil, fmt.Errorf("origin %q: write it as a browser sends it: https://app.example", origin)
		}
		if origin != strings.ToLower(origin) {
			return nil, fmt.Errorf("origin %q: browsers send it in lower case", origin)
		}
	}
	return &origins{list}, nil
}

// splitOrigin reads a serialised origin (RFC 6454, section 6.2). Its host is in
// normal form and without port.
func splitOrigin(origin string) (scheme, host string, ok bool) {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Path != "" || strings.ContainsAny(origin, "?#") {
		return "", "", false
	}
	host, ok = canonical.Host(u.Host)
	return u.Scheme, host, ok
}

// foreign reports whether a page of another site may have sent an unsafe
// request, which the browser would send with the user's cookie (OWASP CSRF
// prevention, "verifying origin with standard headers"). A browser sends an
// Origin with each of these; without one Sec-Fetch-Site, which no script can set, must
// say that the site is the same. Two origins in one request are foreign.
func (o *origins) foreign(r *request) bool {
	switch {
	case o == nil || !r.unsafe():
		return false
	case r.origin == "":
		return r.fetchSite != "same-origin"
	case slices.Contains(o.others, r.origin):
		return false
	}
	// Ports are not compared: cookies ignore them (RFC 6265, section 8.5), and Envoy
	// may have stripped the port of the Host. Where a proxy before Envoy ends TLS, the
	// scheme is http, and the browser's may be either.
	scheme, host, ok := splitOrigin(r.origin)
	own, known := canonical.Host(r.host)
	return !ok || !known || host != own || r.scheme == "https" && scheme != "https"
}

// unsafe reports whether a request may change something (RFC 9110, section 9.2.1).
// Every message through a WebSocket may. Sec-Fetch-Mode also says that a browser opens
// one (Fetch Metadata, W3C), so that the check holds where Envoy's allowed_headers
// hides Upgrade.
func (r *request) unsafe() bool {
	switch r.method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return r.upgrade || r.fetchMode == "websocket"
	}
	return true
}

// preflight reports whether r is a CORS preflight (Fetch standard, section 4.8).
func (r *request) preflight() bool {
	return r.method == "OPTIONS" && r.origin != "" && r.wantsMethod
}
