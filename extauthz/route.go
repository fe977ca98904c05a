package extauthz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A need is what a route asks of the session.
type need int

const (
	required need = iota
	optional
	none
)

// A route is what the route's context_extensions ask for. Envoy matched the
// route and names it to us; matching the path a second time, and differently,
// is how others were bypassed (CVE-2023-33189).
type route struct {
	session need
	roles   []string // any of them is enough; nil: none is asked for
}

var needNames = []string{required: "required", optional: "optional", none: "none"}

// String is the route's requirement as the log tells it.
func (r route) String() string {
	if r.roles == nil {
		return needNames[r.session]
	}
	return needNames[r.session] + " roles=" + strings.Join(r.roles, ",")
}

// routeOf reads context_extensions. What is unknown is an error, never ignored:
// a typing error must not open a route.
func routeOf(extensions map[string]string) (route, error) {
	var r route
	for key, value := range extensions {
		switch key {
		case extensionPrefix + "session":
			i := slices.Index(needNames, value)
			if i < 0 {
				return route{}, fmt.Errorf("%s is none of required, optional and none", key)
			}
			r.session = need(i)
		case extensionPrefix + "roles":
			roles, err := rolesOf(value)
			if err != nil {
				return route{}, fmt.Errorf("%s: %w", key, err)
			}
			r.roles = roles
		default:
			return route{}, fmt.Errorf("unknown key %.64q", key)
		}
	}
	if r.session == none && r.roles != nil {
		return route{}, errors.New("roles on a route that asks for no session")
	}
	return r, nil
}

// rolesOf reads a comma-separated list of role names.
func rolesOf(list string) ([]string, error) {
	var roles []string
	for name := range strings.SplitSeq(list, ",") {
		name = strings.Trim(name, " \t")
		if strings.ContainsFunc(name, notInRole) {
			return nil, fmt.Errorf("%.64q is no role name of A-Z a-z 0-9 _ . : -", name)
		}
		if name != "" {
			roles = append(roles, name)
		}
	}
	if roles == nil {
		return nil, errors.New("names no role, so nobody can have one of them")
	}
	return roles, nil
}

func notInRole(r rune) bool {
	switch {
	case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9', strings.ContainsRune("_.:-", r):
		return false
	}
	return true
}

// admits reports whether a user with these roles may pass.
func (r route) admits(roles []string) bool {
	if r.roles == nil {
		return true
	}
	return slices.ContainsFunc(r.roles, func(name string) bool { return slices.Contains(roles, name) })
}
