package login

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// validateOrigin takes an origin as browsers write it in the Origin header, so
// that what begins with it and goes on with a slash is of that origin.
func validateOrigin(s string) error {
	bad := fmt.Errorf("return origin %q: it is such as https://app.example.com or http://localhost:3000, without a path", s)
	scheme, host, ok := strings.Cut(s, "://")
	if !ok || scheme != "https" && scheme != "http" {
		return bad
	}
	if literal, err := netip.ParseAddrPort(host); err == nil && literal.String() == host && literal.Port() > 0 {
		return nil
	}
	if inside, ok := strings.CutPrefix(host, "["); ok {
		if address, err := netip.ParseAddr(strings.TrimSuffix(inside, "]")); err == nil && "["+address.String()+"]" == host && address.Zone() == "" {
			return nil
		}
		return bad
	}
	name, port, hasPort := strings.Cut(host, ":")
	if n, err := strconv.ParseUint(port, 10, 16); hasPort && (err != nil || n == 0 || strconv.FormatUint(n, 10) != port) {
		return bad
	}
	notInName := func(r rune) bool { return r != '-' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }
	if name == "" || strings.ContainsFunc(name, notInName) {
		return bad
	}
	return nil
}
