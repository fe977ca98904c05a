//go:build tools

// Package programs pins the programs of Envoy Gateway, which the tests above build. They
// are in a module of their own, because they need other versions of what Coatcheck needs.
package programs

import (
	_ "github.com/envoyproxy/gateway/cmd/egctl"
	_ "github.com/envoyproxy/gateway/cmd/envoy-gateway"
)
