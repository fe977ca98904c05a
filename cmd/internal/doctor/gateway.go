package doctor

import (
	"context"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// The findings of Envoy Gateway.
const (
	GatewayFailOpen        ID = "GATEWAY_FAIL_OPEN"
	GatewayTimeoutMissing  ID = "GATEWAY_TIMEOUT_MISSING"
	GatewayTimeoutLong     ID = "GATEWAY_TIMEOUT_LONG"
	GatewayTimeoutShort    ID = "GATEWAY_TIMEOUT_SHORT"
	GatewayStatusOnError   ID = "GATEWAY_STATUS_ON_ERROR"
	GatewayRecomputeRoute  ID = "GATEWAY_RECOMPUTE_ROUTE"
	GatewayOverridden      ID = "GATEWAY_OVERRIDDEN"
	GatewayRouteUnchecked  ID = "GATEWAY_ROUTE_UNCHECKED"
	GatewayAliasesHidden   ID = "GATEWAY_ALIASES_HIDDEN"
	GatewayCookieHidden    ID = "GATEWAY_COOKIE_HIDDEN"
	GatewayHeadersHidden   ID = "GATEWAY_HEADERS_HIDDEN"
	GatewayMessageLimit    ID = "GATEWAY_MESSAGE_LIMIT"
	GatewayReferenceGrant  ID = "GATEWAY_REFERENCE_GRANT"
	GatewayCircuitBreakers ID = "GATEWAY_CIRCUIT_BREAKERS"
	GatewayHealthChecks    ID = "GATEWAY_HEALTH_CHECKS"
	GatewayPaths           ID = "GATEWAY_PATHS_NOT_NORMALISED"
	GatewayRouteKeys       ID = "GATEWAY_ROUTE_KEYS"
	GatewayRoutePolicy     ID = "GATEWAY_ROUTE_POLICY"
	GatewayIdentityRemoved ID = "GATEWAY_IDENTITY_REMOVED"
	GatewayIdentitySet     ID = "GATEWAY_IDENTITY_SET"
)

var gatewayRules = []Rule{
	{GatewayFailOpen, Error, "requests pass unchecked while Coatcheck gives no answer", "`failOpen` makes an allow of every error and of every late answer, and Envoy Gateway then also leaves the check out where the policy itself is invalid.", fromGateway + ".`failOpen`", "remove `failOpen`, or set it to false"},
	{GatewayTimeoutMissing, Warning, "the policy waits ten seconds", "Without `timeout` Envoy Gateway sets 10 s: while Coatcheck is gone, each request hangs for so long, and holds a connection and memory of Envoy.", fromGateway + ".`timeout`", "set `timeout: 200ms`"},
	{GatewayTimeoutLong, Warning, "the policy waits much longer than a check takes", "Coatcheck has answered after its own `timeout`, also in an outage of Redis. A longer wait is for a Coatcheck that is gone.", "Coatcheck, `timeout`", "set `timeout` to a little more than Coatcheck's: 200ms for 150 ms"},
	{GatewayTimeoutShort, Error, "the policy gives up before Coatcheck answers", "In an outage of Redis Coatcheck answers 503 with `Retry-After` when its own `timeout` ends. An Envoy that gives up sooner counts an error instead.", "Coatcheck, `timeout`", "set `timeout` to more than Coatcheck's, or set that to less"},
	{GatewayStatusOnError, Warning, "a fault between Envoy and Coatcheck looks like a refusal", "Without `statusOnError` Envoy answers 403: clients do not try again, and alerts on 5xx stay silent.", fromGateway + ".`statusOnError`", "set `statusOnError: 503`"},
	{GatewayRecomputeRoute, Error, "the route is chosen again after the check", "Coatcheck has checked what the first route requires. With `recomputeRoute` the request can end up at one that requires more.", fromGateway + ".`recomputeRoute`", "remove `recomputeRoute`"},
	{GatewayOverridden, Error, "a policy of a route takes the check away", "A SecurityPolicy of a route replaces the Gateway's whole: ext_authz is gone from the route, and only the status `Overridden` says so.", "Envoy Gateway 1.9, seen in what `egctl x translate` makes", "set `mergeType: StrategicMerge` on the route's policy, or repeat `extAuth` there"},
	{GatewayRouteUnchecked, Warning, "a route to an upstream is not checked", "No SecurityPolicy that asks Coatcheck is attached to it or to its Gateway: Coatcheck neither removes a client's identity headers nor cuts out the session cookie.", "Envoy Gateway, SecurityPolicy", "attach the policy to the Gateway, and let routes differ by `contextExtensions`"},
	{GatewayAliasesHidden, Error, "a client's identity headers reach the upstream", "`headersToExtAuth` hides them from Coatcheck, which cannot remove what it does not see, and no ClientTrafficPolicy removes them early.", "Coatcheck, seen on Envoy 1.40", "add a ClientTrafficPolicy with `headers.earlyRequestHeaders.removeOnMatch`, or remove `headersToExtAuth`"},
	{GatewayCookieHidden, Error, "Coatcheck does not see the Cookie header", "No user gets in, and on routes without a check of the session the session cookie reaches the upstream.", fromGateway + ".`headersToExtAuth`", "add `cookie` to `headersToExtAuth`"},
	{GatewayHeadersHidden, Warning, "Coatcheck does not see a header that it decides or answers by", whyUnseen, "Coatcheck, `coatcheck config check --policies FILE`", "add the headers to `headersToExtAuth`"},
	{GatewayMessageLimit, Error, "Envoy can send more than Coatcheck takes", "A CheckRequest over `grpc.max_message_bytes` is an error to Envoy and not a verdict: a client could make one on purpose.", "Coatcheck, `grpc.max_message_bytes`", "remove `bodyToExtAuth`, or raise `grpc.max_message_bytes`"},
	{GatewayReferenceGrant, Error, "the policy may not use the backend", "A backend in another namespace needs a ReferenceGrant there. Without it Envoy Gateway answers every request with 500.", "Gateway API, ReferenceGrant; seen on Envoy Gateway 1.9", "add a ReferenceGrant in the backend's namespace, from `SecurityPolicy` in the policy's"},
	{GatewayCircuitBreakers, Warning, "a burst is refused by Envoy itself", "With Envoy Gateway's default of 1,024 parallel or waiting requests, Envoy makes an error of each further check.", "Envoy Gateway, `CircuitBreaker`", "set `maxParallelRequests` and `maxPendingRequests` in `backendSettings.circuitBreaker` to 16384"},
	{GatewayHealthChecks, Warning, "Envoy does not notice a replica that stops", "A Backend names addresses, of which Kubernetes does not know which are ready.", "Envoy Gateway, Backend", "set `backendSettings.healthCheck.active` of type GRPC, or use the Service"},
	{GatewayPaths, Warning, "routes, Coatcheck and the upstream can read a path differently", "Envoy Gateway normalises paths unless it is told not to. Coatcheck refuses paths that can be read in two ways, but only on routes that it checks.", "Envoy Gateway, `ClientTrafficPolicy.spec.path`", "remove `escapedSlashesAction: KeepUnchanged` and `disableMergeSlashes`"},
	{GatewayRouteKeys, Error, "a policy says what Coatcheck does not understand", "Coatcheck refuses every request of the route with 403 `bad_route`, so that a typing error opens no route.", "Coatcheck, `docs/permissions.md`", "correct the name or the value in `contextExtensions`; name those for other filters in `route.ignore_keys`"},
	{GatewayRoutePolicy, Error, "a policy names one that the policy file does not have", "Coatcheck refuses every request of the route with 403 `unknown_policy`.", "Coatcheck, `docs/permissions.md`", "correct `coatcheck.policy`, or add the policy"},
	{GatewayIdentityRemoved, Error, "the route removes the identity headers that Coatcheck sets", "A RequestHeaderModifier runs after the check: the request is allowed, and the upstream sees no user.", "Gateway API, HTTPRoute", "remove a client's headers early, by a ClientTrafficPolicy; Coatcheck removes the rest"},
	{GatewayIdentitySet, Error, "the route sets an identity header itself", "It is set after the check, in place of Coatcheck's or beside it, so that the upstream sees a user that no session has.", "Gateway API, HTTPRoute", "leave these headers to Coatcheck, or choose another `headers.prefix`"},
}

const envoyGateway, gatewayAPI = "gateway.envoyproxy.io", "gateway.networking.k8s.io"

// gateway looks at everything of Envoy Gateway.
func (k *kubernetes) gateway(ctx context.Context) {
	policies := k.extAuth()
	for _, o := range policies {
		k.security(ctx, o)
	}
	if len(policies) == 0 {
		return
	}
	for _, o := range k.of(envoyGateway, "ClientTrafficPolicy") {
		k.clientPaths(o)
	}
	k.overrides(policies)
	for _, kind := range []string{"HTTPRoute", "GRPCRoute"} {
		for _, o := range k.of(gatewayAPI, kind) {
			k.httpRoute(o, policies)
		}
	}
}

// extAuth are the SecurityPolicies that ask Coatcheck. Those that merge into one need not
// repeat the backend.
func (k *kubernetes) extAuth() []*object {
	all := slices.DeleteFunc(k.of(envoyGateway, "SecurityPolicy"), func(o *object) bool { return !o.spec.Get("extAuth").Exists() })
	return named(all, k.service, func(o *object) string {
		var names []string
		for _, ref := range backends(o) {
			names = append(names, ref.Get("name").Text())
		}
		if names == nil && o.spec.Get("mergeType").Exists() {
			return "coatcheck"
		}
		return strings.Join(names, " ")
	})
}

func backends(o *object) []envoyconfig.Value {
	grpc := o.spec.Get("extAuth", "grpc")
	refs := grpc.Get("backendRefs").Items()
	if v := grpc.Get("backendRef"); v.Exists() {
		refs = append(refs, v)
	}
	return refs
}

// security looks at a policy that asks Coatcheck.
func (k *kubernetes) security(ctx context.Context, o *object) {
	v := o.spec.Get("extAuth")
	merges := o.spec.Get("mergeType").Exists()
	if open := v.Get("failOpen"); open.Bool() {
		k.add(GatewayFailOpen, o.at(open), "failOpen is true")
	}
	switch timeout := v.Get("timeout"); {
	case timeout.Exists():
		compareTimeout(k.notebook, k.ours, o.at(timeout), timeout.Text(), GatewayTimeoutLong, GatewayTimeoutShort)
	case !merges:
		k.add(GatewayTimeoutMissing, o.at(v), "it has no timeout")
	}
	if status := v.Get("statusOnError"); !isServerError(status.Text()) && (status.Exists() || !merges) {
		k.add(GatewayStatusOnError, o.at(status, v), "statusOnError is %s", orMissing(status.Text()))
	}
	if again := v.Get("recomputeRoute"); again.Bool() {
		k.add(GatewayRecomputeRoute, o.at(again), "recomputeRoute is true")
	}
	if body := v.Get("bodyToExtAuth", "maxRequestBytes"); body.Exists() && largest(60, body.Int()) > int64(k.MaxMessageBytes) {
		k.add(GatewayMessageLimit, o.at(body), "up to %d KiB, and grpc.max_message_bytes is %d KiB", largest(60, body.Int())>>10, k.MaxMessageBytes>>10)
	}
	k.sentHeaders(o)
	k.backend(o)
	k.contextExtensions(ctx, o)
}

// sentHeaders looks at a list of the headers that Coatcheck sees.
func (k *kubernetes) sentHeaders(o *object) {
	list := o.spec.Get("extAuth", "headersToExtAuth")
	if !list.Exists() {
		return
	}
	has := func(name string) bool {
		return slices.ContainsFunc(list.Texts(), func(text string) bool { return strings.EqualFold(text, name) })
	}
	if !has("cookie") {
		k.add(GatewayCookieHidden, o.at(list), "cookie is not in the list")
	}
	if unseen := k.unseen(func(name string) bool { return !has(name) }); len(unseen) > 0 {
		k.add(GatewayHeadersHidden, o.at(list), "%s", strings.Join(unseen, ", "))
	}
	var open []string
	for _, name := range k.spellings() {
		if !has(name) && !k.dropped(o.namespace, name) {
			open = append(open, name)
		}
	}
	if open != nil {
		k.add(GatewayAliasesHidden, o.at(list), "such as %s", strings.Join(open[:min(3, len(open))], ", "))
	}
}

// dropped reports whether a ClientTrafficPolicy of the namespace removes a client's
// header early. Envoy Gateway refuses headers with underscores unless it is told not to.
func (k *kubernetes) dropped(namespace, name string) bool {
	underscores := strings.Contains(name, "_")
	for _, o := range k.of(envoyGateway, "ClientTrafficPolicy") {
		if o.namespace != namespace {
			continue
		}
		headers := o.spec.Get("headers")
		if headers.Get("withUnderscoresAction").Text() == "Allow" {
			underscores = false
		}
		early := headers.Get("earlyRequestHeaders")
		if slices.ContainsFunc(early.Get("remove").Texts(), func(text string) bool { return strings.EqualFold(text, name) }) ||
			slices.ContainsFunc(early.Get("removeOnMatch").Items(), func(m envoyconfig.Value) bool { return gatewayMatches(m, name) }) {
			return true
		}
	}
	return underscores
}

// gatewayMatches is Envoy Gateway's StringMatch.
func gatewayMatches(m envoyconfig.Value, name string) bool {
	value := m.Get("value")
	switch m.Get("type").Text() {
	case "Prefix":
		return strings.HasPrefix(name, strings.ToLower(value.Text()))
	case "Suffix":
		return strings.HasSuffix(name, strings.ToLower(value.Text()))
	case "RegularExpression":
		return matchesWhole(value, name)
	}
	return strings.EqualFold(value.Text(), name)
}

// contextExtensions judges those of a policy.
func (k *kubernetes) contextExtensions(ctx context.Context, o *object) {
	list := o.spec.Get("extAuth", "contextExtensions")
	extensions := make(map[string]string)
	for _, item := range list.Items() {
		value := item.Get("value")
		extensions[item.Get("name").Text()] = value.Text()
		if !value.Exists() {
			extensions[item.Get("name").Text()] = envoyconfig.Redacted // in a Secret or a ConfigMap
		}
	}
	if id, why := k.judge(ctx, extensions, GatewayRouteKeys, GatewayRoutePolicy); id != "" {
		k.add(id, o.at(list), "%s", why)
	}
}

// clientPaths looks at how a Gateway normalises paths.
func (k *kubernetes) clientPaths(o *object) {
	if v := o.spec.Get("path", "escapedSlashesAction"); v.Text() == "KeepUnchanged" {
		k.add(GatewayPaths, o.at(v), "escapedSlashesAction is KeepUnchanged")
	}
	if v := o.spec.Get("path", "disableMergeSlashes"); v.Bool() {
		k.add(GatewayPaths, o.at(v), "disableMergeSlashes is true")
	}
}
