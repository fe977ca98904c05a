package extauthz

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/coatcheck/coatcheck/sessions"
)

// parseLogin checks the login URL; an empty one is nil.
func parseLogin(s string) (*url.URL, error) {
	if s == "" {
		return nil, nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("login URL: it cannot be parsed")
	case !visible(s):
		return nil, errors.New("login URL: it must be visible ASCII")
	case u.User != nil || u.Fragment != "":
		return nil, errors.New("login URL: it must have no user and no fragment")
	case u.Scheme == "" && u.Host == "" && sessions.IsLocalPath(u.EscapedPath()):
		return u, nil
	case (u.Scheme == "https" || u.Scheme == "http") && u.Host != "":
		return u, nil
	}
	return nil, fmt.Errorf("login URL %q must be a path that begins with one /, or an http or https URL", s)
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// loginLocation is the login URL with a return address for path, which holds
// the query, too. "/" replaces a path that a browser could take for another host's, or
// that is too long for a URL.
func loginLocation(login *url.URL, path string) string {
	if !sessions.IsLocalPath(path) || len(path) > sessions.MaxReturn {
		path = "/"
	}
	u := *login
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += sessions.ReturnParameter + "=" + url.QueryEscape(path)
	return u.String()
}
