package envoyconfig

import "slices"

// An Effect is what a filter does on a route, with the settings of all levels merged.
type Effect struct {
	// Off is true where the filter does not run or asks no service.
	Off bool
	// By is the level that turned it off; it does not exist where the filter itself is
	// turned on by routes alone.
	By Value
	// Extensions are the context_extensions with the level that says each.
	Extensions map[string]Value
	// Service is asked in place of the filter's own; "" for that one.
	Service string
}

// Effect merges what route configuration, virtual host and route say for a filter.
// Weighted clusters can say more; see [Route.Weighted].
func (m *Manager) Effect(f *Filter, host *VirtualHost, levels ...Value) Effect {
	all := append([]Value{m.Routes.Value, host.Value}, levels...)
	merged := mergeSettings(f, all...)
	effect := Effect{Off: merged.off || merged.disabled, Service: merged.service, Extensions: make(map[string]Value)}
	for _, level := range all {
		s, ok := settingOf(level, f.Name)
		if !ok {
			continue
		}
		if effect.By = (Value{}); s.disabled || s.config.Get("disabled").Bool() {
			effect.By = level
		}
		for key, value := range s.config.Get("check_settings", "context_extensions").Entries() {
			effect.Extensions[key] = value
		}
	}
	return effect
}

// Weighted are the weighted clusters of the route.
func (r *Route) Weighted() []Value {
	return r.Get("route", "weighted_clusters", "clusters").Items()
}

// Clusters are the names of the clusters that the route leads to, as far as it names
// them. A route that answers by itself, or redirects, has none.
func (r *Route) Clusters() []string {
	var names []string
	if name := r.Get("route", "cluster").Text(); name != "" {
		names = append(names, name)
	}
	for _, c := range r.Weighted() {
		names = append(names, c.Get("name").Text())
	}
	return names
}

// Leads reports whether the route leads to an upstream: it neither answers by itself nor
// redirects.
func (r *Route) Leads() bool {
	return !r.Get("direct_response").Exists() && !r.Get("redirect").Exists()
}

// CatchesAll reports whether the route takes every request but CONNECT.
func (r *Route) CatchesAll() bool {
	for _, name := range r.Match.Names() {
		switch name {
		case "prefix":
			if r.Match.Get(name).Text() != "/" {
				return false
			}
		case "safe_regex":
			if !slices.Contains([]string{".*", "/.*"}, r.Match.Get(name, "regex").Text()) {
				return false
			}
		case "case_sensitive":
		default:
			return false
		}
	}
	return r.Match.Get("prefix").Exists() || r.Match.Get("safe_regex").Exists()
}

// IsPerRoute reports whether the value is an ExtAuthzPerRoute, as it stands in
// typed_per_filter_config.
func (v Value) IsPerRoute() bool {
	config, name := v.Unwrapped()
	if name == wrapperType {
		_, name = config.Get("config").Unwrapped()
	}
	return name == perRouteType
}

// IsExtAuthz reports whether the value is the configuration of an ext_authz filter.
func (v Value) IsExtAuthz() bool {
	_, name := v.Unwrapped()
	return name == extAuthzType
}
