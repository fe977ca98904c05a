package login

import (
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/notice"
)

// clientAddress is the client's address, or the zero Addr where it is unknown, as
// behind a Unix socket. From X-Forwarded-For it takes the addresses that trusted
// proxies have appended, from the last one back, over at most as many as there are
// hops. The client may have made up every entry further left, and so may a peer that
// is not a trusted proxy.
func (h *Handler) clientAddress(r *http.Request) netip.Addr {
	client := parseAddress(r.RemoteAddr)
	lines := r.Header.Values("X-Forwarded-For")
	if h.config.TrustedHops == 0 {
		if len(lines) > 0 && (client.IsPrivate() || client.IsLoopback()) {
			h.notices.Say(notice.TrustedHops, slog.Int("login.trusted_hops", 0), slog.String("address", addressText(client)))
		}
		return client
	}
	entries := strings.Split(strings.Join(lines, ","), ",")
	for hop := range min(h.config.TrustedHops, len(entries)) {
		if !h.trusts(client) {
			if len(lines) > 0 { // a proxy that is not named, or a client that came by fewer
				h.notices.Say(notice.UntrustedProxy, slog.Int("login.trusted_hops", h.config.TrustedHops), slog.String("address", addressText(client)))
			}
			break
		}
		forwarded := parseAddress(strings.TrimSpace(entries[len(entries)-1-hop]))
		if !forwarded.IsValid() {
			break
		}
		client = forwarded
	}
	return client
}

// trusts reports whether the entry that proxy appends to X-Forwarded-For is believed.
// A peer of a Unix socket has no address.
func (h *Handler) trusts(proxy netip.Addr) bool {
	if !proxy.IsValid() {
		return h.config.TrustUnix
	}
	return slices.ContainsFunc(h.config.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(proxy) })
}

// parseAddress reads an address with or without a port, without its zone, which has a
// meaning on its own host only.
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
