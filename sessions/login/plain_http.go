package login

import (
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
)

// Over plain http a browser drops a cookie with Secure, except on the machine itself, so
// that a sign-in there ends in the form again, and leaves a session that no client has. So
// it is refused, but on the browser's own word alone, the Origin: a proxy that says http
// may stand behind a load balancer that ends TLS.

// checkOrigin refuses a post that another site may have made the browser send.
func (h *Handler) checkOrigin(r *http.Request) *problem {
	switch {
	case h.crossOrigin.Check(r) == nil:
		return nil
	case portHidden(r):
		return h.ownPage(r, hiddenPort)
	}
	return &problem{code: crossOrigin}
}

// portHidden reports whether Origin and Host are the same but for a port that only the
// Origin has. Such a post is very likely from the site's own page, by a port that the
// proxy takes from the Host (Envoy's strip_any_host_port). But it may come from another
// program of the same host: only Sec-Fetch-Site can tell, which browsers send over https,
// and to localhost.
func portHidden(r *http.Request) bool {
	origin := originOf(r)
	return origin != nil && origin.Port() != "" && r.Header.Get("Sec-Fetch-Site") == "" && strings.EqualFold(origin.Hostname(), bareHost(r.Host)) && !hasPort(r.Host)
}

// checkScheme refuses a sign-in on a page that the browser has by plain http, where it
// would drop the cookie.
func (h *Handler) checkScheme(r *http.Request) *problem {
	origin := originOf(r)
	if h.config.Cookie.Insecure || origin == nil || origin.Scheme != "http" || loopback(origin.Hostname()) {
		return nil
	}
	return h.ownPage(r, plainHTTP)
}

// ownPage refuses a post of our own page, and tells the operator, who has to act, once a
// second at most.
func (h *Handler) ownPage(r *http.Request, c code) *problem {
	if now := time.Now().Unix(); h.originLine.Swap(now) != now {
		origin := originOf(r)
		h.config.Logger.WarnContext(r.Context(), "a post of login's own page was refused",
			"code", string(c), "origin_scheme", origin.Scheme, "origin_port", origin.Port(), "host", hostText(r.Host), "cookie", h.cookieName(), "cure", originCures[c])
	}
	return &problem{code: c}
}

var originCures = map[code]string{
	plainHTTP:  "serve the page by https: over plain http browsers drop a cookie with Secure, except on localhost",
	hiddenPort: "serve the page by https, or on the usual port, or leave strip_any_host_port out of Envoy's configuration: it takes the port from the Host, which then is not the Origin's",
}

// plainHTTPHint reports whether the form should say that it may have come by plain http,
// and tells the operator once. It goes by a trusted proxy's word. A browser that sends
// any Sec-Fetch header has the page by https, or from localhost (Fetch Metadata, section
// 2), also where the proxy says http.
func (h *Handler) plainHTTPHint(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	if h.config.Cookie.Insecure || !strings.EqualFold(strings.TrimSpace(scheme), "http") || loopback(bareHost(r.Host)) || r.Header.Get("Sec-Fetch-Site")+r.Header.Get("Sec-Fetch-Mode") != "" {
		return false
	}
	if h.config.TrustedHops == 0 || !h.trusts(parseAddress(r.RemoteAddr)) {
		return false
	}
	h.notices.Say(notice.PlainHTTP, slog.String("x_forwarded_proto", "http"), slog.String("host", hostText(r.Host)), slog.String("cookie.name", h.cookieName()))
	return true
}

func (h *Handler) cookieName() string {
	if h.config.Cookie.Name == "" {
		return sessions.DefaultCookieName
	}
	return h.config.Cookie.Name
}

// originOf is the page's origin as the browser says it, or nil.
func originOf(r *http.Request) *url.URL {
	lines := r.Header.Values("Origin")
	if len(lines) != 1 {
		return nil
	}
	u, err := url.Parse(lines[0])
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil
	}
	return u
}

// bareHost is a host without its port and brackets.
func bareHost(host string) string { return (&url.URL{Host: host}).Hostname() }

func hasPort(host string) bool { return (&url.URL{Host: host}).Port() != "" }

// loopback reports whether browsers take a host for the machine itself, with which they
// talk in plain text as safely (Secure Contexts, section 3.1).
func loopback(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// hostText is a Host that is safe to log: of the letters of names and addresses, and of
// labels that are too short to hold a session ID.
func hostText(host string) string {
	const maxName, idLength = 253, 43 // RFC 1035, section 3.1; a session ID's characters
	odd := func(r rune) bool {
		return r != '.' && r != '-' && r != ':' && r != '[' && r != ']' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}
	if len(host) > maxName+len(":65535") || strings.ContainsFunc(host, odd) {
		return "(not a host name)"
	}
	for label := range strings.FieldsFuncSeq(host, func(r rune) bool { return strings.ContainsRune(".:[]", r) }) {
		if len(label) >= idLength {
			return "(redacted)"
		}
	}
	return host
}
