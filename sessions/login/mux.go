package login

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"
)

// A Method is a way of signing in, such as OpenID Connect or passkeys. The password
// form is one. A Method adds its endpoints, and ends each sign-in that went well in
// [Handler.SignIn].
type Method interface {
	// Mount adds the method's endpoints to m. It is called once, by [New]; h serves
	// no request before New returns.
	Mount(m *Mux, h *Handler)
}

// A Mux collects the endpoints of a Handler.
type Mux struct {
	handler   *Handler
	endpoints map[string]methods
	errs      []error
}

func newMux(h *Handler) *Mux {
	return &Mux{handler: h, endpoints: make(map[string]methods)}
}

// Handle adds an endpoint. The pattern is GET or POST, a blank and a path below the
// base path, such as "GET oidc/callback". HEAD is refused, with 405: programs that look
// at links send it, and it must not use up a link that signs in. A pattern that makes
// no sense or is there already is an error of [New].
//
// Each request has passed the checks of the package: a POST comes from the same
// origin, and the body has at most 16 KiB. Every answer carries the security headers.
//
// An error of serve is answered as JSON or as a page, and is counted and logged as a
// login that failed: the one of [Handler.SignIn] as it is, [ErrBadCredentials] as 401,
// [ErrBusy] as 503, [ErrBadRequest] as 400, the [http.MaxBytesError] of a larger body
// as 413. Any other error is 503, and goes into the log, so it must hold no secret.
//
// Two checks are left to the method. A GET may come from any site: a method that signs
// in by one binds it to the browser that began, as the state of OpenID Connect does.
// And the throttle is the one of the password form: a method whose secret can be
// guessed counts its attempts, see package throttle.
func (m *Mux) Handle(pattern string, serve func(http.ResponseWriter, *http.Request) error) {
	m.handle(pattern, func(w http.ResponseWriter, r *http.Request) *problem {
		if r.Method == http.MethodHead {
			w.Header().Set("Allow", http.MethodGet)
			return &problem{code: methodNotAllowed}
		}
		r = r.WithContext(context.WithValue(r.Context(), arrivalKey{}, time.Now()))
		err := serve(w, r)
		if err == nil {
			return nil
		}
		p := problemOf(r.Context(), err)
		m.handler.record(r, login{problem: p, began: arrival(r)})
		return p
	})
}

func (m *Mux) handle(pattern string, serve serve) {
	method, name, _ := strings.Cut(pattern, " ")
	switch {
	case method != http.MethodGet && method != http.MethodPost, name == "" || path.Clean("/"+name) != "/"+name:
		m.errs = append(m.errs, fmt.Errorf("endpoint %q: it is GET or POST and a path such as oidc/callback", pattern))
		return
	case m.endpoints[name] == nil:
		m.endpoints[name] = make(methods)
	case m.endpoints[name][method] != nil:
		m.errs = append(m.errs, fmt.Errorf("endpoint %q: it is there twice", pattern))
		return
	}
	m.endpoints[name][method] = serve
}
