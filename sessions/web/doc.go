// Package web puts sessions in front of the http.Handlers of a Go service. A service
// that reads the session cookie itself writes these lines:
//
//	guard, err := web.New(manager, web.Config{LoginURL: "/.auth/login"})
//	http.Handle("/", guard.Require(pages))           // signed in, or sent to sign in
//	http.Handle("/admin", guard.Require(admin, "admin", "ops")) // with one of these roles
//	session := web.FromContext(r.Context())          // in pages and admin
//
// A service behind Envoy and Coatcheck needs no store, because the check is done. It
// takes the identity from the headers that Coatcheck sets:
//
//	guard, err := web.Behind(web.HeaderConfig{})
//	http.Handle("/", guard.Require(pages))
//
// # Behind Coatcheck
//
// Headers are believed, not verified: with [Behind] the service must be reachable
// through Envoy only, by a network policy, mTLS or a Unix socket. A client that reaches
// it in another way is who it says it is.
//
// Coatcheck sends each header at most once, in one spelling, never empty, and encoded
// in one way. A request in which that is not so, such as two lines of X-User-Id, a
// X_User_Id, or an encoding that Coatcheck does not make, has met a program that added
// to it, and is refused with 400, also by [Guard.Optional].
//
// # How a request is decided
//
// As Coatcheck decides it (README.md, "How a request is decided"); tests compare the
// two, but for the page that Coatcheck shows a person, for which a Guard has one sentence:
//
//	live session                          the handler, with the session in the context
//	no, malformed or repeated cookie;     401 with WWW-Authenticate: Session; 302 to the
//	unknown, expired or broken session    login URL, with the return address in rd, for a
//	                                      GET or HEAD that a person looks at
//	live session without the role         403
//	store down or late, unknown layout    503 with Retry-After; the cookie is kept
//
// Every refusal carries Cache-Control: no-store; to gRPC it has no body. Its body is one
// plain sentence, also for a person, to whom the check shows a page. No cookie is
// cleared. A WebSocket is checked once, when it begins. Requests that other sites' pages
// send are for http.CrossOriginProtection, in front of or behind a Guard.
package web
