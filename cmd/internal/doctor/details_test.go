package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/envoyconfig"
)

func valueOf(t *testing.T, text string) envoyconfig.Value {
	t.Helper()
	documents, err := envoyconfig.Documents([]byte(text))
	if err != nil || len(documents) != 1 {
		t.Fatalf("%s: %v", text, err)
	}
	return documents[0]
}

// TestTooOld: each line of releases has its least one.
func TestTooOld(t *testing.T) {
	for version, want := range map[string]bool{
		"1.40.0": false, "1.40.7": false, "1.41.0": false, "2.0.0": false, "1.39.0": true, "1.39.1": false, "1.38.3": true, "1.38.4": false,
		"1.37.5": true, "1.37.6": false, "1.37.99": false, "1.36.99": true, "1.9.0": true, "v1.36.0": true, "1.39.0-dev": true, "latest": false, "": false, "1.40": false,
	} {
		if got := TooOld(version); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}

// TestImages: an Envoy is found by its image, wherever it comes from.
func TestImages(t *testing.T) {
	for image, want := range map[string]string{
		"envoyproxy/envoy:v1.39.0": "1.39.0", "docker.io/envoyproxy/envoy:distroless-v1.40.0": "1.40.0", "registry.example:5000/x/envoy-distroless:v1.38.0": "1.38.0",
		"envoyproxy/envoy:contrib-v1.36.2": "1.36.2", "envoyproxy/envoy:latest": "", "example.com/not-envoy:1.2.3": "", "envoyproxy/gateway:v1.9.1": "",
	} {
		got := ""
		if found := envoyImage.FindStringSubmatch(image); found != nil {
			got = found[1]
		}
		if got != want {
			t.Errorf("%s: %q", image, got)
		}
	}
}

// TestPermits: Envoy's order, in which an expression that allows beats everything but
// one that disallows.
func TestPermits(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`: true, `{disallow_all: true}`: false,
		`{disallow_all: true, allow_expression: {regex: "(?i)X-USER-.*"}}`:                                true,
		`{disallow_all: true, allow_expression: {regex: "x-user"}}`:                                       false, // not the whole name
		`{disallow_expression: {regex: "x-user-id"}, allow_expression: {regex: ".*"}}`:                    false,
		`{disallow_expression: {regex: "x-other"}}`:                                                       true,
		`{disallow_all: true, allow_expression: {regex: "("}}`:                                            false,
		`{disallowAll: true, allowExpression: {regex: "x-user-(id|name)|cookie"}, disallowIsError: true}`: true,
	} {
		if got := permits(valueOf(t, text), "x-user-id"); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestReroutes: filters that clear the route cache, as their settings say.
func TestReroutes(t *testing.T) {
	const filter = "type.googleapis.com/envoy.extensions.filters.http."
	for text, want := range map[string]ID{
		filter + `lua.v3.Lua"`:                                                                               EnvoyLaterReroutes,
		filter + `lua.v3.Lua", clear_route_cache: false`:                                                     "",
		filter + `ext_proc.v3.ExternalProcessor"`:                                                            EnvoyLaterReroutes,
		filter + `ext_proc.v3.ExternalProcessor", route_cache_action: RETAIN`:                                "",
		filter + `grpc_json_transcoder.v3.GrpcJsonTranscoder"`:                                               EnvoyLaterReroutes,
		filter + `grpc_json_transcoder.v3.GrpcJsonTranscoder", match_incoming_request_route: true`:           "",
		filter + `jwt_authn.v3.JwtAuthentication", providers: {a: {forward: true}}`:                          "",
		filter + `jwt_authn.v3.JwtAuthentication", providers: {a: {clear_route_cache: true}}`:                EnvoyLaterReroutes,
		filter + `wasm.v3.Wasm"`:                                                                             EnvoyLaterReroutes,
		filter + `cors.v3.Cors"`:                                                                             "",
		filter + `set_filter_state.v3.Config"`:                                                               EnvoyNotLast,
		`type.googleapis.com/some.company.Filter"`:                                                           EnvoyNotLast,
		`type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig"`:                     "",
		filter + `header_mutation.v3.HeaderMutation", mutations: {request_mutations: [{remove: X_User_Id}]}`: EnvoyIdentityRemoved,
		filter + `header_mutation.v3.HeaderMutation", mutations: {request_mutations: [{remove_on_match: {key_matcher: {prefix: x-user-}}}]}`:            EnvoyIdentityRemoved,
		filter + `header_mutation.v3.HeaderMutation", mutations: {request_mutations: [{append: {header: {key: x-user-roles, value: admin}}}]}`:          EnvoyIdentitySet,
		filter + `header_mutation.v3.HeaderMutation", mutations: {request_mutations: [{append: {header: {key: x-request-user, value: "%REQ(x-a)%"}}}]}`: "",
	} {
		envoy := strings.Replace(read(t, "envoy/envoy.yaml"), "          - name: envoy.filters.http.router\n", `          - {name: other, typed_config: {"@type": "`+text+"}}\n          - name: envoy.filters.http.router\n", 1)
		got := ids(examine(t, Deployment{}, envoy))
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || got[0] != want) {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// TestOtherForms: what is judged by more than one form of it.
func TestOtherForms(t *testing.T) {
	istio, gateway, plain := read(t, "testdata/istio.yaml"), read(t, "testdata/gateway.yaml"), read(t, "envoy/envoy.yaml")
	replace := func(text string, pairs ...string) string {
		t.Helper()
		for i := 0; i < len(pairs); i += 2 {
			if !strings.Contains(text, pairs[i]) {
				t.Fatalf("%q is not there", pairs[i])
			}
		}
		return strings.NewReplacer(pairs...).Replace(text)
	}
	const last = "              - match: {prefix: /}\n                route: {cluster: upstream}\n"
	for name, test := range map[string]struct {
		text string
		want ID
	}{
		"a number for a status":             {replace(plain, "code: ServiceUnavailable", "code: 503"), ""},
		"a forbidden status":                {replace(plain, "code: ServiceUnavailable", "code: Forbidden"), EnvoyStatusOnError},
		"no limit":                          {replace(plain, "timeout: 0.2s", "timeout: 0s"), EnvoyTimeoutLong},
		"as long as ours":                   {replace(plain, "timeout: 0.2s", "timeout: 0.150s"), EnvoyTimeoutShort},
		"another name of the cluster":       {replace(plain, "cluster_name: coatcheck", "cluster_name: authz", "name: coatcheck\n", "name: authz\n"), ""},
		"underscores refused, others not":   {replace(plain, "(?i)x[^a-z0-9]user[^a-z0-9].*\"}\n\n          access_log", "(?i)x-user-.*\"}\n\n          access_log"), EnvoyAliasesHidden},
		"connection hidden":                 {replace(plain, "                - {exact: connection}\n", ""), EnvoyHeadersHidden},
		"names in place of a prefix":        {replace(plain, "{prefix: sec-fetch-}", "{exact: sec-fetch-dest}\n                - {exact: sec-fetch-mode}\n                - {exact: Sec-Fetch-Site, ignore_case: true}"), ""},
		"one virtual host":                  {replace(plain, "            ignore_port_in_host_matching: true\n", ""), ""},
		"domains with every port":           {replace(plain, "            ignore_port_in_host_matching: true\n", "", "            virtual_hosts:\n", "            virtual_hosts:\n            - {name: public, domains: [public.example, \"public.example:8080\", \"public.example:*\", \"shop.*\", shop.example], routes: [{match: {prefix: /}, route: {cluster: upstream}}]}\n"), ""},
		"a domain that ends alike":          {replace(plain, "            ignore_port_in_host_matching: true\n", "", "            virtual_hosts:\n", "            virtual_hosts:\n            - {name: public, domains: [\"*.public.example\"], routes: [{match: {prefix: /}, route: {cluster: upstream}}]}\n"), EnvoyHostPorts},
		"a removal of one name":             {replace(plain, "safe_regex: {regex: \"(?i)x[^a-z0-9]user[^a-z0-9].*\"}\n\n          access_log", "exact: x-user-id\n\n          access_log"), EnvoyAliasesHidden},
		"a route under a weighted cluster":  {replace(plain, last, "              - match: {prefix: /}\n                route: {weighted_clusters: {clusters: [{name: upstream, weight: 1, typed_per_filter_config: {envoy.filters.http.ext_authz: {\"@type\": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}}}, {name: login, weight: 1}]}}\n"), EnvoyRouteUnchecked},
		"a weighted cluster that removes":   {replace(plain, last, "              - match: {prefix: /}\n                route: {weighted_clusters: {clusters: [{name: upstream, weight: 1, request_headers_to_remove: [x-user-id]}]}}\n"), EnvoyIdentityRemoved},
		"an unchecked redirect":             {replace(plain, last, "              - match: {path: /old}\n                redirect: {path_redirect: /new}\n                typed_per_filter_config: {envoy.filters.http.ext_authz: {\"@type\": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute, disabled: true}}\n"+last), ""},
		"a catch-all that asks for more":    {replace(plain, last, "              - match: {prefix: /, headers: [{name: x, present_match: true}]}\n                route: {cluster: upstream}\n"), EnvoyNoCatchAll},
		"a prefix in another case":          {replace(plain, last, "              - match: {prefix: /, case_sensitive: false}\n                route: {cluster: upstream}\n"), ""},
		"a socket needs no health check":    {replace(plain, "socket_address: {address: 127.0.0.1, port_value: 9001}", "pipe: {path: /run/c.sock}", "type: STRICT_DNS\n    connect_timeout: 0.1s", "type: STATIC\n    connect_timeout: 0.1s", "    health_checks:\n    - interval: 1s\n      no_traffic_interval: 1s\n      timeout: 0.5s\n      unhealthy_threshold: 2\n      healthy_threshold: 1\n      grpc_health_check: {service_name: envoy.service.auth.v3.Authorization}\n", ""), ""},
		"an old Envoy in a compose file":    {replace(read(t, "docker-compose.yml"), "envoy:v1.40.0", "envoy:v1.38.1"), EnvoyVersion},
		"login's database in compose":       {replace(read(t, "docker-compose.yml"), "      COATCHECK_LOGIN_MAX_HASHES: \"2\"\n", "      COATCHECK_LOGIN_MAX_HASHES: \"2\"\n      COATCHECK_REDIS_DATABASE: 2\n"), ConfigRedisDiffers},
		"snake case in MeshConfig":          {replace(istio, "statusOnError", "status_on_error", "timeout: 0.2s\n", "timeout: 0.2s\n        fail_open: true\n"), IstioFailOpen},
		"a fail-open EnvoyFilter":           {replace(istio, "encode_raw_headers: true", "failureModeAllow: true"), EnvoyFailOpen},
		"a wrong role in an EnvoyFilter":    {replace(istio, "coatcheck.roles: admin", "coatcheck.roles: 'a b'"), EnvoyRouteKeys},
		"a policy without a target of ours": {replace(istio, "{kind: Service, group: \"\", name: stalls}", "{kind: Gateway, group: gateway.networking.k8s.io, name: waypoint}"), ""},
		"a mesh's policy in ambient":        {replace(istio, "{name: stalls, namespace: market}", "{name: stalls, namespace: shop}"), IstioNoWaypoint},
		"excluded calls of Coatcheck":       {replace(istio, "sidecar.istio.io/inject: \"false\"", "sidecar.istio.io/inject: \"true\"", "{ports: [\"8443\"]}", "{ports: [\"8443\"], notPaths: [\"/envoy.service.auth.v3.Authorization/*\"]}"), ""},
		"a grant for every Service":         {replace(gateway, "{group: \"\", kind: Service, name: coatcheck}", "{group: \"\", kind: Service}"), ""},
		"a selector in place of a name":     {replace(gateway, "metadata: {name: edge, namespace: edge}\nspec:\n  gatewayClassName", "metadata: {name: edge, namespace: edge, labels: {checked: \"yes\"}}\nspec:\n  gatewayClassName", "  targetRefs:\n  - {group: gateway.networking.k8s.io, kind: Gateway, name: edge}\n  extAuth", "  targetSelectors:\n  - {group: gateway.networking.k8s.io, kind: Gateway, matchLabels: {checked: \"yes\"}}\n  extAuth"), ""},
		"a value in a Secret":               {replace(gateway, "type: Value, value: required}", "type: ValueRef, valueRef: {kind: Secret, name: a, key: b}}"), ""},
		"an unchecked login":                {replace(gateway, "  - {name: edge}\n  rules:\n  - matches: [{path: {type: PathPrefix, value: /}}]", "  - {name: other}\n  rules:\n  - matches: [{path: {type: PathPrefix, value: /.auth}}]"), ""},
		"a route's own policy for login":    {replace(gateway, "  mergeType: StrategicMerge\n", "", "path: {type: PathPrefix, value: /}", "path: {type: PathPrefix, value: /.auth}"), ""},
		"a policy that inherits limits":     {replace(gateway, "  cors: {allowOrigins: [\"https://shop.example\"]}", "  extAuth: {grpc: {backendRefs: [{name: coatcheck-socket, kind: Backend}]}, contextExtensions: [{name: coatcheck.roles, type: Value, value: staff}]}"), ""},
		"a Service in another namespace":    {replace(read(t, "testdata/kubernetes.yaml"), "    redis: {addresses: [redis:6379]}\n", "    redis: {addresses: ['redis.coatcheck.svc.cluster.local:6379']}\n"), ""},
		"another Service":                   {replace(read(t, "testdata/kubernetes.yaml"), "    redis: {addresses: [redis:6379]}\n", "    redis: {addresses: ['redis.login:6379']}\n"), ConfigRedisDiffers},
		"a list, as kubectl prints it":      {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: istio}, data: {mesh: 'extensionProviders: [{name: c, envoyExtAuthzGrpc: {service: coatcheck, timeout: 0.2s, failOpen: true, statusOnError: \"503\"}}]\n\n  pathNormalization: {normalization: MERGE_SLASHES}'}}\n", IstioFailOpen},
		"Istio's chart":                     {"meshConfig:\n  pathNormalization: {normalization: MERGE_SLASHES}\n  extensionProviders: [{name: coatcheck, envoyExtAuthzGrpc: {service: x, timeout: 0.2s, failOpen: true, statusOnError: '503'}}]\n", IstioFailOpen},
		"another's provider":                {"extensionProviders: [{name: otel, opentelemetry: {service: x}}, {name: opa, envoyExtAuthzGrpc: {service: opa, failOpen: true}}, {name: c, envoyExtAuthzGrpc: {service: coatcheck, timeout: 0.2s, statusOnError: '503'}}]\npathNormalization: {normalization: MERGE_SLASHES}\n", ""},
	} {
		found := examine(t, Deployment{}, test.text)
		if got := ids(found); test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || got[0] != test.want) {
			t.Errorf("%s: %v, want %q: %+v", name, got, test.want, found)
		}
	}
}

// TestManyFindings: a report stays short, and still fails.
func TestManyFindings(t *testing.T) {
	const last = "              - match: {prefix: /}\n                route: {cluster: upstream}\n"
	routes := strings.Repeat("              - match: {path: /a}\n                route: {cluster: upstream}\n                request_headers_to_remove: [x-user-id]\n", maxFindings+7)
	d := New(Deployment{})
	if err := d.Read(t.Context(), "-", strings.NewReader(strings.Replace(read(t, "envoy/envoy.yaml"), last, routes+last, 1))); err != nil {
		t.Fatal(err)
	}
	report, err := d.Examine(t.Context())
	if err != nil || len(report.Findings) != maxFindings || report.Left != 7 || !report.Worst(Error) {
		t.Errorf("%d findings, %d more, %v", len(report.Findings), report.Left, err)
	}
}

// TestHidden: keys of a dump are judged, though their values are hidden; with the file
// beside it the note is gone.
func TestHidden(t *testing.T) {
	dump := strings.Replace(read(t, "testdata/dump.json"), `"coatcheck.roles": "admin"`, `"coatcheck.role": "[redacted]"`, 1)
	if got := ids(examine(t, Deployment{}, dump)); len(got) != 2 || got[0] != EnvoyRouteKeys || got[1] != EnvoyValuesHidden {
		t.Errorf("%v", got)
	}
	dump = strings.Replace(dump, "coatcheck.role", "coatcheck.policy", 1)
	given := Deployment{}
	var err error
	if given.Checks, err = config.Parse(nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := ids(examine(t, given, dump, read(t, "envoy/envoy.yaml"))); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// TestUnbuilt: of a kustomization that is not built, namespaces are not guessed, and the
// report says so.
func TestUnbuilt(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"kustomization.yaml": "namespace: shop\nresources: [policy.yaml]\n",
		"policy.yaml":        "apiVersion: gateway.envoyproxy.io/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: a}\nspec: {extAuth: {timeout: 200ms, statusOnError: 503, failOpen: true, grpc: {backendRefs: [{name: coatcheck, namespace: coatcheck}], backendSettings: {circuitBreaker: {maxParallelRequests: 9999, maxPendingRequests: 9999}}}}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := New(Deployment{})
	if err := d.Read(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	report, err := d.Examine(t.Context())
	if got := ids(report.Findings); err != nil || len(got) != 1 || got[0] != GatewayFailOpen || len(report.Unbuilt) != 1 {
		t.Errorf("%v, %+v", err, report)
	}
}
