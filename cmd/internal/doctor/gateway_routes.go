package doctor

import (
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// backend looks at how a policy reaches Coatcheck.
func (k *kubernetes) backend(o *object) {
	settings := o.spec.Get("extAuth", "grpc", "backendSettings")
	refs := backends(o)
	inherits := o.spec.Get("mergeType").Exists() && !settings.Get("circuitBreaker").Exists()
	if breaker := settings.Get("circuitBreaker"); len(refs) > 0 && !inherits && (breaker.Get("maxParallelRequests").Int() <= 1024 || breaker.Get("maxPendingRequests").Int() <= 1024) {
		k.add(GatewayCircuitBreakers, o.at(breaker, settings, o.spec.Get("extAuth", "grpc")), "maxParallelRequests is %s, maxPendingRequests %s",
			orDefault(breaker.Get("maxParallelRequests").Text()), orDefault(breaker.Get("maxPendingRequests").Text()))
	}
	for _, ref := range refs {
		if ns := ref.Get("namespace"); ns.Exists() && o.namespace != "" && ns.Text() != o.namespace && !k.granted(o, ref) {
			k.add(GatewayReferenceGrant, o.at(ref), "no ReferenceGrant in namespace %s was read", ns.Text())
		}
		if ref.Get("kind").Text() == "Backend" && !settings.Get("healthCheck").Exists() && !k.isSocket(o, ref) {
			k.add(GatewayHealthChecks, o.at(ref), "Backend %q", ref.Get("name").Text())
		}
	}
}

// isSocket reports whether a Backend, if it was read, is a Unix socket, beside which no
// other replica is.
func (k *kubernetes) isSocket(policy *object, ref envoyconfig.Value) bool {
	for _, o := range k.of(envoyGateway, "Backend") {
		if o.name == ref.Get("name").Text() && o.namespace == namespaceOf(ref, policy) {
			return slices.ContainsFunc(o.spec.Get("endpoints").Items(), func(v envoyconfig.Value) bool { return v.Get("unix").Exists() })
		}
	}
	return false
}

func namespaceOf(ref envoyconfig.Value, from *object) string {
	if v := ref.Get("namespace"); v.Exists() {
		return v.Text()
	}
	return from.namespace
}

// granted reports whether a ReferenceGrant lets the policy use the backend.
func (k *kubernetes) granted(policy *object, ref envoyconfig.Value) bool {
	kind := ref.Get("kind").Text()
	if kind == "" {
		kind = "Service"
	}
	for _, o := range k.of(gatewayAPI, "ReferenceGrant") {
		from := slices.ContainsFunc(o.spec.Get("from").Items(), func(v envoyconfig.Value) bool {
			return v.Get("kind").Text() == "SecurityPolicy" && v.Get("group").Text() == envoyGateway && v.Get("namespace").Text() == policy.namespace
		})
		to := slices.ContainsFunc(o.spec.Get("to").Items(), func(v envoyconfig.Value) bool {
			name := v.Get("name").Text()
			return v.Get("kind").Text() == kind && (name == "" || name == ref.Get("name").Text())
		})
		if o.namespace == ref.Get("namespace").Text() && from && to {
			return true
		}
	}
	return false
}

// A target is what a policy is attached to.
type target struct{ kind, namespace, name string }

// references are the targets as a policy of the Gateway API or of Istio writes them.
func references(o *object) []envoyconfig.Value {
	refs := o.spec.Get("targetRefs").Items()
	if v := o.spec.Get("targetRef"); v.Exists() {
		refs = append(refs, v)
	}
	return refs
}

// targets are those that a policy names, which are in its own namespace.
func targets(o *object) []target {
	var found []target
	for _, ref := range references(o) {
		found = append(found, target{ref.Get("kind").Text(), o.namespace, ref.Get("name").Text()})
	}
	return found
}

// chosen are the targets of a policy, with those that its targetSelectors choose by
// their labels among what was read.
func (k *kubernetes) chosen(o *object) []target {
	found := targets(o)
	for _, selector := range o.spec.Get("targetSelectors").Items() {
		for _, other := range k.of(gatewayAPI, selector.Get("kind").Text()) {
			if other.namespace == o.namespace && selects(selector.Get("matchLabels"), other.root.Get("metadata", "labels")) {
				found = append(found, target{other.kind, other.namespace, other.name})
			}
		}
	}
	return found
}

// overrides looks for policies of routes that replace ours at the Gateway.
func (k *kubernetes) overrides(policies []*object) {
	for _, o := range k.of(envoyGateway, "SecurityPolicy") {
		if o.spec.Get("extAuth").Exists() || o.spec.Get("mergeType").Exists() {
			continue
		}
		for _, t := range k.chosen(o) {
			if t.kind != "Gateway" && k.gatewayChecked(t, policies) && !k.login(t) {
				k.add(GatewayOverridden, o.at(o.spec), "%s %q is then not checked", t.kind, t.name)
			}
		}
	}
}

// login reports whether a route, which was read, has login's pages alone: these are not
// checked on purpose.
func (k *kubernetes) login(route target) bool {
	return slices.ContainsFunc(k.of(gatewayAPI, route.kind), func(o *object) bool {
		return o.name == route.name && o.namespace == route.namespace && k.servesLogin(o)
	})
}

// gatewayChecked reports whether a policy of ours is attached to a Gateway of the route;
// if the route was not read, to any Gateway.
func (k *kubernetes) gatewayChecked(route target, policies []*object) bool {
	parents := k.parents(route)
	for _, policy := range policies {
		for _, t := range k.chosen(policy) {
			if t.kind == "Gateway" && (parents == nil || slices.Contains(parents, t)) {
				return true
			}
		}
	}
	return false
}

// parents are the Gateways of a route; nil if it was not read.
func (k *kubernetes) parents(route target) []target {
	var found []target
	for _, o := range k.of(gatewayAPI, route.kind) {
		if o.name != route.name || o.namespace != route.namespace {
			continue
		}
		for _, ref := range o.spec.Get("parentRefs").Items() {
			found = append(found, target{"Gateway", namespaceOf(ref, o), ref.Get("name").Text()})
		}
	}
	return found
}

// httpRoute looks at a route: whether it is checked, and what it does to headers.
func (k *kubernetes) httpRoute(o *object, policies []*object) {
	route := target{o.kind, o.namespace, o.name}
	attached := slices.ContainsFunc(policies, func(p *object) bool { return slices.Contains(k.chosen(p), route) })
	if !attached && !k.gatewayChecked(route, policies) && !k.servesLogin(o) && leadsOn(o) {
		k.add(GatewayRouteUnchecked, o.at(o.spec), "no SecurityPolicy that asks Coatcheck is attached")
	}
	for _, rule := range o.spec.Get("rules").Items() {
		k.modifiers(o, rule)
		for _, ref := range rule.Get("backendRefs").Items() {
			k.modifiers(o, ref)
		}
	}
}

// leadsOn reports whether a route leads to a backend.
func leadsOn(o *object) bool {
	return slices.ContainsFunc(o.spec.Get("rules").Items(), func(rule envoyconfig.Value) bool { return len(rule.Get("backendRefs").Items()) > 0 })
}

// servesLogin reports whether a route has login's pages alone.
func (k *kubernetes) servesLogin(o *object) bool {
	rules := o.spec.Get("rules").Items()
	for _, rule := range rules {
		matches := rule.Get("matches").Items()
		if len(matches) == 0 || slices.ContainsFunc(matches, func(m envoyconfig.Value) bool { return !k.isLoginPath(m.Get("path", "value").Text()) }) {
			return false
		}
	}
	return len(rules) > 0
}

func (o *ours) isLoginPath(path string) bool {
	return path == "/.well-known/change-password" || strings.HasPrefix(path+"/", o.LoginBasePath)
}

// modifiers looks at what the filters of a rule do to request headers.
func (k *kubernetes) modifiers(o *object, rule envoyconfig.Value) {
	for _, filter := range rule.Get("filters").Items() {
		change := filter.Get("requestHeaderModifier")
		for _, name := range change.Get("remove").Items() {
			if k.isIdentity(name.Text()) {
				k.add(GatewayIdentityRemoved, o.at(name), "%s", name.Text())
			}
		}
		for _, header := range append(change.Get("set").Items(), change.Get("add").Items()...) {
			if name := header.Get("name"); k.isIdentity(name.Text()) {
				k.add(GatewayIdentitySet, o.at(name), "%s", name.Text())
			}
		}
	}
}
