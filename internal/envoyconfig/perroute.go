package envoyconfig

import "maps"

// A setting is what one typed_per_filter_config says for a filter.
type setting struct {
	disabled bool  // the filter is not in the chain of this route
	config   Value // an ExtAuthzPerRoute; may be missing
	open     string
}

// settingOf reads what a route configuration, a virtual host, a route or a weighted
// cluster says for a filter, and reports whether it says anything.
func settingOf(v Value, filter string) (setting, bool) {
	any := v.Get("typed_per_filter_config").Entry(filter)
	if !any.Exists() {
		return setting{}, false
	}
	config, name := any.Unwrapped()
	var s setting
	if name == wrapperType {
		s.disabled = config.Get("disabled").Bool()
		if s.disabled || !config.Get("config").Exists() {
			return s, true
		}
		config, name = config.Get("config").Unwrapped()
	}
	if name != perRouteType {
		s.open = "the settings for filter " + strictQuote(filter) + " are of type " + clean(name)
		return s, true
	}
	s.config = config
	return s, true
}

// settings are what applies to a route, of all levels.
type settings struct {
	off        bool // the filter does not run
	disabled   bool // the filter runs, and asks no service
	extensions map[string]string
	service    string // that is asked in place of the filter's own; "" for that one
	http       bool   // the service is asked over HTTP
	open       string
}

// mergeSettings puts the levels together, the least specific first. Envoy merges
// context_extensions key by key; disabled and another service count where the most
// specific level says them.
func mergeSettings(f *Filter, levels ...Value) settings {
	merged := settings{off: f.Disabled, extensions: map[string]string{}}
	for _, level := range levels {
		s, ok := settingOf(level, f.Name)
		if !ok {
			continue
		}
		merged.off = s.disabled
		if s.open != "" {
			merged.open = s.open
		}
		if s.config.Exists() {
			merged.add(s.config)
		}
	}
	return merged
}

func (s *settings) add(config Value) {
	s.disabled = config.Get("disabled").Bool()
	check := config.Get("check_settings")
	if service := serviceOf(check); service != "" {
		s.service, s.http = service, check.Get("http_service").Exists()
	}
	more := make(map[string]string)
	for key, value := range check.Get("context_extensions").Entries() {
		more[key] = value.Text()
	}
	maps.Copy(s.extensions, more)
}
