// Package waysin looks for ways in: it sends requests that two programs read in
// different ways through a real Envoy that runs envoy.yaml, with a real Coatcheck
// and a real Redis, to real upstreams that read paths, methods, headers and
// cookies their own way: Tomcat, Jetty, Express, Django and Werkzeug. What counts
// is the page that the upstream served, not what it was sent: a request without a
// session is never served a page that asks for one, and a request of the staff
// never an administrator's.
//
// Each request also goes through a front without checks, where some requests must be
// served the protected page: this shows that the tests would see a way in.
//
// It is a module of its own, so that the product does not depend on its packages.
// The tests run short; COATCHECK_FULL=1 runs them in full. .ci/fetch fetches
// the upstreams; if one is missing the tests fail, they are never skipped.
package waysin
