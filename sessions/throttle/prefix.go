package throttle

import "net/netip"

// addressPrefix is what counts as one client: /24 of IPv4, about the smallest block
// that a network hands out, and /64 of IPv6, which is one household.
func addressPrefix(a netip.Addr) string {
	if !a.IsValid() {
		return "unknown"
	}
	bits := 64
	if a.Is4() {
		bits = 24
	}
	prefix, _ := a.Prefix(bits) // fails for more bits than there are
	return prefix.String()
}

// addressSite is the /48 of an IPv6 address, which tunnel brokers and many
// networks give to one customer, who then has 65,536 prefixes. An IPv4 address has
// no site, because one /16 may be the phones of a whole country.
func addressSite(a netip.Addr) string {
	if !a.Is6() {
		return ""
	}
	prefix, _ := a.Prefix(48)
	return prefix.String()
}
