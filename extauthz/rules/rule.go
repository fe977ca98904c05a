package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/extauthz/internal/canonical"
)

// A Rule gives requests a policy by host, path and method, for routes that
// cannot name one. Each part that is set must match; of the three kinds of path
// at most one is set.
type Rule struct {
	// Hosts are exact names, or *.example.com for every name below example.com.
	Hosts []string
	// Path is a whole path. PathPrefix matches itself and what is below it:
	// /admin matches /admin and /admin/x, and not /administrator; /admin/ matches
	// only what is below. PathTemplate has {name} for one segment that is not empty
	// and, at its end, {name...} for any rest of the path, or for no rest: /files/{rest...}
	// matches what the prefix /files does, and /files/{name}/{rest...} asks for a
	// name. All are matched with the percent-decoded path.
	Path, PathPrefix, PathTemplate string
	// CaseInsensitive matches the path in any letter case, for upstreams that do.
	// Programs agree on the case of ASCII letters only: [List.Find] reports where the
	// case of other letters makes a difference, and a check then refuses the request.
	CaseInsensitive bool
	// OptionalSlash matches the path with a slash at its end as without it, for
	// upstreams that take the two for the same.
	OptionalSlash bool
	// Methods are compared byte for byte.
	Methods []string
	// Policy is the name of the policy for requests that match. This package does not
	// read it.
	Policy string
}

// A rule is a [Rule] made ready to match.
type rule struct {
	number  int // its place in the list, from 1
	hosts   []string
	methods []string
	path    pathPattern
	wide    pathPattern // of a rule that ignores letter case: the same, folded widely
}

// String is the rule in words: methods, hosts and path, where they are set.
func (r Rule) String() string {
	words := []string{strings.Join(r.Methods, ","), strings.Join(r.Hosts, ",")}
	switch {
	case r.Path != "":
		words = append(words, r.Path)
	case r.PathPrefix != "":
		words = append(words, "prefix "+r.PathPrefix)
	case r.PathTemplate != "":
		words = append(words, r.PathTemplate)
	}
	words = slices.DeleteFunc(words, func(s string) bool { return s == "" })
	if len(words) == 0 {
		return "every request"
	}
	return strings.Join(words, " ") + r.reading()
}

// reading says how the path is compared, where that is not letter by letter.
func (r Rule) reading() string {
	text := ""
	if path := r.Path + r.PathPrefix + r.PathTemplate; r.CaseInsensitive && path != "" {
		text += ", in any case"
	}
	if r.OptionalSlash && (r.Path != "" || r.PathTemplate != "" || strings.HasSuffix(r.PathPrefix, "/")) {
		text += ", with a slash or without"
	}
	return text
}

// Validate names every part of r that could never match, or not as written.
func (r Rule) Validate() error {
	_, err := r.compile()
	return err
}

func (r Rule) compile() (rule, error) {
	compiled := rule{methods: r.Methods}
	var errs []error
	for _, host := range r.Hosts {
		pattern, err := hostPattern(host)
		errs = append(errs, err)
		compiled.hosts = append(compiled.hosts, pattern)
	}
	for _, method := range r.Methods {
		if method == "" || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" {
			errs = append(errs, fmt.Errorf("method %q must be in capitals, such as GET", method))
		}
	}
	path, err := r.pattern()
	if compiled.path = path; r.CaseInsensitive {
		compiled.path, compiled.wide = path.fold(foldNarrow), path.fold(foldWide)
	}
	return compiled, errors.Join(append(errs, err)...)
}

// hostPattern is a name, or ".example.com" for all below example.com.
func hostPattern(host string) (string, error) {
	name, wild := strings.CutPrefix(host, "*.")
	known, ok := canonical.Host(name)
	switch {
	case !ok || wild && isAddress(known):
		return "", fmt.Errorf("host %q: it must be a name or an address (internationalised names as xn--...), or *. and a name", host)
	case known != name:
		return "", fmt.Errorf("host %q: write %q, as requests are compared", host, strings.TrimSuffix(host, name)+known)
	case wild:
		return "." + known, nil
	}
	return known, nil
}

// isAddress reports whether a host in normal form is an IP address.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// mismatch returns which part of a request in normal form does not match, "" if all
// do. Folded is the path as rules that ignore letter case read it. It
// allocates nothing.
func (r *rule) mismatch(method, host, path, folded string) string {
	if r.path.folded {
		path = folded
	}
	switch {
	case !r.path.matches(path):
		return "path"
	case len(r.hosts) > 0 && !r.hostMatches(host):
		return "host"
	case len(r.methods) > 0 && !slices.Contains(r.methods, method):
		return "method"
	}
	return ""
}

func (r *rule) hostMatches(host string) bool {
	for _, pattern := range r.hosts {
		if pattern == host || pattern[0] == '.' && strings.HasSuffix(host, pattern) {
			return true
		}
	}
	return false
}

// Covers reports whether r matches every request that other matches, so that other
// is never asked if it stands behind r. It does not see where several rules cover
// another together. A rule that is not valid covers no other.
func (r Rule) Covers(other Rule) bool {
	a, errA := r.compile()
	b, errB := other.compile()
	if errA != nil || errB != nil {
		return false
	}
	for _, host := range b.hosts {
		if len(a.hosts) > 0 && !a.hostMatches(host) {
			return false
		}
	}
	for _, method := range b.methods {
		if len(a.methods) > 0 && !slices.Contains(a.methods, method) {
			return false
		}
	}
	if len(a.hosts) > 0 && len(b.hosts) == 0 || len(a.methods) > 0 && len(b.methods) == 0 {
		return false
	}
	return a.path.covers(b.path)
}
