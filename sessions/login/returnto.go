package login

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
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

// placeName is a path that can be shown: one word.
var placeName = regexp.MustCompile(`^/[a-z][a-z0-9]{0,15}$`)

// placeOf names, for people, where a return address leads: the host of a return origin,
// or the first part of a path. Other sites choose the address, so that the page could
// say what an attacker wants: "/call-0800-5550123-now". Hence a path is shown only where
// its first part is one short word without a number that could be called; the rest of
// the path, and the query, are never shown.
func (h *Handler) placeOf(location string) string {
	for _, origin := range h.config.ReturnOrigins {
		if rest, ok := strings.CutPrefix(location, origin); ok && (rest == "" || rest[0] == '/') {
			_, host, _ := strings.Cut(origin, "://")
			return host
		}
	}
	if !strings.HasPrefix(location, "/") {
		return ""
	}
	end := strings.IndexAny(location[1:], "/?#")
	if end >= 0 {
		location = location[:1+end]
	}
	if !placeName.MatchString(location) || len(digitsIn(location)) > 4 {
		return ""
	}
	return location
}

// digitsIn are the digits of s.
func digitsIn(s string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, s)
}
