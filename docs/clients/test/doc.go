// Package clients runs the code of docs/clients: each language against the same table of
// cases, with a real Redis, the coatcheck binary, a real Envoy, and the real packages of
// that language. A driver in each language reads a line of JSON for each call.
//
// The packages are fetched by .ci/fetch clients; if one is missing the tests fail, they are
// never skipped.
package clients
