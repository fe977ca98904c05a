// Package canonical says which paths, hosts and header names have one reading. A
// check must not see another request than Envoy and the upstream do, so a request
// that programs read in two ways is refused, and not repaired.
package canonical
