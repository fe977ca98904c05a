package login

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// maxBody bounds what a client may send, in bytes.
const maxBody = 16 << 10

// A Handler serves the endpoints below its base path, and 404 elsewhere. It is
// safe for concurrent use.
type Handler struct {
	config      Config
	endpoints   map[string]endpoint
	crossOrigin *http.CrossOriginProtection
	pages       *pages
	metrics     *metrics
	policy      string // Content-Security-Policy
	logKey      []byte // random
	hopsAmiss   sync.Once
	proxyAmiss  sync.Once
}

// An endpoint is a path below the base path. It answers, or returns why not.
type endpoint struct {
	get   bool // and HEAD
	post  bool
	serve func(http.ResponseWriter, *http.Request) *refusal
}

// New returns a Handler, or everything that is wrong with c.
func New(c Config) (*Handler, error) {
	c = c.withDefaults()
	pages, pagesErr := newPages(c)
	if err := errors.Join(c.validate(), pagesErr); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	h := &Handler{
		config: c, pages: pages, crossOrigin: http.NewCrossOriginProtection(),
		policy: contentSecurityPolicy(pages.styleHash, c.ReturnOrigins), logKey: make([]byte, sha256.Size),
	}
	_, _ = rand.Read(h.logKey) // never fails
	h.endpoints = map[string]endpoint{
		"login":             {get: true, post: true, serve: h.login},
		"logout":            {get: true, post: true, serve: h.logout},
		"logout/everywhere": {post: true, serve: h.logoutEverywhere},
		"sessions":          {get: true, post: true, serve: h.sessions},
		"session":           {get: true, serve: h.session},
	}
	var err error
	if h.metrics, err = newMetrics(c.Metrics); err != nil {
		return nil, fmt.Errorf("login: registering metrics: %w", err)
	}
	if c.Cookie.Insecure {
		c.Logger.Warn("the session cookie is set without Secure: on plain HTTP everybody on the way can take over sessions")
	}
	if slices.ContainsFunc(c.TrustedProxies, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
		c.Logger.Warn("every address is a trusted proxy: whoever reaches login can make up the client's address")
	}
	return h, nil
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.protect(w.Header())
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if no := h.route(w, r); no != nil {
		h.refuse(w, r, no)
	}
}

func (h *Handler) route(w http.ResponseWriter, r *http.Request) *refusal {
	name, _ := strings.CutPrefix(r.URL.Path, h.config.BasePath)
	e, ok := h.endpoints[name]
	if !ok || !strings.HasPrefix(r.URL.Path, h.config.BasePath) {
		return &refusal{code: notFound}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		ok = e.get
	case http.MethodPost:
		ok = e.post
	default:
		ok = false
	}
	if !ok {
		w.Header().Set("Allow", e.allow())
		return &refusal{code: methodNotAllowed}
	}
	if err := h.crossOrigin.Check(r); err != nil {
		return &refusal{code: crossOrigin}
	}
	return e.serve(w, r)
}

func (e endpoint) allow() string {
	switch {
	case e.get && e.post:
		return "GET, HEAD, POST"
	case e.get:
		return "GET, HEAD"
	}
	return "POST"
}

// protect sets what every answer carries.
func (h *Handler) protect(header http.Header) {
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", h.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: with it the Origin of our own form posts is "null", which
	// browsers without Sec-Fetch-Site would be refused for.
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	if h.config.HSTS > 0 && !h.config.Cookie.Insecure {
		// Whether the browser came by https only the proxy in front knows; over plain
		// HTTP it is to ignore this (RFC 6797, section 8.1).
		header.Set("Strict-Transport-Security", fmt.Sprintf("max-age=%.0f", h.config.HSTS.Seconds()))
	}
}

// contentSecurityPolicy names the return origins because Chromium applies
// form-action to the redirects that follow a post, too.
func contentSecurityPolicy(styleHash string, origins []string) string {
	actions := strings.Join(append([]string{"'self'"}, origins...), " ")
	return "default-src 'none'; style-src '" + styleHash + "'; img-src data:; form-action " + actions +
		"; frame-ancestors 'none'; base-uri 'none'"
}

// seeOther leads a browser to location with a GET. net/http's Redirect would
// rewrite the path.
func seeOther(w http.ResponseWriter, location string) *refusal {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
	return nil
}
