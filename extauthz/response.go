package extauthz

import (
	"net/http"

	"github.com/coatcheck/coatcheck/extauthz/internal/answer"
	"github.com/coatcheck/coatcheck/sessions"
)

// retryAfter is what a 503 advises, in seconds: about the time that a store needs to
// be in use again once it is back.
const retryAfter = "1"

// pagePolicy keeps an operator's page from running scripts and from being framed (ASVS
// 5.0, 3.4.3 and 3.4.6). It may hold styles, and may use styles, images, fonts and forms
// of the same host.
const pagePolicy = "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// respond makes the answer to Envoy. This file is the only one that says what is in it;
// package answer knows how Envoy's messages hold it.
func (s *Server) respond(r *request, d *decision) *answer.Answer {
	a := r.own().newAnswer()
	a.Metadata = metadata(a.Metadata, d)
	if d.allow {
		s.allowed(a, r, d)
		return a
	}
	class := d.reason.info().class
	a.Code, a.Status = denials[class].code, denials[class].status
	denied(a, r, d, class)
	return a
}

// lastResort is a denial that uses no part of a request or of a server.
func lastResort() *answer.Answer {
	return &answer.Answer{
		Code: denials[unavailable].code, Status: denials[unavailable].status,
		Set:      []header{{Name: "cache-control", Value: "no-store"}, {Name: "retry-after", Value: retryAfter}},
		Metadata: []header{{Name: "reason", Value: string(Internal)}},
	}
}

// allowed sets the identity, and removes every header that could be taken for one.
func (s *Server) allowed(a *answer.Answer, r *request, d *decision) {
	a.Set, a.Remove = d.policy.headers.identity(d.identity.session, &r.own().texts, a.Set, a.Remove)
	a.Remove = s.bare.plain.headers.strip(r.managed, a.Set, a.Remove)
	if !s.config.KeepCookie {
		s.cutCredentials(a, r)
	}
}

// cutCredentials keeps the session ID from the upstream. An Authorization header
// that holds one is removed whole, because it should hold nothing else.
func (s *Server) cutCredentials(a *answer.Answer, r *request) {
	if rest, found := s.cutCookie(r); found && rest == "" {
		a.Remove = append(a.Remove, "cookie")
	} else if found {
		a.Set = append(a.Set, header{Name: "cookie", Value: rest})
	}
	if s.config.Bearer && sessions.HoldsBearer(r.authorization) {
		a.Remove = append(a.Remove, "authorization")
	}
}

// cutCookie returns the request's cookies without the session's, and whether that was there.
func (s *Server) cutCookie(r *request) (rest string, found bool) {
	if s.config.Format != nil {
		return s.config.Format.Cut(r.cookies)
	}
	return r.own().texts.cut(s.config.Cookie, r.cookies)
}

// denied makes a refusal in the form that suits the client: a redirect or a page for a
// person, a status for a program, and no body for gRPC, since Envoy makes the gRPC
// status of the HTTP status and the body.
func denied(a *answer.Answer, r *request, d *decision, c class) {
	f := d.policy.refusal
	a.Set = append(a.Set, header{Name: "cache-control", Value: "no-store"})
	if location := f.location(r, c); location != "" {
		a.Status = http.StatusFound
		a.Set = append(a.Set, header{Name: "location", Value: location})
		return
	}
	switch c {
	case anonymous:
		// Not Basic, for which browsers would ask for a password.
		a.Set = append(a.Set, header{Name: "www-authenticate", Value: "Session"})
	case unavailable:
		a.Set = append(a.Set, header{Name: "retry-after", Value: retryAfter})
	}
	a.Body, a.Set = f.body(r, c, d.identity.session != nil, a.Set)
}

// metadata adds what is for Envoy's access log, under envoy.filters.http.ext_authz.
func metadata(fields []header, d *decision) []header {
	fields = append(fields, header{Name: "reason", Value: string(d.reason)})
	if d.identity.session != nil {
		fields = append(fields, header{Name: "session", Value: d.identity.session.Key.Handle()})
	}
	if d.policy.name != "" {
		fields = append(fields, header{Name: "policy", Value: d.policy.name})
	}
	return fields
}

// status is the HTTP status of a decision. It is 0 where the request is allowed,
// because the upstream decides the status.
func (d *decision) status(r *request) int {
	if d.allow {
		return 0
	}
	class := d.reason.info().class
	if d.policy.refusal.location(r, class) != "" {
		return http.StatusFound
	}
	return denials[class].status
}
