package web

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/coatcheck/coatcheck/sessions"
)

// A refusal is what a client is told that a handler does not get to see.
type refusal struct {
	status int
	text   string // it does not say the cause
	header string // beside Cache-Control; empty: none
	value  string
}

var (
	anonymous   = refusal{http.StatusUnauthorized, "Sign in to continue.\n", "WWW-Authenticate", "Session"} // not Basic, for which browsers would ask for a password
	forbidden   = refusal{http.StatusForbidden, "You may not do this.\n", "", ""}
	badRequest  = refusal{http.StatusBadRequest, "The request makes no sense.\n", "", ""}
	unavailable = refusal{http.StatusServiceUnavailable, "Try again in a moment.\n", "Retry-After", "1"}
)

// refuse answers a request whose client is not known, for the reason in err.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	g.log(r, err)
	switch {
	case errors.Is(err, errAltered):
		refuse(w, r, badRequest)
	case !sessions.Absent(err):
		refuse(w, r, unavailable)
	case g.login != nil && isNavigation(r):
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Location", sessions.LoginLocation(g.login, target(r)))
		w.WriteHeader(http.StatusFound)
	default:
		refuse(w, r, anonymous)
	}
}

func refuse(w http.ResponseWriter, r *http.Request, why refusal) {
	w.Header().Set("Cache-Control", "no-store")
	if why.header != "" {
		w.Header().Set(why.header, why.value)
	}
	if isGRPC(r) { // its clients make a status of the HTTP status
		w.WriteHeader(why.status)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(why.status)
	_, _ = w.Write([]byte(why.text))
}

// log tells the operator of a fault. That a client is not signed in is none.
func (g *Guard) log(r *http.Request, err error) {
	if sessions.Absent(err) && !errors.Is(err, sessions.ErrBroken) {
		return
	}
	g.logger.LogAttrs(r.Context(), slog.LevelError, "a request without a known session", slog.String("error", err.Error()))
}

// target is what the browser asked for, as it asked: a router before the Guard may have
// changed r.URL.
func target(r *http.Request) string {
	asked := r.RequestURI
	if u, err := url.ParseRequestURI(asked); err != nil || u.Host != "" { // a proxy's form
		asked = r.URL.RequestURI()
	}
	return asked
}

func isGRPC(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// isNavigation reports whether a person will see the answer: only then is a redirect to
// a login page of use (Fetch Metadata, W3C).
func isNavigation(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || isGRPC(r) {
		return false
	}
	for _, name := range []string{"Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-Site", "Sec-Fetch-User"} {
		if len(r.Header.Values(name)) > 0 {
			dest := r.Header.Get("Sec-Fetch-Dest")
			return r.Header.Get("Sec-Fetch-Mode") == "navigate" && (dest == "document" || dest == "")
		}
	}
	for media := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		media, _, _ = strings.Cut(media, ";")
		if strings.EqualFold(strings.TrimSpace(media), "text/html") {
			return true
		}
	}
	return false
}
