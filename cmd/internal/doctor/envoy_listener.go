package doctor

import (
	"slices"
	"strconv"
	"strings"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// order looks at the filters behind ours.
func (e *envoy) order(g guard) {
	for _, f := range g.manager.Filters[g.index+1:] {
		switch {
		case strings.HasSuffix(f.Type, ".router.v3.Router"):
		case reroutes(f):
			e.add(EnvoyLaterReroutes, e.doc.at(f.Value), "filter %q", f.Name)
		case !isHarmless(f.Type):
			e.add(EnvoyNotLast, e.doc.at(f.Value), "filter %q stands behind it", f.Name)
		}
		for _, mutation := range f.Config.Get("mutations", "request_mutations").Items() {
			e.mutated(mutation)
		}
	}
}

// mutated looks at a mutation of request headers behind the check.
func (e *envoy) mutated(mutation envoyconfig.Value) {
	if name := mutation.Get("remove"); e.isIdentity(name.Text()) {
		e.add(EnvoyIdentityRemoved, e.doc.at(name), "%s", name.Text())
	}
	if envoyconfig.Removes(mutation, e.HeaderPrefix+"id") && mutation.Get("remove_on_match").Exists() {
		e.add(EnvoyIdentityRemoved, e.doc.at(mutation), "%sid", e.HeaderPrefix)
	}
	if name := mutation.Get("append", "header", "key"); e.isIdentity(name.Text()) {
		e.add(EnvoyIdentitySet, e.doc.at(name), "%s", name.Text())
	}
}

// reroutes reports whether a filter clears the route cache, or can.
func reroutes(f *envoyconfig.Filter) bool {
	kind := f.Type[strings.LastIndexByte(f.Type, '.')+1:]
	switch {
	case strings.HasSuffix(f.Type, ".lua.v3.Lua"):
		v := f.Config.Get("clear_route_cache")
		return !v.Exists() || v.Bool()
	case kind == "ExternalProcessor":
		action := f.Config.Get("route_cache_action").Text()
		return action != "RETAIN" && action != "2" && !f.Config.Get("disable_clear_route_cache").Bool()
	case kind == "GrpcJsonTranscoder":
		return !f.Config.Get("match_incoming_request_route").Bool()
	case kind == "Wasm", strings.Contains(f.Type, ".golang."), strings.Contains(f.Type, ".dynamic_modules."):
		return true
	}
	return saysClear(f.Config, 8)
}

// saysClear reports whether clear_route_cache is true anywhere in a configuration.
func saysClear(v envoyconfig.Value, depth int) bool {
	if depth == 0 {
		return false
	}
	for name, inner := range v.Entries() {
		if (name == "clear_route_cache" || name == "clearRouteCache") && inner.Bool() || saysClear(inner, depth-1) {
			return true
		}
	}
	return slices.ContainsFunc(v.Items(), func(item envoyconfig.Value) bool { return saysClear(item, depth-1) })
}

// harmless filters change neither the route nor what the upstream reads of the request;
// several control planes put them behind ext_authz.
var harmless = []string{".cors.v3.Cors", ".fault.v3.HTTPFault", ".grpc_stats.v3.FilterConfig", ".rbac.v3.RBAC", ".jwt_authn.v3.JwtAuthentication",
	".ratelimit.v3.RateLimit", ".local_ratelimit.v3.LocalRateLimit", ".compressor.v3.Compressor", ".buffer.v3.Buffer", ".grpc_web.v3.GrpcWeb",
	".health_check.v3.HealthCheck", ".header_mutation.v3.HeaderMutation", ".csrf.v3.CsrfPolicy", ".adaptive_concurrency.v3.AdaptiveConcurrency",
	".admission_control.v3.AdmissionControl", ".bandwidth_limit.v3.BandwidthLimit", ".ext_authz.v3.ExtAuthz", ".lua.v3.Lua", ".ext_proc.v3.ExternalProcessor",
	".grpc_json_transcoder.v3.GrpcJsonTranscoder", "stats.PluginConfig", ".stateful_session.v3.StatefulSession", ".api_key_auth.v3.ApiKeyAuth",
	".basic_auth.v3.BasicAuth", ".oauth2.v3.OAuth2", ".credential_injector.v3.CredentialInjector"}

func isHarmless(kind string) bool {
	return strings.Contains(kind, "istio") || slices.ContainsFunc(harmless, func(end string) bool { return strings.HasSuffix(kind, end) })
}

// listener looks at the chains of a listener, checked ones and others.
func (e *envoy) listener(l *envoyconfig.Listener, guards []guard) {
	for _, chain := range l.Chains {
		m := chain.Manager
		if len(guarded(guards, m)) > 0 {
			e.paths(m)
			continue
		}
		if name := e.around(m); name != "" {
			e.add(EnvoyChainUnchecked, e.doc.at(chain.Value), "listener %q, to cluster %q", l.Name, name)
		}
	}
}

// around is a cluster to which an unchecked connection manager leads, and checked
// requests, too; or "".
func (e *envoy) around(m *envoyconfig.Manager) string {
	if m.Routes == nil {
		return ""
	}
	for _, host := range m.Routes.VirtualHosts {
		for _, route := range host.Routes {
			for _, name := range route.Clusters() {
				if e.leads[name] {
					return name
				}
			}
		}
	}
	return ""
}

// paths looks at how paths are normalised.
func (e *envoy) paths(m *envoyconfig.Manager) {
	var missing []string
	for _, name := range []string{"normalize_path", "merge_slashes"} {
		if !m.Get(name).Bool() {
			missing = append(missing, name)
		}
	}
	switch m.Get("path_with_escaped_slashes_action").Text() {
	case "", "IMPLEMENTATION_SPECIFIC_DEFAULT", "KEEP_UNCHANGED", "0", "1":
		missing = append(missing, "path_with_escaped_slashes_action")
	}
	if missing != nil {
		e.add(EnvoyPaths, e.doc.at(m.Value), "without %s", strings.Join(missing, ", "))
	}
}

// version compares an Envoy's version, such as 1.39.0, with the least ones.
func (e *envoy) version(at place, version string) { checkVersion(e.notebook, at, version) }

func checkVersion(n *notebook, at place, version string) {
	if version != "" && TooOld(version) {
		n.add(EnvoyVersion, at, "Envoy %s", version)
	}
}

// TooOld reports whether a version of Envoy, such as 1.39.0, is below the least release of its line, or of a line
// that has none.
func TooOld(version string) bool {
	have, ok := numbers(version)
	if !ok {
		return false
	}
	for i, line := range LeastEnvoy() {
		least, _ := numbers(line)
		switch {
		case i == 0 && slices.Compare(have[:], least[:]) >= 0:
			return false
		case have[0] == least[0] && have[1] == least[1]:
			return have[2] < least[2]
		}
	}
	return true
}

func numbers(version string) (n [3]int, ok bool) {
	version, _, _ = strings.Cut(strings.TrimPrefix(version, "v"), "-")
	parts := strings.Split(version, ".")
	if len(parts) != 3 {
		return n, false
	}
	for i, part := range parts {
		var err error
		if n[i], err = strconv.Atoi(part); err != nil {
			return n, false
		}
	}
	return n, true
}

// LeastEnvoy are the least releases of Envoy that Coatcheck supports, one of each line,
// the newest first.
func LeastEnvoy() []string { return strings.Split(leastEnvoy, ", ") }
