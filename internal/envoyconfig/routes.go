package envoyconfig

import (
	"fmt"
	"strings"
)

// Routes are a route configuration.
type Routes struct {
	Value
	Name         string
	VirtualHosts []*VirtualHost
}

// A VirtualHost is the routes of some hosts.
type VirtualHost struct {
	Value
	Name    string
	Domains []string // in lower case
	Routes  []*Route
}

// A Route is what becomes of requests that match it.
type Route struct {
	Value
	Name   string
	Number int   // in its virtual host, from 1
	Match  Value // a RouteMatch
}

func newRoutes(v Value) *Routes {
	r := &Routes{Value: v, Name: v.Get("name").Text()}
	for _, host := range v.Get("virtual_hosts").Items() {
		r.VirtualHosts = append(r.VirtualHosts, newVirtualHost(host))
	}
	return r
}

func newVirtualHost(v Value) *VirtualHost {
	h := &VirtualHost{Value: v, Name: v.Get("name").Text()}
	for _, domain := range v.Get("domains").Texts() {
		h.Domains = append(h.Domains, lower(domain))
	}
	for i, route := range v.Get("routes").Items() {
		h.Routes = append(h.Routes, &Route{Value: route, Name: route.Get("name").Text(), Number: i + 1, Match: route.Get("match")})
	}
	return h
}

// String names the route by its number, its name and its match: "route 3, prefix /".
func (r *Route) String() string {
	text := fmt.Sprintf("route %d", r.Number)
	if r.Name != "" {
		text += " " + strictQuote(r.Name)
	}
	return text + ", " + matchInWords(r.Match)
}

// matchInWords is what a match asks of the path, and what else it looks at.
func matchInWords(match Value) string {
	text, more := "", ""
	for i, name := range match.Names() {
		if i == maxClauses {
			break
		}
		switch name {
		case "prefix", "path", "path_separated_prefix":
			text = name + " " + match.Get(name).Text()
		case "safe_regex":
			text = "safe_regex " + match.Get(name, "regex").Text()
		case "path_match_policy":
			text = "path_template " + match.Get(name, "typed_config", "path_template").Text()
		case "connect_matcher":
			text = "CONNECT"
		case "case_sensitive":
			if !match.Get(name).Bool() {
				more += ", in any case"
			}
		default:
			more += ", " + name
		}
	}
	return clean(strings.TrimPrefix(text+more, ", "))
}

// clean is a text of the configuration for one line of output.
func clean(text string) string {
	quoted := strictQuote(text)
	return quoted[1 : len(quoted)-1]
}

// host finds the virtual host as Envoy does: by the whole name, by the longest
// wildcard at the beginning, by the longest wildcard at the end, or the one for "*".
func (r *Routes) host(name string) (found *VirtualHost) {
	name = lower(name)
	best := -1
	for _, host := range r.VirtualHosts {
		for _, d := range host.Domains {
			if rank := domainRank(d, name); rank > best {
				found, best = host, rank
			}
		}
	}
	return found
}

// domainRank orders the domains that match a name; -1 is for those that do not. A
// wildcard stands for at least one character.
func domainRank(domain, name string) int {
	const exact, atBeginning, atEnd = 3 << 20, 2 << 20, 1 << 20
	switch {
	case domain == name:
		return exact
	case domain == "*":
		return 0
	case strings.HasPrefix(domain, "*"):
		if tail := domain[1:]; len(tail) < len(name) && strings.HasSuffix(name, tail) {
			return atBeginning + len(tail)
		}
	case strings.HasSuffix(domain, "*"):
		if head := domain[:len(domain)-1]; len(head) < len(name) && strings.HasPrefix(name, head) {
			return atEnd + len(head)
		}
	}
	return -1
}

// lower is a text with A-Z in lower case: Envoy folds no other letter.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c - 'A' + 'a'
		}
	}
	return string(b)
}
