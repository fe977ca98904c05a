// Package live runs applications with Express sessions as teams have them, real
// Express, connect-redis, passport and NestJS, beside a real Redis, a real Envoy with
// envoy.yaml and a real Coatcheck with session.format: express. It holds Coatcheck to
// what the application itself says of a session: who is signed in, and how long.
//
// It is a module of its own, so that the product does not depend on its packages.
// The applications are in apps; .ci/fetch live fetches what they need. Where it is
// missing the tests fail, they are never skipped. `make express` runs them.
package live
