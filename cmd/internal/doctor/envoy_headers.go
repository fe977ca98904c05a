package doctor

import (
	"regexp"
	"strings"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// The findings of headers and filters around the ext_authz filter.
const (
	EnvoyAliasesHidden  ID = "ENVOY_ALIASES_HIDDEN"
	EnvoyCookieHidden   ID = "ENVOY_COOKIE_HIDDEN"
	EnvoyHeadersHidden  ID = "ENVOY_HEADERS_HIDDEN"
	EnvoyMutationRules  ID = "ENVOY_MUTATION_RULES"
	EnvoyTrailers       ID = "ENVOY_TRAILERS"
	EnvoyLaterReroutes  ID = "ENVOY_LATER_FILTER_REROUTES"
	EnvoyNotLast        ID = "ENVOY_NOT_LAST"
	EnvoyPaths          ID = "ENVOY_PATHS_NOT_NORMALISED"
	EnvoyNoFilter       ID = "ENVOY_NO_FILTER"
	EnvoyHTTPService    ID = "ENVOY_HTTP_SERVICE"
	EnvoyChainUnchecked ID = "ENVOY_CHAIN_UNCHECKED"
	EnvoyVersion        ID = "ENVOY_VERSION"
	EnvoyUnread         ID = "ENVOY_UNREAD"
	EnvoyValuesHidden   ID = "ENVOY_VALUES_HIDDEN"
)

var listenerRules = []Rule{
	{EnvoyAliasesHidden, Error, "a client's identity headers reach the upstream", "`allowed_headers` hides them from Coatcheck, which cannot remove what it does not see, and Envoy does not remove them early either. Some upstreams take `x.user.roles` for `x-user-roles`.", "Coatcheck, seen on Envoy 1.40", "copy `early_header_mutation_extensions` of `envoy/envoy.yaml`, with your `headers.prefix`, or remove `allowed_headers`"},
	{EnvoyCookieHidden, Error, "Coatcheck does not see the Cookie header", "No user gets in, and on routes without a check of the session the session cookie reaches the upstream, because Coatcheck cannot cut out what it does not see.", fromFilter + ", `allowed_headers`", "add `{exact: cookie}` to `allowed_headers`"},
	{EnvoyHeadersHidden, Warning, "Coatcheck does not see a header that it decides or answers by", whyUnseen, "Coatcheck, `coatcheck config check --policies FILE`", "add the headers to `allowed_headers`"},
	{EnvoyMutationRules, Error, "Envoy forbids what Coatcheck sets or removes", "`decoder_header_mutation_rules` must permit `cookie`, every managed header and the aliases that Coatcheck removes. With `disallow_is_error` each such request is a 500; without it Envoy drops the change in silence, and a client's own header stays.", fromFilter + ", `decoder_header_mutation_rules`", "copy `allow_expression` of `envoy/envoy.yaml`, with your `headers.prefix`"},
	{EnvoyTrailers, Warning, "a client's identity trailers reach the upstream", "An upstream over HTTP/2 receives trailers, which Envoy does not send to Coatcheck. A program that merges trailers into headers believes them.", "Coatcheck, seen on Envoy 1.40", "copy the filter `header_mutation` of `envoy/envoy.yaml`, with your `headers.prefix`"},
	{EnvoyLaterReroutes, Error, "a filter behind the check chooses the route again", "Coatcheck has checked what the first route requires. The filter clears the route cache, and the request can end up at a route that requires more.", fromCaution, "put the filter before ext_authz, or make it keep the route: `clear_route_cache: false` of lua, `route_cache_action: RETAIN` of ext_proc, `match_incoming_request_route` of grpc_json_transcoder"},
	{EnvoyNotLast, Warning, "ext_authz is not the last filter before the router", "A later filter sees the request after the check, and can change what has been checked: its headers, its path or its route. Doctor does not know this one.", fromCaution, "put the filter before ext_authz"},
	{EnvoyPaths, Warning, "routes, Coatcheck and the upstream can read a path differently", "Routes are chosen by the path as it came. Coatcheck refuses paths that can be read in two ways, but only on routes that it checks.", "Envoy, `HttpConnectionManager`; Coatcheck, `docs/paths.md`", "set `normalize_path: true`, `merge_slashes: true` and `path_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT`"},
	{EnvoyNoFilter, Error, "Envoy does not ask Coatcheck", "No listener has an ext_authz filter that asks Coatcheck over gRPC.", fromFilter, "copy the filter of `envoy/envoy.yaml`; with `--service` name the cluster by which Coatcheck is asked"},
	{EnvoyHTTPService, Error, "the filter asks over HTTP", "Coatcheck speaks gRPC. Over HTTP every request is refused, or with `failure_mode_allow` none.", fromFilter + ", `http_service`", "use `grpc_service`, as `envoy/envoy.yaml` does"},
	{EnvoyChainUnchecked, Error, "a way around the check", "This listener or filter chain has no ext_authz filter, and leads to a cluster to which checked requests go, too.", fromOurs, "add the filter, or let the chain redirect to the checked one"},
	{EnvoyVersion, Error, "the Envoy is too old", "In older versions CONNECT crashes Envoy in ext_authz (CVE-2026-73547), and Envoy normalises paths with `;` as no upstream does (CVE-2026-73511, CVE-2026-73551).", "Envoy's release notes; `envoy/envoy.yaml`", "run Envoy " + leastEnvoy + ", or newer"},
	{EnvoyUnread, Note, "a part of Envoy's configuration is not in what was read", "It comes from a control plane, and nothing can be said of it.", fromOurs, "read the admin interface (`coatcheck doctor http://127.0.0.1:9901`), or a config dump"},
	{EnvoyValuesHidden, Note, "the config dump hides what routes require", "Envoy's dump replaces all values of `context_extensions` by `[redacted]`, so that roles and names of policies cannot be compared.", "Envoy, `CheckSettings.context_extensions`", "name Envoy's file, too"},
}

const whyUnseen = "A condition or a check of the Origin then refuses, and a browser gets 401 in place of the sign-in page. Without `connection` Coatcheck cannot refuse a WebSocket whose `Connection` names an identity header, which the next proxy then drops."

// leastEnvoy are the least releases that Coatcheck supports; README.md names them, too.
const leastEnvoy = "1.40.0, 1.39.1, 1.38.4, 1.37.6"

// headers looks at which headers Coatcheck sees and may change.
func (e *envoy) headers(g guard) {
	config := g.filter.Config
	list := e.doc.at(config.Get("allowed_headers"), config.Get("disallowed_headers"), config)
	var open []string
	for _, name := range e.spellings() {
		if g.filter.Hides(name) && !g.manager.Drops(name) {
			open = append(open, name)
		}
	}
	if open != nil {
		e.add(EnvoyAliasesHidden, list, "such as %s", strings.Join(open[:min(3, len(open))], ", "))
	}
	if g.filter.Hides("cookie") {
		e.add(EnvoyCookieHidden, list, "cookie is not among the headers that are sent")
	}
	if unseen := e.unseen(g.filter.Hides); len(unseen) > 0 {
		e.add(EnvoyHeadersHidden, list, "%s", strings.Join(unseen, ", "))
	}
	e.mutations(g)
}

// mutations asks the filter's rules for each header that an answer can change.
func (e *envoy) mutations(g guard) {
	rules := g.filter.Config.Get("decoder_header_mutation_rules")
	if !rules.Exists() {
		return
	}
	names := e.managed()
	if !e.CookieKeep {
		names = append(names, "cookie")
	}
	for _, name := range e.spellings() {
		if !g.manager.Drops(name) && !g.filter.Hides(name) {
			names = append(names, name)
		}
	}
	var forbidden []string
	for _, name := range names {
		if !permits(rules, name) {
			forbidden = append(forbidden, name)
		}
	}
	if forbidden != nil {
		e.add(EnvoyMutationRules, e.doc.at(rules), "such as %s", strings.Join(forbidden[:min(3, len(forbidden))], ", "))
	}
}

// permits applies HeaderMutationRules in Envoy's order.
func permits(rules envoyconfig.Value, name string) bool {
	switch {
	case matchesWhole(rules.Get("disallow_expression", "regex"), name):
		return false
	case matchesWhole(rules.Get("allow_expression", "regex"), name):
		return true
	}
	return !rules.Get("disallow_all").Bool()
}

// matchesWhole reports whether a regular expression of Envoy matches the whole name. One
// that cannot be read here matches nothing, as for Envoy, which refuses it.
func matchesWhole(expression envoyconfig.Value, name string) bool {
	if !expression.Exists() {
		return false
	}
	compiled, err := regexp.Compile(`\A(?:` + expression.Text() + `)\z`)
	return err == nil && compiled.MatchString(name)
}

// trailers looks for the filter that removes identity trailers, where an upstream would
// receive them.
func (e *envoy) trailers(m *envoyconfig.Manager) {
	if m.Routes == nil {
		return
	}
	for _, f := range m.Filters {
		for _, mutation := range f.Config.Get("mutations", "request_trailers_mutations").Items() {
			if envoyconfig.Removes(mutation, e.HeaderPrefix+"id") && envoyconfig.Removes(mutation, strings.ReplaceAll(e.HeaderPrefix, "-", ".")+"id") {
				return
			}
		}
	}
	for _, host := range m.Routes.VirtualHosts {
		for _, route := range host.Routes {
			for _, name := range route.Clusters() {
				if cluster, ok := e.config.Cluster(name); ok && !e.asked[name] && takesTrailers(cluster) {
					e.add(EnvoyTrailers, e.doc.at(m.Get("http_filters"), m.Value), "cluster %q speaks HTTP/2, and no header_mutation filter removes trailers such as %sid", name, e.HeaderPrefix)
					return
				}
			}
		}
	}
}
