package extauthz

import (
	"net/url"

	"github.com/coatcheck/coatcheck/sessions"
)

// parseLogin checks the login URL; an empty one is nil.
func parseLogin(s string) (*url.URL, error) { return sessions.ParseLoginURL(s) }

// loginLocation is the login URL with a return address for path, which holds the
// query, too.
func loginLocation(login *url.URL, path string) string { return sessions.LoginLocation(login, path) }
