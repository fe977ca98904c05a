package login

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// clientAddress is the client's, or the zero Addr where nobody knows, as behind a
// Unix socket. From X-Forwarded-For it takes the addresses that trusted proxies
// have appended, from the last one back over at most as many as there are hops.
// Everything left of that the client may have made up, and so may a peer that connects
// without being a trusted proxy.
func (h *Handler) clientAddress(r *http.Request) netip.Addr {
	client := parseAddress(r.RemoteAddr)
	lines := r.Header.Values("X-Forwarded-For")
	if h.config.TrustedHops == 0 {
		if len(lines) > 0 && (client.IsPrivate() || client.IsLoopback()) {
			h.hopsAmiss.Do(func() {
				h.config.Logger.Warn("a proxy sends X-Forwarded-For and trusted hops are 0: its clients share one throttle")
			})
		}
		return client
	}
	entries := strings.Split(strings.Join(lines, ","), ",")
	for hop := range min(h.config.TrustedHops, len(entries)) {
		if !h.trusts(client) {
			if len(lines) > 0 {
				h.warnOfProxy(client)
			}
			break
		}
		told := parseAddress(strings.TrimSpace(entries[len(entries)-1-hop]))
		if !told.IsValid() {
			break
		}
		client = told
	}
	return client
}

// trusts reports whether what proxy appends to X-Forwarded-For is believed. What
// connects over a Unix socket has no address.
func (h *Handler) trusts(proxy netip.Addr) bool {
	if !proxy.IsValid() {
		return h.config.TrustUnix
	}
	return slices.ContainsFunc(h.config.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(proxy) })
}

// warnOfProxy says once which address sends X-Forwarded-For in vain: a proxy that
// is not named, or a client that came by fewer proxies.
func (h *Handler) warnOfProxy(address netip.Addr) {
	h.proxyAmiss.Do(func() {
		h.config.Logger.Warn("X-Forwarded-For from an address that is no trusted proxy is not believed", "address", addressText(address))
	})
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

// addressSite is the /48 of an IPv6 address, which tunnel brokers and many
// networks give to one customer, who has 65,536 prefixes then. IPv4 has nothing
// like it, and of an IPv4 address it is empty: one /16 may be a whole country's
// phones.
func addressSite(a netip.Addr) string {
	if !a.Is6() {
		return ""
	}
	prefix, _ := a.Prefix(48)
	return prefix.String()
}
