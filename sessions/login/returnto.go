package login

import (
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/coatcheck/coatcheck/sessions"
)

// returnTo is the address to which a login leads back: rd, if it is a path of this
// origin or begins with one of the return origins, else "/". It is never the login
// page itself.
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
