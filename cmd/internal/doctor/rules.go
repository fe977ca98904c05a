package doctor

import "slices"

// An ID names a kind of finding. It never changes its meaning, so that an operator can
// search for it, and a program can pass over it.
type ID string

// A Severity says how bad a finding is.
type Severity string

// The severities, the worst first.
const (
	Error   Severity = "error"   // requests pass without a check, or none pass at all
	Warning Severity = "warning" // it fails in an outage, in a burst, or with another mistake
	Note    Severity = "note"    // it could not be looked at, or is better otherwise
)

// severities, the least first.
var severities = []Severity{Note, Warning, Error}

// Severities are the names of the severities, the least first.
func Severities() []string {
	var names []string
	for _, s := range severities {
		names = append(names, string(s))
	}
	return names
}

// AtLeast reports whether s is as bad as other, or worse.
func (s Severity) AtLeast(other Severity) bool {
	return slices.Index(severities, s) >= slices.Index(severities, other)
}

// A Rule describes a kind of finding.
type Rule struct {
	ID       ID
	Severity Severity
	// What is wrong, Why it matters, where that is known From, and the Cure; one
	// sentence or two each, in Markdown.
	What, Why, From, Cure string
}

// The sources that several rules rest on.
const (
	fromFilter  = "Envoy, `envoy.extensions.filters.http.ext_authz.v3.ExtAuthz`"
	fromCaution = "Envoy, External Authorization filter, Security Considerations"
	fromIstio   = "Istio, `MeshConfig.ExtensionProvider.EnvoyExternalAuthorizationGrpcProvider`"
	fromPolicy  = "Istio, AuthorizationPolicy; seen in the configuration that istiod 1.31 makes"
	fromGateway = "Envoy Gateway, `SecurityPolicy.spec.extAuth`"
	fromOurs    = "Coatcheck"
)

// table holds every rule, in the order of the page. The rules of a subject stand beside
// the code that finds them.
var table = slices.Concat(filterRules, listenerRules, routeRules, clusterRules, istioRules, gatewayRules, kubernetesRules, configurationRules)

// Rules describes every kind of finding, in the order of the page.
func Rules() []Rule { return slices.Clone(table) }

// ruleOf is the row of an ID. A test rules out an ID without a row.
func ruleOf(id ID) Rule {
	if i := slices.IndexFunc(table, func(r Rule) bool { return r.ID == id }); i >= 0 {
		return table[i]
	}
	return Rule{ID: id, Severity: Error, What: string(id)}
}
