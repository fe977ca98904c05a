package login

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/sessions"
)

// returnTo is where a login may lead back to: rd, if it is a path of this origin
// or begins with one of the origins on the list, else "/". It is never the
// login page itself.
func (h *Handler) returnTo(rd string) string {
	if len(rd) > sessions.MaxReturn {
		return "/"
	}
	for _, origin := range h.config.ReturnOrigins {
		if rest, ok := strings.CutPrefix(rd, origin); ok && (rest == "" || pathBehind(rest)) {
			return origin + escape(rest)
		}
	}
	if !sessions.IsLocalPath(rd) || h.loginAgain(rd) {
		return "/"
	}
	return escape(rd)
}

// pathBehind reports whether rest is a path behind an origin, where several slashes
// name no host.
func pathBehind(rest string) bool {
	return rest[0] == '/' && sessions.IsLocalPath("/"+strings.TrimLeft(rest, "/"))
}

// escape makes s fit for a header.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", s[i])
		} else {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// loginAgain reports whether rd leads to the login page, however it is spelt.
func (h *Handler) loginAgain(rd string) bool {
	rd, _, _ = strings.Cut(rd, "#")
	rd, _, _ = strings.Cut(rd, "?")
	decoded, err := url.PathUnescape(rd)
	return err == nil && strings.EqualFold(path.Clean(decoded), h.config.BasePath+"login")
}

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
