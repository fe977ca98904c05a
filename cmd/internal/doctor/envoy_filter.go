package doctor

import (
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

// The findings of the ext_authz filter.
const (
	EnvoyFailOpen             ID = "ENVOY_FAIL_OPEN"
	EnvoyTimeoutMissing       ID = "ENVOY_TIMEOUT_MISSING"
	EnvoyTimeoutLong          ID = "ENVOY_TIMEOUT_LONG"
	EnvoyTimeoutShort         ID = "ENVOY_TIMEOUT_SHORT"
	EnvoyStatusOnError        ID = "ENVOY_STATUS_ON_ERROR"
	EnvoyFilterDisabled       ID = "ENVOY_FILTER_DISABLED"
	EnvoyFilterByChance       ID = "ENVOY_FILTER_BY_CHANCE"
	EnvoyShadowMode           ID = "ENVOY_SHADOW_MODE"
	EnvoyClearRouteCache      ID = "ENVOY_CLEAR_ROUTE_CACHE"
	EnvoyMessageLimit         ID = "ENVOY_MESSAGE_LIMIT"
	EnvoyRawHeaders           ID = "ENVOY_RAW_HEADERS"
	EnvoyMutationsUnvalidated ID = "ENVOY_MUTATIONS_UNVALIDATED"
)

var filterRules = []Rule{
	{EnvoyFailOpen, Error, "requests pass unchecked while Coatcheck gives no answer", "`failure_mode_allow` makes an allow of every error and of every late answer, with the identity headers that the client has sent.", fromFilter + ", `failure_mode_allow`", "remove `failure_mode_allow`, or set it to false"},
	{EnvoyTimeoutMissing, Note, "the filter does not say how long it waits", "Envoy then waits 200 ms. Control planes have other defaults, so a number that is not written down changes when the configuration moves.", fromFilter + ", `grpc_service`; `envoy/envoy.yaml`", "set `grpc_service.timeout: 0.2s`"},
	{EnvoyTimeoutLong, Warning, "the filter waits much longer than a check takes", "Coatcheck has answered after its own `timeout`, also in an outage of Redis. A longer wait is for a Coatcheck that is gone: each request then hangs for so long, and holds a connection and memory of Envoy.", fromOurs + ", `timeout`; `envoy/envoy.yaml`", "set `grpc_service.timeout` to a little more than Coatcheck's `timeout`: 0.2s for 150 ms"},
	{EnvoyTimeoutShort, Error, "the filter gives up before Coatcheck answers", "In an outage of Redis Coatcheck answers 503 with `Retry-After` when its own `timeout` ends. An Envoy that gives up sooner counts an error instead, and `failure_mode_allow` would open it.", fromOurs + ", `timeout`", "set `grpc_service.timeout` to more than Coatcheck's `timeout`, or set that to less"},
	{EnvoyStatusOnError, Warning, "a fault between Envoy and Coatcheck looks like a refusal", "Without `status_on_error` Envoy answers 403: clients do not try again, and alerts on 5xx stay silent.", fromFilter + ", `status_on_error`", "set `status_on_error: {code: ServiceUnavailable}`"},
	{EnvoyFilterDisabled, Note, "the filter runs only where a route turns it on", "A route that is added and forgets to turn the filter on is open. Envoy Gateway configures Envoy so, and attaches each policy to the routes itself.", "Envoy, `HttpFilter.disabled`", "remove `disabled`, and disable the filter on the routes that need no check; behind Envoy Gateway look at the SecurityPolicies instead"},
	{EnvoyFilterByChance, Error, "the filter runs for some requests only", "`filter_enabled` lets chance decide, or a key of the runtime, with which the check can be switched off without a change of the configuration.", fromFilter + ", `filter_enabled`", "remove `filter_enabled`"},
	{EnvoyShadowMode, Error, "the filter refuses no request", "`shadow_mode` asks and then lets every request through. It is for trying Coatcheck out beside another protection.", fromFilter + ", `shadow_mode`", "remove `shadow_mode`; to try a policy, use the shadow mode of the policy"},
	{EnvoyClearRouteCache, Error, "the route is chosen again after the check", "Coatcheck has checked what the first route requires. With `clear_route_cache` Envoy looks for the route again, and the request can end up at one that requires more.", fromCaution, "remove `clear_route_cache` and `clear_route_cache_headers`"},
	{EnvoyMessageLimit, Error, "Envoy can send more than Coatcheck takes", "A CheckRequest over `grpc.max_message_bytes` is an error to Envoy and not a verdict: a client could make one on purpose, and with `failure_mode_allow` pass.", fromOurs + ", `grpc.max_message_bytes`", "remove `with_request_body`, lower `max_request_headers_kb`, or raise `grpc.max_message_bytes`"},
	{EnvoyRawHeaders, Note, "repeated headers are joined before Coatcheck sees them", "Two Cookie lines become one, and a session cookie behind a comma is refused: a sibling domain that can set a cookie can lock users out. Istio and Envoy Gateway have no setting for it.", fromFilter + ", `encode_raw_headers`; Coatcheck, `docs/operations.md`", "set `encode_raw_headers: true`"},
	{EnvoyMutationsUnvalidated, Note, "Envoy takes over headers without a look at them", "With `validate_mutations` a header that is invalid ends in a 500 and not in the upstream. Coatcheck encodes its values, so this is a second line of defence.", fromFilter + ", `validate_mutations`", "set `validate_mutations: true`"},
}

// filter looks at the settings of the filter alone.
func (e *envoy) filter(g guard) {
	config := g.filter.Config
	e.asked[g.filter.Service()] = true
	e.wherever(e.doc, config)
	if g.filter.Disabled {
		e.add(EnvoyFilterDisabled, e.doc.at(g.filter.Get("disabled"), g.filter.Value), "filter %q has disabled: true", g.filter.Name)
	}
	if v := config.Get("status_on_error", "code"); !isServerError(v.Text()) {
		e.add(EnvoyStatusOnError, e.doc.at(config.Get("status_on_error"), config), "status_on_error is %s", orMissing(v.Text()))
	}
	e.timeout(config)
	headers, body := int64(60), config.Get("with_request_body", "max_request_bytes").Int()
	if v := g.manager.Get("max_request_headers_kb"); v.Exists() {
		headers = v.Int()
	}
	if most := largest(headers, body); most > int64(e.MaxMessageBytes) {
		e.add(EnvoyMessageLimit, e.doc.at(config.Get("with_request_body"), g.manager.Get("max_request_headers_kb"), config), "up to %d KiB, and grpc.max_message_bytes is %d KiB", most>>10, e.MaxMessageBytes>>10)
	}
	if !config.Get("encode_raw_headers").Bool() {
		e.add(EnvoyRawHeaders, e.doc.at(config.Get("encode_raw_headers"), config), "encode_raw_headers is not true")
	}
	if !config.Get("validate_mutations").Bool() {
		e.add(EnvoyMutationsUnvalidated, e.doc.at(config.Get("validate_mutations"), config), "validate_mutations is not true")
	}
}

// wherever looks at what is wrong in a filter's configuration wherever it stands, also in a
// part of one, such as the patch of an EnvoyFilter.
func (n *notebook) wherever(doc *document, config envoyconfig.Value) {
	if v := config.Get("failure_mode_allow"); v.Bool() {
		n.add(EnvoyFailOpen, doc.at(v), "failure_mode_allow is true")
	}
	for _, name := range []string{"filter_enabled", "deny_at_disable"} {
		if v := config.Get(name); v.Exists() {
			n.add(EnvoyFilterByChance, doc.at(v), "%s is set", name)
		}
	}
	if v := config.Get("shadow_mode"); v.Bool() {
		n.add(EnvoyShadowMode, doc.at(v), "shadow_mode is true")
	}
	if v := config.Get("clear_route_cache"); v.Bool() {
		n.add(EnvoyClearRouteCache, doc.at(v), "clear_route_cache is true")
	} else if v := config.Get("clear_route_cache_headers"); v.Exists() {
		n.add(EnvoyClearRouteCache, doc.at(v), "clear_route_cache_headers is set")
	}
}

func (e *envoy) timeout(config envoyconfig.Value) {
	service := config.Get("grpc_service")
	v := service.Get("timeout")
	if !v.Exists() {
		if e.answersIn() >= defaultTimeout {
			e.add(EnvoyTimeoutShort, e.doc.at(service), "Envoy's default is 200 ms, and Coatcheck's timeout %s", e.answersIn())
		} else {
			e.add(EnvoyTimeoutMissing, e.doc.at(service), "grpc_service has no timeout")
		}
		return
	}
	compareTimeout(e.notebook, e.ours, e.doc.at(v), v.Text(), EnvoyTimeoutLong, EnvoyTimeoutShort)
}

// defaultTimeout is what Envoy's filter waits where it is not told.
const defaultTimeout = 200 * time.Millisecond

// timeoutFaults compares the timeout of Envoy or of a control plane with ours.
func (o *ours) timeoutFaults(text string) (long, short bool) {
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return false, false // the reader of the configuration refuses it
	case d <= 0: // without a limit
		return true, false
	case d <= o.answersIn():
		return false, true
	}
	return d > max(time.Second, 4*o.answersIn()), false
}

func compareTimeout(n *notebook, o *ours, at place, text string, long, short ID) {
	switch isLong, isShort := o.timeoutFaults(text); {
	case isLong:
		n.add(long, at, "it waits %s, and Coatcheck answers within %s", text, o.answersIn())
	case isShort:
		n.add(short, at, "it waits %s, and Coatcheck up to %s", text, o.answersIn())
	}
}

var serverErrors = []string{"InternalServerError", "NotImplemented", "BadGateway", "ServiceUnavailable", "GatewayTimeout", "HTTPVersionNotSupported",
	"VariantAlsoNegotiates", "InsufficientStorage", "LoopDetected", "NotExtended", "NetworkAuthenticationRequired"}

// isServerError reports whether a status, by its number or by Envoy's name, is a 5xx.
func isServerError(status string) bool {
	if n, err := strconv.Atoi(status); err == nil {
		return n >= 500 && n <= 599
	}
	for _, name := range serverErrors {
		if strings.EqualFold(status, name) {
			return true
		}
	}
	return false
}

func orMissing(text string) string {
	if text == "" {
		return "missing"
	}
	return text
}
