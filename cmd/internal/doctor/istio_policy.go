package doctor

import (
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// policy looks at a CUSTOM policy that asks Coatcheck.
func (k *kubernetes) policy(o *object) {
	k.defined(o)
	rules := o.spec.Get("rules")
	if len(rules.Items()) == 0 {
		k.add(IstioNoRules, o.at(rules, o.spec), "it has no rules")
	}
	for _, rule := range rules.Items() {
		if !namesPorts(rule) {
			k.add(IstioTCPPorts, o.at(rule), "a rule names no ports")
		}
		if v := excluded(rule); v.Exists() && !k.removesEarly() {
			k.add(IstioExcludedPaths, o.at(v), "no EnvoyFilter removes %s*", k.HeaderPrefix)
		}
	}
	if ns := k.ambient(o); ns != nil {
		k.add(IstioNoWaypoint, o.at(o.spec), "namespace %s is in ambient mode", ns.name)
	}
	if w := k.checksItself(o); w != nil {
		k.add(IstioSelfCheck, o.at(o.spec), "it holds for %s in namespace %s", w.document.name, w.namespace)
	}
}

// defined looks for the policy's provider.
func (k *kubernetes) defined(o *object) {
	name := o.spec.Get("provider", "name")
	if len(k.meshes) == 0 {
		k.add(IstioMeshUnread, o.at(name, o.spec), "provider %q", name.Text())
		return
	}
	for _, d := range k.meshes {
		for _, provider := range d.root.Get("extension_providers").Items() {
			if providerName(provider) == name.Text() {
				return
			}
		}
	}
	k.add(IstioProviderUndefined, o.at(name, o.spec), "%q", name.Text())
}

// namesPorts reports whether every alternative of a rule is bound to ports.
func namesPorts(rule envoyconfig.Value) bool {
	to := rule.Get("to").Items()
	return len(to) > 0 && !slices.ContainsFunc(to, func(v envoyconfig.Value) bool { return len(v.Get("operation", "ports").Items()) == 0 })
}

// excluded is what keeps requests on the ports of a rule from being checked.
func excluded(rule envoyconfig.Value) envoyconfig.Value {
	for _, to := range rule.Get("to").Items() {
		for _, name := range []string{"notPaths", "paths", "notMethods", "methods", "notHosts"} {
			v := to.Get("operation", name)
			own := func(item envoyconfig.Value) bool {
				return strings.HasPrefix(item.Text(), "/envoy.service.auth.v3.Authorization/") || name == "notPaths" && strings.HasPrefix(item.Text(), "/.auth/")
			}
			if left := slices.DeleteFunc(v.Items(), own); len(left) > 0 {
				return v
			}
		}
	}
	return envoyconfig.Value{}
}

const rootNamespace = "istio-system"

// rootOf is the namespace whose policies hold for the whole mesh.
func (k *kubernetes) rootOf() string {
	for _, d := range k.meshes {
		if v := d.root.Get("root_namespace"); v.Exists() {
			return v.Text()
		}
	}
	return rootNamespace
}

// ambient is a namespace in ambient mode in which a policy would have to be enforced by
// a waypoint, and is not; or nil. A policy for the whole mesh is one for sidecars, too,
// where another policy speaks for the waypoint.
func (k *kubernetes) ambient(o *object) *object {
	for _, ns := range k.of("", "Namespace") {
		switch {
		case ns.label("istio.io/dataplane-mode") != "ambient" || k.enforced(ns, o):
		case o.namespace == ns.name:
			return ns
		case o.namespace == k.rootOf() && !slices.ContainsFunc(k.custom(), func(other *object) bool { return k.enforced(ns, other) }):
			return ns
		}
	}
	return nil
}

// enforced reports whether a waypoint enforces a policy in a namespace.
func (k *kubernetes) enforced(ns, policy *object) bool {
	return slices.ContainsFunc(references(policy), func(t envoyconfig.Value) bool {
		if policy.namespace == k.rootOf() {
			return t.Get("kind").Text() == "GatewayClass"
		}
		return policy.namespace == ns.name && k.byWaypoint(ns, policy, t)
	})
}

// byWaypoint reports whether traffic to a target goes through a waypoint, as far as the
// target was read.
func (k *kubernetes) byWaypoint(ns, policy *object, target envoyconfig.Value) bool {
	if target.Get("kind").Text() != "Service" {
		return true
	}
	const label = "istio.io/use-waypoint"
	use := ns.label(label)
	for _, service := range k.of("", "Service") {
		if service.namespace == policy.namespace && service.name == target.Get("name").Text() && service.label(label) != "" {
			use = service.label(label)
		}
	}
	return use != "" && use != "none"
}

// checksItself is a workload of Coatcheck whose own requests the policy checks, or nil.
func (k *kubernetes) checksItself(o *object) *object {
	if o.spec.Get("targetRefs").Exists() || o.spec.Get("targetRef").Exists() || sparesItself(o) {
		return nil
	}
	if o.namespace == "" {
		return nil
	}
	for _, w := range k.workloads() {
		template := w.spec.Get("template")
		if coatcheckContainer(w).Exists() && (o.namespace == w.namespace || o.namespace == k.rootOf()) &&
			selects(o.spec.Get("selector", "matchLabels"), template.Get("metadata", "labels")) && k.injected(w) {
			return w
		}
	}
	return nil
}

// sparesItself reports whether every rule leaves out the calls of Envoy to Coatcheck.
func sparesItself(o *object) bool {
	for _, rule := range o.spec.Get("rules").Items() {
		for _, to := range rule.Get("to").Items() {
			if !slices.ContainsFunc(to.Get("operation", "notPaths").Texts(), func(path string) bool {
				return strings.HasPrefix(path, "/envoy.service.auth.v3.Authorization/") || path == "/*" || path == "*"
			}) {
				return false
			}
		}
	}
	return true
}

// injected reports whether Istio puts a sidecar into the pods of a workload, or, where
// its Namespace was not read, could.
func (k *kubernetes) injected(w *object) bool {
	const pod = "sidecar.istio.io/inject"
	meta := w.spec.Get("template", "metadata")
	for _, v := range []envoyconfig.Value{meta.Get("labels").Entry(pod), meta.Get("annotations").Entry(pod)} {
		if v.Exists() {
			return v.Bool()
		}
	}
	ns := k.namespaceOf(w.namespace)
	return ns == nil || ns.label("istio-injection") == "enabled" || ns.label("istio.io/rev") != ""
}
