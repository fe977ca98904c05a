package doctor

import (
	"maps"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// The findings of routes.
const (
	EnvoyNoCatchAll      ID = "ENVOY_NO_CATCH_ALL"
	EnvoyRouteUnchecked  ID = "ENVOY_ROUTE_UNCHECKED"
	EnvoyHostUnchecked   ID = "ENVOY_HOST_UNCHECKED"
	EnvoyRouteKeys       ID = "ENVOY_ROUTE_KEYS"
	EnvoyRoutePolicy     ID = "ENVOY_ROUTE_POLICY"
	EnvoyRouteOfNoFilter ID = "ENVOY_ROUTE_OF_NO_FILTER"
	EnvoyRouteService    ID = "ENVOY_ROUTE_SERVICE"
	EnvoyIdentityRemoved ID = "ENVOY_IDENTITY_REMOVED"
	EnvoyIdentitySet     ID = "ENVOY_IDENTITY_SET"
	EnvoyHostPorts       ID = "ENVOY_HOST_PORTS"
)

var routeRules = []Rule{
	{EnvoyNoCatchAll, Warning, "requests without a route are not checked", "Envoy skips ext_authz where no route matches, and answers 404 itself. A later filter that finds another route then opens it unchecked.", fromCaution + "; issues 32118 and 37338 of Envoy", "end each virtual host with a route for `prefix: /`, as `envoy/envoy.yaml` does"},
	{EnvoyRouteUnchecked, Error, "a route to an upstream is not checked", "Where ext_authz is off, Coatcheck neither removes a client's identity headers nor cuts out the session cookie.", fromOurs, "for a public route leave the filter on and set `coatcheck.session: none`; only the pages of login (`login.base_path`) need it off"},
	{EnvoyHostUnchecked, Error, "no route of a virtual host is checked", "Where ext_authz is off, Coatcheck neither removes a client's identity headers nor cuts out the session cookie. A route that is added is open.", fromOurs, "remove the setting, and decide at each route"},
	{EnvoyRouteKeys, Error, "a route says what Coatcheck does not understand", "Coatcheck refuses every request of the route with 403 `bad_route`, so that a typing error opens no route.", "Coatcheck, `docs/permissions.md`", "correct the key or the value; name keys that are for other filters in `route.ignore_keys`"},
	{EnvoyRoutePolicy, Error, "a route names a policy that the policy file does not have", "Coatcheck refuses every request of the route with 403 `unknown_policy`.", "Coatcheck, `docs/permissions.md`", "correct `coatcheck.policy`, or add the policy"},
	{EnvoyRouteOfNoFilter, Error, "a route's requirements are for a filter that is not there", "Envoy finds settings in `typed_per_filter_config` by the name of the filter. Under another name they are ignored, and the route requires only what is the default.", "Envoy, `Route.typed_per_filter_config`", "use the name that the filter has in `http_filters`"},
	{EnvoyRouteService, Warning, "a route asks another service", "`grpc_service` of a route crashed Envoys before 1.39.0 (CVE-2026-47205), and an Envoy that cannot make the client asks the filter's own service.", "Envoy, release notes of 1.39.0", "let all routes ask Coatcheck, and choose by `coatcheck.policy`"},
	{EnvoyIdentityRemoved, Error, "Envoy removes the identity headers that Coatcheck sets", "`request_headers_to_remove` and filters behind ext_authz run after the check: the request is allowed, and the upstream sees no user.", "Envoy, HTTP header manipulation", "remove a client's headers early, with `early_header_mutation_extensions`; Coatcheck removes the rest"},
	{EnvoyIdentitySet, Error, "Envoy sets an identity header itself", "It is set after the check, in place of Coatcheck's or beside it, so that the upstream sees a user that no session has.", "Envoy, HTTP header manipulation", "leave these headers to Coatcheck, or choose another `headers.prefix`"},
	{EnvoyHostPorts, Warning, "a port in the Host leads to another virtual host", "Coatcheck's rules compare hosts without their port, and Envoy with it: for `public.example:99` the rules of `public.example` decide about the routes of another virtual host. `strip_any_host_port` takes one port of `public.example:99:99` and leaves the other.", "Envoy, `RouteConfiguration.ignore_port_in_host_matching`; Coatcheck, `docs/permissions.md`", "set `ignore_port_in_host_matching: true` in the route configuration, as `envoy/envoy.yaml` does"},
}

// routes looks at each route that the filter could check.
func (e *envoy) routes(g guard) {
	routes := g.manager.Routes
	if routes == nil {
		e.add(EnvoyUnread, e.doc.at(g.manager.Get("rds"), g.manager.Value), "the routes come from %s", g.manager.RoutesFrom)
		return
	}
	e.changes(routes.Value)
	e.names(g, routes.Value)
	e.ports(routes)
	for _, host := range routes.VirtualHosts {
		e.changes(host.Value)
		e.names(g, host.Value)
		for _, route := range host.Routes {
			e.route(g, host, route)
		}
		if last := len(host.Routes) - 1; last < 0 || !host.Routes[last].CatchesAll() {
			e.add(EnvoyNoCatchAll, e.doc.at(host.Value), "virtual host %q does not end with such a route", host.Name)
		}
	}
}

// route looks at one route, and at its weighted clusters.
func (e *envoy) route(g guard, host *envoyconfig.VirtualHost, route *envoyconfig.Route) {
	e.changes(route.Value)
	e.names(g, route.Value)
	levels := [][]envoyconfig.Value{{route.Value}}
	for _, cluster := range route.Weighted() {
		e.changes(cluster)
		e.names(g, cluster)
		levels = append(levels, []envoyconfig.Value{route.Value, cluster})
	}
	if len(levels) > 1 {
		levels = levels[1:]
	}
	for _, level := range levels {
		effect := g.manager.Effect(g.filter, host, level...)
		if effect.Off {
			e.unchecked(g, host, route, effect)
			continue
		}
		for _, name := range route.Clusters() {
			e.leads[name] = true
		}
		e.required(level[len(level)-1], effect)
	}
}

// unchecked looks at a route on which the filter is off.
func (e *envoy) unchecked(g guard, host *envoyconfig.VirtualHost, route *envoyconfig.Route, effect envoyconfig.Effect) {
	switch {
	case !route.Leads(), e.isLogin(route.Match):
	case effect.By == host.Value, effect.By == g.manager.Routes.Value:
		e.add(EnvoyHostUnchecked, e.doc.at(effect.By.Get("typed_per_filter_config"), effect.By), "virtual host %q", host.Name)
	default:
		e.add(EnvoyRouteUnchecked, e.doc.at(effect.By, route.Value), "virtual host %q, %s", host.Name, route)
	}
}

// isLogin reports whether only login's own pages match. Login reads the cookie itself.
func (e *envoy) isLogin(match envoyconfig.Value) bool {
	base := e.LoginBasePath
	path := match.Get("path").Text()
	return strings.HasPrefix(path, base) || path == "/.well-known/change-password" ||
		strings.HasPrefix(match.Get("prefix").Text(), base) ||
		strings.HasPrefix(match.Get("path_separated_prefix").Text()+"/", base)
}

// required looks at what a checked route requires.
func (e *envoy) required(level envoyconfig.Value, effect envoyconfig.Effect) {
	at := e.doc.at(level)
	extensions := make(map[string]string)
	for _, key := range slices.Sorted(maps.Keys(effect.Extensions)) {
		value := effect.Extensions[key]
		extensions[key] = value.Text()
		at = e.doc.at(value, level)
		if value.Text() == envoyconfig.Redacted {
			e.hides = true
		}
	}
	if id, why := e.judge(e.ctx, extensions, EnvoyRouteKeys, EnvoyRoutePolicy); id != "" {
		e.add(id, at, "%s", why)
	}
	if effect.Service != "" {
		e.add(EnvoyRouteService, e.doc.at(level), "it asks %q", effect.Service)
	}
}

// ports looks for a domain that a port in the Host leads away from.
func (e *envoy) ports(routes *envoyconfig.Routes) {
	if routes.Get("ignore_port_in_host_matching").Bool() || len(routes.VirtualHosts) < 2 {
		return
	}
	for _, host := range routes.VirtualHosts {
		for _, domain := range host.Domains {
			if !withEveryPort(host.Domains, domain) {
				e.add(EnvoyHostPorts, e.doc.at(host.Get("domains")), "virtual host %q has the domain %s, and not with every port", host.Name, domain)
				return
			}
		}
	}
}

// withEveryPort reports whether one of a virtual host's domains, such as public.example:*,
// takes a domain with any port.
func withEveryPort(domains []string, domain string) bool {
	return slices.ContainsFunc(domains, func(other string) bool {
		begin, ok := strings.CutSuffix(other, "*")
		return ok && strings.HasPrefix(domain+":", begin)
	})
}

// names looks for settings of ext_authz under a name that no filter has.
func (e *envoy) names(g guard, level envoyconfig.Value) {
	for name, config := range level.Get("typed_per_filter_config").Entries() {
		known := slices.ContainsFunc(g.manager.Filters, func(f *envoyconfig.Filter) bool { return f.Name == name })
		if !known && config.IsPerRoute() {
			e.add(EnvoyRouteOfNoFilter, e.doc.at(config), "there is no filter %q", name)
		}
	}
}

// changes looks at what a level does to request headers behind the check.
func (e *envoy) changes(level envoyconfig.Value) {
	for _, name := range level.Get("request_headers_to_remove").Items() {
		if e.isIdentity(name.Text()) {
			e.add(EnvoyIdentityRemoved, e.doc.at(name), "%s", name.Text())
		}
	}
	for _, header := range level.Get("request_headers_to_add").Items() {
		if name := header.Get("header", "key"); e.isIdentity(name.Text()) {
			e.add(EnvoyIdentitySet, e.doc.at(name), "%s", name.Text())
		}
	}
}
