package envoyconfig

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// choose finds the listener that is meant: by its name, by the port of the request, or
// because no other has an ext_authz filter.
func (c *Config) choose(r *Request, name string) (*Listener, error) {
	var speakHTTP []*Listener
	for _, l := range c.Listeners {
		if len(l.Chains) > 0 {
			speakHTTP = append(speakHTTP, l)
		}
	}
	if name != "" {
		for _, l := range speakHTTP {
			if l.Name == name {
				return l, nil
			}
		}
		return nil, fmt.Errorf("there is no listener %s that speaks HTTP; there are %s", strictQuote(name), named(speakHTTP))
	}
	if len(speakHTTP) == 0 {
		return nil, errors.New(cmp.Or(openIf(c.Remote, "the listeners come from a control plane (LDS), and are not in what was read: read the admin interface, or a config dump"),
			"there is no listener that speaks HTTP"))
	}
	if _, suffix := splitPort(r.Host); suffix != "" {
		if at := onPort(speakHTTP, suffix[1:]); len(at) > 0 {
			speakHTTP = at
		}
	}
	guarded := slices.DeleteFunc(slices.Clone(speakHTTP), func(l *Listener) bool { return !l.guarded() })
	if len(guarded) > 1 {
		if at := onPort(guarded, usualPorts[r.Scheme]); len(at) == 1 {
			return at[0], nil
		}
	}
	switch {
	case len(guarded) == 1:
		return guarded[0], nil
	case len(guarded) == 0 && len(speakHTTP) == 1:
		return speakHTTP[0], nil
	case len(guarded) == 0:
		return nil, fmt.Errorf("no listener has an ext_authz filter that asks over gRPC; there are %s", named(speakHTTP))
	}
	return nil, fmt.Errorf("several listeners ask an ext_authz service: name one of %s", named(guarded))
}

var usualPorts = map[string]string{"http": "80", "https": "443"}

func onPort(listeners []*Listener, port string) (found []*Listener) {
	for _, l := range listeners {
		if strconv.FormatInt(l.Port, 10) == port {
			found = append(found, l)
		}
	}
	return found
}

// guarded reports whether a chain of the listener has an ext_authz filter.
func (l *Listener) guarded() bool {
	return slices.ContainsFunc(l.Chains, func(c *Chain) bool { return len(c.Manager.ExtAuthz()) > 0 })
}

func named(listeners []*Listener) string {
	var names []string
	for _, l := range listeners {
		names = append(names, fmt.Sprintf("%s (port %d)", strictQuote(l.Name), l.Port))
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

// chooseFilter finds the filter that is meant; nil if there is none that could be.
func (m *Manager) chooseFilter(name string) (*Filter, error) {
	filters := m.ExtAuthz()
	var names []string
	for _, f := range filters {
		if f.Name == name {
			return f, nil
		}
		names = append(names, strictQuote(f.Name))
	}
	switch {
	case name != "":
		return nil, fmt.Errorf("there is no ext_authz filter %s that asks over gRPC; there are %s", strictQuote(name), cmp.Or(strings.Join(names, ", "), "none"))
	case len(filters) == 0:
		return nil, m.unread()
	case len(filters) > 1:
		return nil, fmt.Errorf("several ext_authz filters ask over gRPC: name one of %s", strings.Join(names, ", "))
	}
	return filters[0], nil
}

// unread is an error where a filter could hold an ext_authz filter that is not seen.
func (m *Manager) unread() error {
	for _, f := range m.Filters {
		switch {
		case f.Type == "" || f.Type == extAuthzType && !f.Config.Exists():
			return fmt.Errorf("the configuration of filter %s comes from a control plane (ECDS), and is not in what was read: read the admin interface, or a config dump", strictQuote(f.Name))
		case strings.HasSuffix(f.Type, ".ExtensionWithMatcher"), strings.HasSuffix(f.Type, ".Composite"):
			return fmt.Errorf("filter %s holds other filters, which cannot be followed here", strictQuote(f.Name))
		}
	}
	return nil
}

// choose finds the filter chain for a connection, as far as host and scheme decide.
func (l *Listener) choose(r *Request) (*Chain, error) {
	if l.Get("filter_chain_matcher").Exists() {
		return nil, errors.New("filter_chain_matcher chooses the filter chain, which cannot be followed here")
	}
	server, _ := splitPort(lower(r.Host))
	best := -1
	var found []*Chain
	for _, c := range l.Chains {
		rank, err := c.rank(r.Scheme, server, l.Port)
		if err != nil && len(l.Chains) > 1 {
			return nil, err
		}
		switch {
		case rank < 0 && err == nil, rank < best:
		case rank > best:
			best, found = rank, []*Chain{c}
		default:
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no filter chain takes such a connection")
	}
	if len(found) > 1 {
		return nil, errors.New("several filter chains could take the connection; an https:// URL, or another host, may tell them apart")
	}
	return found[0], nil
}

// rank orders the chains that take a connection, the most specific last; -1 is for a
// chain that does not take it.
func (c *Chain) rank(scheme, server string, port int64) (int, error) {
	if c.Default {
		return 0, nil
	}
	rank := 1
	for _, name := range c.Match.Names() {
		v := c.Match.Get(name)
		switch name {
		case "destination_port":
			if v.Int() != port {
				return -1, nil
			}
		case "server_names":
			matched := serverRank(v.Texts(), server)
			if scheme == "http" || matched < 0 {
				return -1, nil
			}
			rank += matched
		case "transport_protocol":
			if scheme != "" && (v.Text() == "tls") != (scheme == "https") {
				return -1, nil
			}
			rank++
		case "application_protocols":
			// What a client can choose: both lead to the same routes, or there are
			// several chains.
		default:
			return rank, fmt.Errorf("filter chain %s is chosen by %s, which is not known", strictQuote(c.Name), clean(name))
		}
	}
	return rank, nil
}

// serverRank is how specific the name is that matches the server; -1 if none does.
func serverRank(names []string, server string) int {
	best := -1
	for _, name := range names {
		name = lower(name)
		switch suffix, wildcard := strings.CutPrefix(name, "*"); {
		case name == server:
			return 1 << 16
		case wildcard && strings.HasSuffix(server, suffix):
			best = max(best, 2+len(suffix))
		}
	}
	return best
}
