package login

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientAddress is the client's, or the zero Addr where nobody knows, as behind a
// Unix socket. From X-Forwarded-For it takes what the outermost of the trusted
// proxies has appended; everything left of that the client may have made up.
func (h *Handler) clientAddress(r *http.Request) netip.Addr {
	lines := r.Header.Values("X-Forwarded-For")
	connection := parseAddress(r.RemoteAddr)
	hops := h.config.TrustedHops
	if hops == 0 {
		if len(lines) > 0 && (connection.IsPrivate() || connection.IsLoopback()) {
			h.hopsAmiss.Do(func() {
				h.config.Logger.Warn("a proxy sends X-Forwarded-For and trusted hops are 0: its clients share one throttle")
			})
		}
		return connection
	}
	entries := strings.Split(strings.Join(lines, ","), ",")
	if len(entries) < hops {
		return connection
	}
	if address := parseAddress(strings.TrimSpace(entries[len(entries)-hops])); address.IsValid() {
		return address
	}
	return connection
}

// parseAddress takes an address with or without a port. A zone means something
// on its own host only.
func parseAddress(s string) netip.Addr {
	if with, err := netip.ParseAddrPort(s); err == nil {
		return with.Addr().Unmap().WithZone("")
	}
	address, _ := netip.ParseAddr(s)
	return address.Unmap().WithZone("")
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// addressPrefix is whom the throttle takes for one client: /24 of IPv4, about
// the smallest block that a network hands out, and /64 of IPv6, which is one
// household.
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
