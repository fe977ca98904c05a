package doctor

import (
	"context"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/internal/envoyconfig"
	"github.com/coatcheck/coatcheck/internal/suggest"
)

// The findings of Istio's MeshConfig.
const (
	IstioFailOpen        ID = "ISTIO_FAIL_OPEN"
	IstioTimeoutMissing  ID = "ISTIO_TIMEOUT_MISSING"
	IstioTimeoutLong     ID = "ISTIO_TIMEOUT_LONG"
	IstioTimeoutShort    ID = "ISTIO_TIMEOUT_SHORT"
	IstioStatusOnError   ID = "ISTIO_STATUS_ON_ERROR"
	IstioClearRouteCache ID = "ISTIO_CLEAR_ROUTE_CACHE"
	IstioProviderKeys    ID = "ISTIO_PROVIDER_KEYS"
	IstioHTTPProvider    ID = "ISTIO_HTTP_PROVIDER"
	IstioMessageLimit    ID = "ISTIO_MESSAGE_LIMIT"
	IstioPaths           ID = "ISTIO_PATHS_NOT_NORMALISED"
)

// The findings of policies and other objects of Istio.
const (
	IstioProviderUndefined ID = "ISTIO_PROVIDER_UNDEFINED"
	IstioMeshUnread        ID = "ISTIO_MESHCONFIG_UNREAD"
	IstioTCPPorts          ID = "ISTIO_TCP_PORTS"
	IstioNoRules           ID = "ISTIO_NO_RULES"
	IstioNoWaypoint        ID = "ISTIO_NO_WAYPOINT"
	IstioSelfCheck         ID = "ISTIO_SELF_CHECK"
	IstioExcludedPaths     ID = "ISTIO_EXCLUDED_PATHS"
	IstioCircuitBreakers   ID = "ISTIO_CIRCUIT_BREAKERS"
)

var istioRules = []Rule{
	{IstioFailOpen, Error, "requests pass unchecked while Coatcheck gives no answer", "`failOpen` makes an allow of every error and of every late answer, with the identity headers that the client has sent.", fromIstio + ", `failOpen`", "remove `failOpen`, or set it to false"},
	{IstioTimeoutMissing, Error, "the provider waits ten minutes", "Without `timeout` Istio sets 600 s: while Coatcheck is gone, each request hangs for so long, and holds a connection and memory of Envoy.", fromIstio + ", `timeout`; seen in what istiod 1.31 makes", "set `timeout: 0.2s`"},
	{IstioTimeoutLong, Warning, "the provider waits much longer than a check takes", "Coatcheck has answered after its own `timeout`, also in an outage of Redis. A longer wait is for a Coatcheck that is gone.", "Coatcheck, `timeout`", "set `timeout` to a little more than Coatcheck's: 0.2s for 150 ms"},
	{IstioTimeoutShort, Error, "the provider gives up before Coatcheck answers", "In an outage of Redis Coatcheck answers 503 with `Retry-After` when its own `timeout` ends. An Envoy that gives up sooner counts an error instead.", "Coatcheck, `timeout`", "set `timeout` to more than Coatcheck's, or set that to less"},
	{IstioStatusOnError, Warning, "a fault between Envoy and Coatcheck looks like a refusal", "Without `statusOnError` Envoy answers 403: clients do not try again, and alerts on 5xx stay silent.", fromIstio + ", `statusOnError`", "set `statusOnError: \"503\"`"},
	{IstioClearRouteCache, Warning, "the route is to be chosen again after the check", "Coatcheck has checked what the first route requires. Istio 1.31 accepts the field and does nothing; another version will do it.", fromIstio + ", `clearRouteCache`; issue 61558 of Istio", "remove `clearRouteCache`"},
	{IstioProviderKeys, Error, "the provider has a key that Istio passes over", "Istio ignores unknown keys of MeshConfig without a word, so that the setting which is meant stays at its default.", fromIstio + "; seen on istiod 1.31", "correct the key"},
	{IstioHTTPProvider, Error, "the provider asks over HTTP", "Coatcheck speaks gRPC. Over HTTP every request is refused.", fromIstio, "use `envoyExtAuthzGrpc`"},
	{IstioMessageLimit, Error, "Envoy can send more than Coatcheck takes", "A CheckRequest over `grpc.max_message_bytes` is an error to Envoy and not a verdict: a client could make one on purpose.", "Coatcheck, `grpc.max_message_bytes`", "remove `includeRequestBodyInCheck`, or raise `grpc.max_message_bytes`"},
	{IstioPaths, Warning, "policies, Coatcheck and the upstream can read a path differently", "Istio's default leaves `//` and `%2F` as they are. Coatcheck refuses such paths where it is asked, but a path that a policy excludes is matched as it came.", "Istio, `MeshConfig.pathNormalization`; seen on istiod 1.31", "set `pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}`"},

	{IstioProviderUndefined, Error, "the policy's provider is not defined", "Istio then denies every request that the policy matches, and `istioctl analyze` says nothing.", fromPolicy, "correct `provider.name`, or define the provider in MeshConfig's `extensionProviders`"},
	{IstioMeshUnread, Note, "the mesh's configuration is not in what was read", "Whether the provider fails closed, and how long it waits, stands in MeshConfig.", "Coatcheck", "add the ConfigMap: `kubectl -n istio-system get configmap istio -o yaml`"},
	{IstioTCPPorts, Error, "the policy also holds for ports that do not speak HTTP", "Without `ports` Istio puts ext_authz before every TCP port, too, drops the conditions on HTTP, and Coatcheck refuses each connection: a database behind such a policy is gone.", fromPolicy, "name the HTTP ports in `to.operation.ports` of every rule"},
	{IstioNoRules, Error, "the policy never matches", "A CUSTOM policy without rules asks no provider: every request passes.", fromPolicy, "write `rules: [{to: [{operation: {ports: [...]}}]}]`"},
	{IstioNoWaypoint, Error, "in ambient mode the policy is not enforced", "ztunnel does not support CUSTOM. Only a waypoint asks Coatcheck, and a waypoint obeys only policies with `targetRefs`.", "Istio, ztunnel: \"does not support the CUSTOM action\"", "attach the policy with `targetRefs` to a Service or the waypoint's Gateway, and label the namespace or the Service `istio.io/use-waypoint`"},
	{IstioSelfCheck, Error, "Coatcheck is asked about its own checks", "The policy also holds for Coatcheck's pods, whose sidecar then asks Coatcheck for every check, without an end: every check fails.", fromPolicy, "label Coatcheck's pods `sidecar.istio.io/inject: \"false\"`, or exclude `/envoy.service.auth.v3.Authorization/*` with `notPaths`"},
	{IstioExcludedPaths, Warning, "excluded requests keep a client's identity headers", "Coatcheck is not asked about them, so it removes nothing, and Istio removes nothing early.", "Coatcheck, seen on Istio's Envoy configuration", "add an EnvoyFilter with `early_header_mutation_extensions`, or let a policy of Coatcheck ask for no session"},
	{IstioCircuitBreakers, Warning, "a burst is refused by Envoy itself", "This DestinationRule lowers Istio's limits to so few requests that Envoy makes an error of each further check.", "Istio, `ConnectionPoolSettings.HTTPSettings`", "set `http2MaxRequests` and `http1MaxPendingRequests` to 16384, or leave them out"},
}

// providerKeys are those of envoyExtAuthzGrpc in Istio 1.31.
var providerKeys = []string{"service", "port", "timeout", "failOpen", "clearRouteCache", "statusOnError", "includeRequestBodyInCheck"}

func providerName(v envoyconfig.Value) string { return v.Get("name").Text() }

// mesh looks at the providers of a MeshConfig.
func (k *kubernetes) mesh(d *document) {
	providers := d.root.Get("extension_providers").Items()
	asks := func(v envoyconfig.Value) string {
		return v.Get("envoy_ext_authz_grpc", "service").Text() + " " + v.Get("envoy_ext_authz_http", "service").Text() + " " + providerName(v)
	}
	mine := named(slices.DeleteFunc(providers, func(v envoyconfig.Value) bool { return strings.HasPrefix(asks(v), "  ") }), "", asks)
	if k.service != "" {
		mine = slices.DeleteFunc(mine, func(v envoyconfig.Value) bool { return providerName(v) != k.service })
	}
	for _, provider := range mine {
		if v := provider.Get("envoy_ext_authz_http"); v.Exists() {
			k.add(IstioHTTPProvider, d.at(v), "provider %q", providerName(provider))
			continue
		}
		k.provider(d, provider.Get("envoy_ext_authz_grpc"))
	}
	if v := d.root.Get("path_normalization", "normalization"); len(mine) > 0 && !slices.Contains([]string{"MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"}, v.Text()) {
		k.add(IstioPaths, d.at(v, d.root.Get("path_normalization")), "normalization is %s", orMissing(v.Text()))
	}
}

func (k *kubernetes) provider(d *document, v envoyconfig.Value) {
	if timeout := v.Get("timeout"); !timeout.Exists() {
		k.add(IstioTimeoutMissing, d.at(v), "it has no timeout")
	} else {
		compareTimeout(k.notebook, k.ours, d.at(timeout), timeout.Text(), IstioTimeoutLong, IstioTimeoutShort)
	}
	if open := v.Get("fail_open"); open.Bool() {
		k.add(IstioFailOpen, d.at(open), "failOpen is true")
	}
	if status := v.Get("status_on_error"); !isServerError(status.Text()) {
		k.add(IstioStatusOnError, d.at(status, v), "statusOnError is %s", orMissing(status.Text()))
	}
	if again := v.Get("clear_route_cache"); again.Bool() {
		k.add(IstioClearRouteCache, d.at(again), "clearRouteCache is true")
	}
	if body := v.Get("include_request_body_in_check"); body.Exists() {
		if most := largest(60, body.Get("max_request_bytes").Int()); most > int64(k.MaxMessageBytes) {
			k.add(IstioMessageLimit, d.at(body), "up to %d KiB, and grpc.max_message_bytes is %d KiB", most>>10, k.MaxMessageBytes>>10)
		}
	}
	for key, value := range v.Entries() {
		if camel := envoyconfig.CamelCase(key); !slices.Contains(providerKeys, camel) {
			k.add(IstioProviderKeys, d.at(value, v), "%s%s", key, suggest.DidYouMean(key, providerKeys))
		}
	}
}

const istioSecurity, istioNetworking = "security.istio.io", "networking.istio.io"

// istio looks at everything of Istio.
func (k *kubernetes) istio(ctx context.Context) {
	for _, d := range k.meshes {
		k.mesh(d)
	}
	for _, o := range k.custom() {
		k.policy(o)
	}
	for _, o := range k.of(istioNetworking, "DestinationRule") {
		if strings.Contains(o.spec.Get("host").Text(), "coatcheck") {
			k.destination(o)
		}
	}
	for _, o := range k.of(istioNetworking, "EnvoyFilter") {
		for _, patch := range o.spec.Get("configPatches").Items() {
			k.patch(ctx, o, patch.Get("patch", "value"), 16)
		}
	}
}

// custom are the policies that ask Coatcheck.
func (k *kubernetes) custom() []*object {
	all := slices.DeleteFunc(k.of(istioSecurity, "AuthorizationPolicy"), func(o *object) bool { return o.spec.Get("action").Text() != "CUSTOM" })
	return named(all, k.service, func(o *object) string { return o.spec.Get("provider", "name").Text() })
}

// destination looks at the limits of a DestinationRule for Coatcheck.
func (k *kubernetes) destination(o *object) {
	for _, name := range []string{"http2MaxRequests", "http1MaxPendingRequests"} {
		if v := o.spec.Get("trafficPolicy", "connectionPool", "http", name); v.Exists() && v.Int() <= 1024 {
			k.add(IstioCircuitBreakers, o.at(v), "%s is %s", name, v.Text())
		}
	}
}

// patch looks into the configuration that an EnvoyFilter merges: what is unsafe wherever
// it stands, and what routes require.
func (k *kubernetes) patch(ctx context.Context, o *object, v envoyconfig.Value, depth int) {
	if depth == 0 {
		return
	}
	if v.IsExtAuthz() {
		config, _ := v.Unwrapped()
		k.wherever(o.document, config)
		k.patchedHeaders(o, config)
	}
	if v.IsPerRoute() {
		config, _ := v.Unwrapped()
		k.extensions(ctx, o.at(config.Get("check_settings", "context_extensions"), v), config.Get("check_settings", "context_extensions"))
	}
	for _, inner := range v.Entries() {
		k.patch(ctx, o, inner, depth-1)
	}
	for _, inner := range v.Items() {
		k.patch(ctx, o, inner, depth-1)
	}
}

// patchedHeaders looks at a list of allowed headers that an EnvoyFilter adds.
func (k *kubernetes) patchedHeaders(o *object, config envoyconfig.Value) {
	list := config.Get("allowed_headers")
	if !list.Exists() {
		return
	}
	names := list.Get("patterns").Items()
	if !slices.ContainsFunc(names, func(v envoyconfig.Value) bool {
		return v.Get("exact").Text() == "cookie" || v.Get("prefix").Text() == "cookie"
	}) {
		k.add(EnvoyCookieHidden, o.at(list), "cookie is not among the headers that are sent")
	}
	if !k.removesEarly() {
		k.add(EnvoyAliasesHidden, o.at(list), "no EnvoyFilter has early_header_mutation_extensions")
	}
}

// removesEarly reports whether an EnvoyFilter removes the identity headers of clients.
func (k *kubernetes) removesEarly() bool {
	for _, o := range k.of(istioNetworking, "EnvoyFilter") {
		for _, patch := range o.spec.Get("configPatches").Items() {
			for _, extension := range patch.Get("patch", "value", "typed_config", "early_header_mutation_extensions").Items() {
				for _, mutation := range extension.Get("typed_config", "mutations").Items() {
					if envoyconfig.Removes(mutation, k.HeaderPrefix+"id") {
						return true
					}
				}
			}
		}
	}
	return false
}

// extensions judges a map of context_extensions.
func (k *kubernetes) extensions(ctx context.Context, at place, v envoyconfig.Value) {
	extensions := make(map[string]string)
	for key, value := range v.Entries() {
		extensions[key] = value.Text()
	}
	if id, why := k.judge(ctx, extensions, EnvoyRouteKeys, EnvoyRoutePolicy); id != "" {
		k.add(id, at, "%s", why)
	}
}
