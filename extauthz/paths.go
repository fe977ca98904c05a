package extauthz

import (
	"fmt"
	"slices"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical"
)

// Paths says which paths a server takes. It applies to every request on every route:
// Envoy chooses the route by the path, and an upstream that reads the path in another
// way serves what another route guards. Every setting refuses a path that could be
// read in two ways, with [NoncanonicalPath].
type Paths string

// The choices of [Paths], and of the key coatcheck.paths of a route.
const (
	// PathsSafe takes a path of which all programs read the same segments.
	PathsSafe Paths = "safe"
	// PathsParameters takes parameters of segments, too, in the one form
	// ;name=value (RFC 3986, section 3.3). Some upstreams cut them off and others
	// do not, so that /admin;x=1 can be /admin, which is another route's: all routes
	// to such an upstream should ask for the same roles.
	PathsParameters Paths = "parameters"
	// PathsStrict takes a path only in the spelling that rules read: hex digits in
	// upper case, and what RFC 3986 does not allow in a path encoded.
	PathsStrict Paths = "strict"
)

var pathsNames = []Paths{PathsSafe, PathsParameters, PathsStrict}

func (p Paths) validate() error {
	if p == "" || slices.Contains(pathsNames, p) {
		return nil
	}
	return fmt.Errorf("paths %.40q: one of safe, parameters and strict", string(p))
}

// admit reports whether the path of a request target has one reading.
func (p Paths) admit(target string) bool {
	if p == PathsStrict {
		if _, ok := canonical.Path(target); !ok {
			return false
		}
	}
	return canonical.OneReading(target, p == PathsParameters)
}
