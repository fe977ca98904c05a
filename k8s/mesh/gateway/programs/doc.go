// Package programs is empty: its module pins the programs of Envoy Gateway, which the tests
// above build. They are in a module of their own, because they need other versions of what
// Coatcheck needs.
package programs
