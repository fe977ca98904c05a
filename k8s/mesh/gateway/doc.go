// Package gateway tests the overlay for Envoy Gateway against Envoy Gateway itself. egctl
// translates the overlay as it is, and Envoy Gateway, which reads files instead of asking
// a Kubernetes API, runs a real Envoy with it, in front of a real Coatcheck and a real
// Redis. It is a module of its own, so that it does not change what the product is built
// from.
//
// Envoy Gateway listens on ports that it does not let its operator choose (8081, 18000,
// 19001), so the tests run one at a time.
package gateway
