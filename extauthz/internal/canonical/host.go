package canonical

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// Host returns the normal form of a Host header: lower case, without a port; an IPv6
// address in brackets, as RFC 5952 writes it; internationalised names as A-labels, as
// browsers send them. It refuses every other host: an empty one, userinfo, commas, a dot
// at the end, a colon without a port, an address in another form (127.1, 0x7f000001,
// [0:0::1]). Other servers were bypassed by letter case (CVE-2021-39155) and by their
// reading of the rest. Underscores are let through, since internal names have them.
//
// Letter case and port are all that the normal form leaves out. Envoy chooses the virtual
// host by no more than that, and what it takes for another host must be one here, too: else
// a rule would match by a name, and the request go where the name does not lead.
func Host(host string) (string, bool) {
	if strings.HasPrefix(host, "[") {
		return ipv6(host)
	}
	name, port, found := strings.Cut(host, ":")
	if found && !isPort(port) || name == "" || len(name) > 253 {
		return "", false
	}
	for rest, more := name, true; more; {
		var label string
		label, rest, more = strings.Cut(rest, ".")
		if !hostLabel(label) {
			return "", false
		}
		if !more && numeric(label) && !dotted(name) {
			return "", false
		}
	}
	name = strings.ToLower(name)
	if strings.Contains(name, "xn--") {
		if ascii, err := idna.Lookup.ToASCII(name); err != nil || ascii != name {
			return "", false
		}
	}
	return name, true
}

func ipv6(host string) (string, bool) {
	inner, rest, closed := strings.Cut(host[1:], "]")
	if !closed || rest != "" && (rest[0] != ':' || !isPort(rest[1:])) {
		return "", false
	}
	address, err := netip.ParseAddr(inner)
	if err != nil || !address.Is6() || address.Is4In6() || address.Zone() != "" || address.String() != strings.ToLower(inner) {
		return "", false
	}
	return "[" + address.String() + "]", true
}

// isPort reports whether s is a port. RFC 3986, section 3.2.3, lets it be empty; Envoy then
// takes the colon for a part of the name.
func isPort(s string) bool {
	return 0 < len(s) && len(s) <= 5 && strings.Trim(s, "0123456789") == ""
}

// hostLabel reports whether s is 1 to 63 letters, digits, - and _, with no - at
// either end.
func hostLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !unreserved(c) || c == '.' || c == '~' {
			return false
		}
	}
	return true
}

// numeric reports whether a host that ends in label is an IPv4 address to a
// browser (WHATWG URL, "ends in a number").
func numeric(label string) bool {
	if strings.Trim(label, "0123456789") == "" {
		return true
	}
	rest, found := strings.CutPrefix(strings.ToLower(label), "0x")
	return found && strings.Trim(rest, "0123456789abcdef") == ""
}

// dotted reports whether name is an IPv4 address of four decimal numbers.
func dotted(name string) bool {
	address, err := netip.ParseAddr(name)
	return err == nil && address.Is4()
}
