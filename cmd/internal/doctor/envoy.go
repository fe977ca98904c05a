package doctor

import (
	"context"
	"maps"
	"slices"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// An envoy is the examination of one Envoy's configuration.
type envoy struct {
	*notebook
	*ours
	ctx     context.Context
	doc     *document
	config  *envoyconfig.Config
	service string // by which Coatcheck is asked; "" for a guess
	asked   map[string]bool
	leads   map[string]bool // clusters to which checked requests go
	hides   bool            // the dump hides what routes require
	alone   bool            // no other configuration of Envoy was read
}

// A guard is a filter that asks Coatcheck, and where it stands.
type guard struct {
	manager *envoyconfig.Manager
	filter  *envoyconfig.Filter
	index   int // among the filters of the connection manager
}

func (e *envoy) examine() {
	e.asked, e.leads = make(map[string]bool), make(map[string]bool)
	e.version(e.doc.at(e.config.Root), e.config.Version)
	if len(e.config.Listeners) == 0 {
		if e.config.Remote {
			e.add(EnvoyUnread, e.doc.at(e.config.Root.Get("dynamic_resources")), "the listeners come from a control plane (LDS)")
		}
		return
	}
	guards := e.guards()
	if len(guards) == 0 {
		e.unguarded()
		return
	}
	for _, g := range guards {
		e.filter(g)
		e.headers(g)
		e.order(g)
		e.routes(g)
	}
	for _, listener := range e.config.Listeners {
		e.listener(listener, guards)
	}
	for _, g := range guards {
		e.trailers(g.manager)
	}
	for _, service := range slices.Sorted(maps.Keys(e.asked)) {
		e.cluster(service, guards)
	}
	if e.hides && e.alone {
		e.add(EnvoyValuesHidden, e.doc.at(e.config.Root), "context_extensions are [redacted]")
	}
}

// guards are the filters that ask Coatcheck: by the name that was given, or those that
// have coatcheck in the name of what they ask, or else all of them.
func (e *envoy) guards() []guard {
	var all []guard
	for _, listener := range e.config.Listeners {
		for _, chain := range listener.Chains {
			for i, filter := range chain.Manager.Filters {
				if !filter.Asks() {
					continue
				}
				all = append(all, guard{chain.Manager, filter, i})
			}
		}
	}
	return named(all, e.service, func(g guard) string { return g.filter.Service() })
}

// unguarded is an Envoy that asks no Coatcheck at all, as far as can be seen.
func (e *envoy) unguarded() {
	var at envoyconfig.Value
	for _, listener := range e.config.Listeners {
		for _, chain := range listener.Chains {
			for _, f := range chain.Manager.Filters {
				switch {
				case f.Config.Get("http_service").Exists() && f.Config.IsExtAuthz():
					e.add(EnvoyHTTPService, e.doc.at(f.Config.Get("http_service")), "http_service of filter %q", f.Name)
					return
				case f.Type == "" || !f.Config.Exists():
					e.add(EnvoyUnread, e.doc.at(f.Value), "the configuration of filter %q comes from a control plane (ECDS)", f.Name)
					return
				}
			}
			if !at.Exists() {
				at = chain.Manager.Get("http_filters")
			}
		}
	}
	if at.Exists() {
		e.add(EnvoyNoFilter, e.doc.at(at), "http_filters has no ext_authz filter that asks Coatcheck over gRPC")
	}
}

// guarded are the guards of a connection manager.
func guarded(guards []guard, m *envoyconfig.Manager) []guard {
	return slices.DeleteFunc(slices.Clone(guards), func(g guard) bool { return g.manager != m })
}
