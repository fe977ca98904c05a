package testtools

import (
	"regexp"
	"strings"
)

var withScheme = regexp.MustCompile(`(?i)^([a-z][a-z0-9+.-]*):(.*)$`)

// BrowserOrigin is the origin to which a browser goes that finds location on a page
// of the origin own, as the WHATWG URL standard has it: an oracle for tests of
// redirects. A location that leads to no web page gives its scheme alone.
func BrowserOrigin(own, location string) string {
	s := strings.TrimFunc(location, func(r rune) bool { return r <= ' ' })
	s = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(s)
	scheme, _, _ := strings.Cut(own, ":")
	if m := withScheme.FindStringSubmatch(s); m != nil {
		scheme, s = strings.ToLower(m[1]), m[2]
		if scheme != "http" && scheme != "https" {
			return scheme + ":"
		}
		s = "//" + strings.TrimLeft(s, `/\`)
	}
	slashes := strings.ReplaceAll(s, `\`, "/")
	if !strings.HasPrefix(slashes, "//") {
		return own
	}
	host := strings.TrimLeft(slashes, "/")
	if i := strings.IndexAny(host, "/?#"); i >= 0 {
		host = host[:i]
	}
	if i := strings.LastIndex(host, "@"); i >= 0 {
		host = "user of " + host[i+1:]
	}
	return scheme + "://" + strings.ToLower(host)
}
