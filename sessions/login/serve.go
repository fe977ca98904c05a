package login

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/notice"
)

// maxBody bounds what a client may send, in bytes.
const maxBody = 16 << 10

// New returns a Handler, or everything that is wrong with c.
func New(c Config) (*Handler, error) {
	c = c.withDefaults()
	pages, languages, pagesErr := newPages(c)
	if err := errors.Join(c.validate(), pagesErr); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	h := &Handler{
		config: c, pages: pages, languages: languages, crossOrigin: http.NewCrossOriginProtection(),
		policy: contentSecurityPolicy(pages[languages[0]].styleSource, c.ReturnOrigins), logKey: make([]byte, sha256.Size),
	}
	_, _ = rand.Read(h.logKey) // never fails
	var err error
	if h.endpoints, err = h.mount(); err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	if h.metrics, err = newMetrics(c.Metrics); err != nil {
		return nil, fmt.Errorf("login: registering metrics: %w", err)
	}
	if h.notices, err = notice.NewBoard(c.Logger, c.Metrics, notice.TrustedHops, notice.UntrustedProxy, notice.PlainHTTP, notice.UnlistedRecord); err != nil {
		return nil, fmt.Errorf("login: registering metrics: %w", err)
	}
	h.warn()
	return h, nil
}

// mount collects the endpoints of login and of each method of signing in.
func (h *Handler) mount() (map[string]methods, error) {
	m := newMux(h)
	m.endpoints[""] = methods{http.MethodGet: h.toLogin}
	m.handle("GET logout", h.logoutPage)
	m.handle("POST logout", h.logout)
	m.handle("POST logout/everywhere", h.logoutEverywhere)
	m.handle("GET sessions", h.sessionsPage)
	m.handle("POST sessions", h.endSessions)
	m.handle("GET session", h.session)
	if h.config.Users != nil {
		passwordMethod{users: h.config.Users, counters: h.config.Counters}.Mount(m, h)
	}
	for i, method := range h.config.Methods {
		if method == nil {
			m.errs = append(m.errs, fmt.Errorf("methods: number %d is nil", i+1))
			continue
		}
		method.Mount(m, h)
	}
	if m.endpoints["login"][http.MethodGet] == nil {
		m.errs = append(m.errs, errors.New("methods: without users, one of them must serve GET login, where users sign in"))
	}
	return m.endpoints, errors.Join(m.errs...)
}

// warn logs what an operator may have chosen by mistake.
func (h *Handler) warn() {
	if h.config.Cookie.Insecure {
		h.config.Logger.Warn("the session cookie is set without Secure: on plain HTTP an attacker on the way can take over sessions")
	}
	if slices.ContainsFunc(h.config.TrustedProxies, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
		h.config.Logger.Warn("every address is a trusted proxy: a client that reaches login can make up its address")
	}
	if missing := missingTexts(h.config.Lang, h.config.Texts); len(missing) > 0 {
		h.config.Logger.Info("there are no texts in this language but yours: the others are in English", "language", h.config.Lang, "missing", strings.Join(missing, ", "))
	}
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.protect(w.Header())
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if p := h.route(w, r); p != nil {
		h.refuse(w, r, p)
	}
}

// changePassword is where a password manager asks for the page on which a password is
// changed (W3C, A Well-Known URL for Changing Passwords).
const changePassword = "/.well-known/change-password" //nolint:gosec // a path

// endpoint finds what a path names. People type the base path, with its last slash or
// without.
func (h *Handler) endpoint(path string) (methods, bool) {
	if path == changePassword && h.config.PasswordURL != "" {
		return methods{http.MethodGet: h.toChangePassword}, true
	}
	if path+"/" == h.config.BasePath {
		path = h.config.BasePath
	}
	name, below := strings.CutPrefix(path, h.config.BasePath)
	e, ok := h.endpoints[name]
	return e, below && ok
}

// toLogin leads from the base path to the login page.
func (h *Handler) toLogin(w http.ResponseWriter, _ *http.Request) *problem {
	return seeOther(w, h.config.BasePath+"login")
}

func (h *Handler) toChangePassword(w http.ResponseWriter, _ *http.Request) *problem {
	return seeOther(w, escape(h.config.PasswordURL))
}

func (h *Handler) route(w http.ResponseWriter, r *http.Request) *problem {
	e, ok := h.endpoint(r.URL.Path)
	if !ok {
		return &problem{code: notFound}
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	serve, ok := e[method]
	if !ok {
		w.Header().Set("Allow", e.allow())
		return &problem{code: methodNotAllowed}
	}
	if p := h.checkOrigin(r); p != nil {
		return p
	}
	return serve(w, r)
}

func (e methods) allow() string {
	return strings.Replace(strings.Join(slices.Sorted(maps.Keys(e)), ", "), http.MethodGet, "GET, HEAD", 1)
}

// protect sets what every answer carries.
func (h *Handler) protect(header http.Header) {
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", h.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: with it the Origin of our own form posts is "null", so that
	// browsers without Sec-Fetch-Site would be refused.
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	if h.config.HSTS > 0 && !h.config.Cookie.Insecure {
		// Only the proxy in front knows whether the browser came by https; over plain
		// HTTP it ignores this (RFC 6797, section 8.1).
		header.Set("Strict-Transport-Security", fmt.Sprintf("max-age=%.0f", h.config.HSTS.Seconds()))
	}
}

// contentSecurityPolicy names the return origins because Chromium applies
// form-action to the redirects that follow a post, too.
func contentSecurityPolicy(styleSource string, origins []string) string {
	actions := strings.Join(append([]string{"'self'"}, origins...), " ")
	return "default-src 'none'; style-src " + styleSource + "; img-src data:; form-action " + actions +
		"; frame-ancestors 'none'; base-uri 'none'"
}
