package envoyconfig

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// A Where says which listener and which filter are meant, where there are several. An
// empty name stands for the only one that could be meant.
type Where struct {
	Listener string // its name
	Filter   string // the name of an ext_authz filter
}

// A Way is what Envoy does with a request.
type Way struct {
	// If is what must hold for the request to go this way, in words; "" if nothing
	// must.
	If string

	Listener, Filter           string // names
	Routes, VirtualHost, Route string // names; Route with its number and match

	// Host and Path are as routes and filters see them, normalised.
	Host, Path string

	// Asks is true where Envoy asks the filter's service; WhyNot says why it does not.
	Asks   bool
	WhyNot string

	// Service is what is asked: the name of a cluster.
	Service string
	// Extensions are the context_extensions that are sent. A value that Envoy hides is
	// "": see Hidden.
	Extensions map[string]string
	// Hidden are the keys, sorted, of Extensions whose values Envoy hides, as it does in
	// its config dump: see [Reveal].
	Hidden []string
	// Notes say what could still change the answer: where the filter runs for some
	// requests only.
	Notes []string

	manager *Manager
	filter  *Filter
}

// same reports whether two ways come to the same for the service that is asked.
func (w *Way) same(o *Way) bool {
	return w.Asks == o.Asks && w.Host == o.Host && w.Path == o.Path && w.Service == o.Service && maps.Equal(w.Extensions, o.Extensions) && slices.Equal(w.Hidden, o.Hidden)
}

// Settled reports whether all ways come to the same for the service that is asked.
func Settled(ways []Way) bool {
	for i := range ways {
		if !ways[0].same(&ways[i]) {
			return false
		}
	}
	return len(ways) > 0
}

// Find returns the way of a request through Envoy. Where the configuration alone does
// not decide it, there are several ways with their conditions, in the order in which
// Envoy tries them; one of them is the request's. Its error says what is missing in the configuration, or in w.
func (c *Config) Find(r Request, w Where) ([]Way, error) {
	if r.Method = cmp.Or(r.Method, "GET"); r.Host == "" {
		return nil, errors.New("a request has a host")
	}
	listener, err := c.choose(&r, w.Listener)
	if err != nil {
		return nil, err
	}
	chain, err := listener.choose(&r)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", strictQuote(listener.Name), err)
	}
	base := Way{Listener: listener.Name, Host: r.Host, Path: r.Path}
	filter, err := chain.Manager.chooseFilter(w.Filter)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", strictQuote(listener.Name), err)
	}
	if filter == nil {
		base.WhyNot = "the listener has no ext_authz filter that asks over gRPC"
		return []Way{base}, nil
	}
	base.Filter, base.filter, base.manager = filter.Name, filter, chain.Manager
	f := &finder{manager: chain.Manager, filter: filter, request: r, port: listener.Port}
	return f.ways(base)
}

// A finder finds the ways through one connection manager.
type finder struct {
	manager *Manager
	filter  *Filter
	request Request
	port    int64
	found   []Way
}

func (f *finder) add(w Way) { f.found = append(f.found, w) }

func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

func (f *finder) ways(base Way) ([]Way, error) {
	answered, open := f.manager.normalise(&f.request, f.port)
	switch {
	case open != "":
		return nil, fmt.Errorf("the path cannot be read as Envoy does: %s", open)
	case answered != "":
		base.WhyNot = answered
		return []Way{base}, nil
	}
	base.Host, base.Path = f.request.Host, f.request.Path
	routes := f.manager.Routes
	if routes == nil {
		return nil, fmt.Errorf("the routes come from %s, which is not in what was read: read the admin interface, or a config dump",
			cmp.Or(f.manager.RoutesFrom, "another place"))
	}
	base.Routes = routes.Name
	for _, level := range []string{"route_specifiers", "vhost_header"} {
		if routes.Get(level).Exists() {
			return nil, fmt.Errorf("route configuration %s: %s decides, which cannot be followed here", strictQuote(routes.Name), level)
		}
	}
	host, open := f.virtualHost(routes)
	switch {
	case open != "":
		return nil, errors.New(open)
	case host == nil:
		base.WhyNot = "no virtual host has a domain for the host: Envoy answers itself, with 404"
		return []Way{base}, nil
	}
	base.VirtualHost = host.Name
	f.inHost(base, routes, host)
	return f.found, nil
}

func (f *finder) virtualHost(routes *Routes) (*VirtualHost, string) {
	name := f.request.Host
	if routes.Get("ignore_port_in_host_matching").Bool() {
		name, _ = splitPort(name)
	}
	host := routes.host(name)
	if host == nil {
		return nil, openIf(routes.Get("vhds").Exists(), "virtual hosts are sent on demand (VHDS), and the one for the host is not in what was read")
	}
	for _, field := range []string{"matcher", "route_specifiers"} {
		if host.Get(field).Exists() {
			return nil, fmt.Sprintf("virtual host %s: %s decides, which cannot be followed here", strictQuote(host.Name), field)
		}
	}
	return host, ""
}

// inHost adds a way for each route that could match, up to the first that does.
func (f *finder) inHost(base Way, routes *Routes, host *VirtualHost) {
	if f.redirectsToTLS(base, host) {
		return
	}
	for _, route := range host.Routes {
		switch match := f.manager.matches(route.Match, &f.request); {
		case match == no:
		case match.open != "":
			w := base
			w.If = match.open
			f.byRoute(w, routes, host, route)
		default:
			f.byRoute(base, routes, host, route)
			return
		}
	}
	base.WhyNot = "no route matches: Envoy answers itself, with 404"
	f.add(base)
}

// redirectsToTLS is for a virtual host with require_tls: a request over plain HTTP is
// redirected, after the filters have run without a route's settings. It reports whether
// all requests are.
func (f *finder) redirectsToTLS(base Way, host *VirtualHost) bool {
	need := host.Get("require_tls").Text()
	if need == "" || need == "NONE" || need == "0" || f.request.Scheme == "https" {
		return false
	}
	base.Route = "the redirect to https (require_tls)"
	if f.request.Scheme == "" || need != "ALL" && need != "2" {
		base.If = "the request comes over plain http (require_tls)"
	}
	f.asked(base, mergeSettings(f.filter))
	return base.If == ""
}

// byRoute adds the ways of a route: one, or one for each of its weighted clusters.
func (f *finder) byRoute(base Way, routes *Routes, host *VirtualHost, route *Route) {
	base.Route = route.String()
	if route.Get("route_specifiers").Exists() {
		base.Notes = append(base.Notes, "the route has route_specifiers, which can change it")
	}
	levels := []Value{routes.Value, host.Value, route.Value}
	clusters := route.Weighted()
	var ways []Way
	for _, cluster := range clusters {
		if cluster.Get("weight").Int() == 0 {
			continue
		}
		w := base
		w.If = joined(w.If, "cluster "+clean(cluster.Get("name").Text())+" is drawn")
		ways = append(ways, f.settled(w, mergeSettings(f.filter, append(levels[:3:3], cluster)...)))
	}
	if len(ways) < 2 || Settled(ways) {
		f.asked(base, mergeSettings(f.filter, append(levels, clusters[:min(1, len(clusters))]...)...))
		return
	}
	for _, w := range ways {
		f.add(w)
	}
}

func (f *finder) asked(w Way, s settings) { f.add(f.settled(w, s)) }

// settled completes a way by the settings of its route.
func (f *finder) settled(w Way, s settings) Way {
	switch {
	case s.off:
		w.WhyNot = "the filter is switched off for the route"
	case s.disabled:
		w.WhyNot = "ext_authz is disabled for the route"
	case s.http:
		w.WhyNot = "the route has an HTTP service of its own"
	default:
		w.Asks, w.Extensions, w.Service = true, s.extensions, cmp.Or(s.service, f.filter.Service())
		w.hide()
		w.Notes = append(w.Notes, f.notes(s)...)
	}
	return w
}

// notes says when the filter runs for some requests only.
func (f *finder) notes(s settings) []string {
	var notes []string
	if s.open != "" {
		notes = append(notes, s.open)
	}
	if s.service != "" && s.service != f.filter.Service() {
		notes = append(notes, "the route names a service of its own, "+clean(s.service))
	}
	if enabled := f.filter.Config.Get("filter_enabled"); enabled.Exists() {
		if t := fraction("filter_enabled", enabled); t != yes {
			notes = append(notes, cmp.Or(t.open, "filter_enabled is 0")+": other requests are not checked")
		}
	}
	if metadata := f.filter.Config.Get("filter_enabled_metadata"); metadata.Exists() {
		notes = append(notes, "filter_enabled_metadata: a filter before decides whether Envoy asks ("+clean(metadata.Get("filter").Text())+")")
	}
	return notes
}
