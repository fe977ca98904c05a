package mesh_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
)

const checkCluster = "outbound|9001||coatcheck-mesh.coatcheck.svc.cluster.local"

// A token in front of the application, to see which of the two is asked first.
const requestAuthentication = `apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: NAMESPACE}
spec:
  jwtRules:
  - issuer: https://issuer.example.com
    jwks: '{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'`

func tokens(namespace string) string {
	return strings.ReplaceAll(requestAuthentication, "NAMESPACE", namespace)
}

// The ingress gateway checks both of its ports, and nothing else is checked.
func TestGateway(t *testing.T) {
	t.Parallel()
	istiod := startIstiod(t, meshConfig(t), together(build(t, "istio"), world(), tokens("istio-ingress")))
	gateway := ask(t, istiod, gatewayProxy)
	managers := gateway.managers(t, nil)
	if len(managers) != 2 {
		t.Fatalf("the gateway has %d HTTP listeners, want those of 80 and 443", len(managers))
	}
	for _, m := range managers {
		wantChecked(t, m)
		wantOrder(t, m, "envoy.filters.http.header_mutation", "envoy.filters.http.rbac", "envoy.filters.http.ext_authz", "envoy.filters.http.jwt_authn", "envoy.filters.http.cors", "envoy.filters.http.router")
		if got, want := checkedPorts(t, m), []uint32{80, 443}; !slices.Equal(got, want) {
			t.Errorf("it checks the ports %v, want %v", got, want)
		}
	}
	wantCluster(t, gateway)
	if gateway.asksForTCP(t, 5432) {
		t.Error("it checks TCP connections")
	}
	login, admin, rest := extension(t, gateway, "coatcheck-login"), extension(t, gateway, "shop-admin"), gateway.route(t, "shop")
	if !login.GetDisabled() {
		t.Errorf("the login pages are checked: %v", login)
	}
	if got := admin.GetCheckSettings().GetContextExtensions(); got["coatcheck.roles"] != "admin" {
		t.Errorf("/admin requires %v", got)
	}
	if len(rest.GetTypedPerFilterConfig()) > 0 {
		t.Errorf("the last route has %v", rest.GetTypedPerFilterConfig())
	}
	for _, p := range []proxy{shopProxy, otherProxy} {
		for _, m := range ask(t, istiod, p).managers(t, inbound(0)) {
			if len(checks(t, m)) > 0 {
				t.Errorf("the sidecar of %s checks, too", p.namespace)
			}
			if len(m.GetEarlyHeaderMutationExtensions()) > 0 {
				t.Errorf("the sidecar of %s removes the headers that the gateway's check has set", p.namespace)
			}
		}
	}
	t.Log(names(managers[0]))
}

// A namespace, or the whole mesh, is checked at its sidecars, on HTTP ports alone.
func TestSidecars(t *testing.T) {
	t.Parallel()
	for folder, checked := range map[string][]proxy{
		"istio/namespace":  {shopProxy},
		"istio/whole-mesh": {shopProxy, otherProxy},
	} {
		t.Run(folder, func(t *testing.T) {
			istiod := startIstiod(t, meshConfig(t), together(sidecars(t, folder), world(), tokens("shop"), tokens("other")))
			for _, p := range []proxy{shopProxy, otherProxy} {
				sidecar := ask(t, istiod, p)
				managers := sidecar.managers(t, inbound(8080))
				if len(managers) == 0 {
					t.Fatalf("the sidecar of %s has no HTTP port 8080", p.namespace)
				}
				for _, m := range managers {
					if !slices.ContainsFunc(checked, func(c proxy) bool { return c.id() == p.id() }) {
						if len(checks(t, m)) > 0 {
							t.Errorf("%s is checked", p.namespace)
						}
						continue
					}
					wantChecked(t, m)
					wantOrder(t, m, "envoy.filters.http.header_mutation", "envoy.filters.http.rbac", "envoy.filters.http.ext_authz", "envoy.filters.http.jwt_authn", "envoy.filters.http.cors", "envoy.filters.http.router")
					if got, want := checkedPorts(t, m), []uint32{8080}; !slices.Equal(got, want) {
						t.Errorf("it checks the ports %v, want %v", got, want)
					}
					wantCluster(t, sidecar)
				}
				if sidecar.asksForTCP(t, 5432) {
					t.Errorf("connections to the database of %s are checked", p.namespace)
				}
			}
			for _, m := range ask(t, istiod, gatewayProxy).managers(t, nil) {
				for _, e := range checks(t, m) {
					if e.GetFilterEnabledMetadata() == nil {
						t.Error("the gateway checks every request, too")
					}
				}
				if len(m.GetEarlyHeaderMutationExtensions()) > 0 {
					t.Error("the gateway changes headers, too")
				}
			}
		})
	}
}

// sidecars is the overlay with the check at sidecars instead of at the gateway: what
// README.md says to change.
func sidecars(t *testing.T, folder string) string {
	t.Helper()
	all := build(t, "istio")
	for _, o := range [][2]string{{"AuthorizationPolicy", "coatcheck"}, {"EnvoyFilter", "coatcheck-headers"}, {"EnvoyFilter", "coatcheck-routes"}, {"AuthorizationPolicy", "only-gateway"}} {
		all = without(t, all, o[0], o[1])
	}
	return together(all, build(t, folder), gatewayServers)
}

// gatewayServers is a plain server of the gateway.
const gatewayServers = `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: plain, namespace: istio-ingress}
spec:
  selector: {istio: ingress}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["plain.example.com"]}`

// In an ambient mesh the waypoint checks.
func TestWaypoint(t *testing.T) {
	t.Parallel()
	istiod := startIstiod(t, meshConfig(t), together(build(t, "istio-ambient"), ambientWorld, world()), "PILOT_ENABLE_AMBIENT=true")
	told := ask(t, istiod, waypoint)
	managers := told.managers(t, nil)
	checked := 0
	for _, m := range managers {
		if len(checks(t, m)) == 0 {
			continue
		}
		checked++
		wantChecked(t, m)
		wantOrder(t, m, "envoy.filters.http.header_mutation", "envoy.filters.http.ext_authz", "envoy.filters.http.router")
		t.Log(names(m), checkedPorts(t, m))
	}
	if checked == 0 {
		t.Errorf("none of %d HTTP connection managers checks", len(managers))
	}
	if told.asksForTCP(t, 5432) {
		t.Error("connections to the database are checked")
	}
	wantCluster(t, told)
}

// ambientWorld is what makes the waypoint the one of the Services of shop.
const ambientWorld = `apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/use-waypoint: waypoint, istio.io/dataplane-mode: ambient}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: istio-waypoint}
spec: {controllerName: istio.io/mesh-controller}`

// wantChecked holds the check to what envoy.yaml says of it, as far as Istio can.
func wantChecked(t *testing.T, m *hcmv3.HttpConnectionManager) {
	t.Helper()
	found := checks(t, m)
	if len(found) != 1 {
		t.Fatalf("it has %d filters ext_authz: %v", len(found), names(m))
	}
	f := found[0]
	if got := f.GetGrpcService().GetTimeout().AsDuration(); got != 200*time.Millisecond {
		t.Errorf("timeout %v", got)
	}
	if got := f.GetGrpcService().GetEnvoyGrpc().GetClusterName(); got != checkCluster {
		t.Errorf("cluster %s", got)
	}
	if f.GetFailureModeAllow() || f.GetClearRouteCache() {
		t.Errorf("it fails open, or clears the route: %v", f)
	}
	if got := f.GetStatusOnError().GetCode(); got != 503 {
		t.Errorf("status %d on error", got)
	}
	if !f.GetValidateMutations() || f.GetStatPrefix() != "coatcheck" {
		t.Errorf("the patch of headers.yaml is missing: %v", f)
	}
	if f.GetAllowedHeaders() != nil || f.GetWithRequestBody() != nil {
		t.Errorf("it hides headers, or sends bodies: %v", f)
	}
	if len(m.GetEarlyHeaderMutationExtensions()) != 1 {
		t.Error("identity headers are not removed early")
	}
	for _, filter := range m.GetHttpFilters() {
		if text := filter.GetTypedConfig().String(); strings.Contains(text, "deny-due-to-bad-CUSTOM-action") {
			t.Errorf("Istio refuses every request: the provider is not defined: %s", text)
		}
	}
}

// wantOrder holds the filters that it names to their order.
func wantOrder(t *testing.T, m *hcmv3.HttpConnectionManager, order ...string) {
	t.Helper()
	all, last := names(m), -1
	for _, name := range order {
		i := slices.Index(all, name)
		if i <= last {
			t.Errorf("%s is not where it should be: %v", name, all)
		}
		last = i
	}
}

// wantCluster holds the cluster to the component's DestinationRule, and to pods that
// the Envoy knows.
func wantCluster(t *testing.T, a told) {
	t.Helper()
	c := a.cluster(t, checkCluster)
	if c.GetType() != clusterv3.Cluster_EDS || c.GetLbPolicy() != clusterv3.Cluster_LEAST_REQUEST {
		t.Errorf("cluster of %v, %v", c.GetType(), c.GetLbPolicy())
	}
	if got := c.GetConnectTimeout().AsDuration(); got != 100*time.Millisecond {
		t.Errorf("connect_timeout %v", got)
	}
	limits := c.GetCircuitBreakers().GetThresholds()[0]
	if limits.GetMaxRequests().GetValue() != 16384 || limits.GetMaxPendingRequests().GetValue() != 16384 || limits.GetMaxRetries().GetValue() != 1024 {
		t.Errorf("circuit breakers %v", limits)
	}
	o := c.GetOutlierDetection()
	if o.GetConsecutive_5Xx().GetValue() != 0 || o.GetEnforcingConsecutive_5Xx().GetValue() != 0 || o.GetConsecutiveGatewayFailure().GetValue() != 0 && o.GetEnforcingConsecutiveGatewayFailure().GetValue() != 0 {
		t.Errorf("an outage of Redis could eject the pods: %v", o)
	}
	if o.GetConsecutiveLocalOriginFailure().GetValue() != 5 || !o.GetSplitExternalLocalOriginErrors() {
		t.Errorf("a pod that takes no connections is not ejected: %v", o)
	}
	options := new(upstreamsv3.HttpProtocolOptions)
	if err := c.GetTypedExtensionProtocolOptions()["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].UnmarshalTo(options); err != nil || options.GetExplicitHttpConfig().GetHttp2ProtocolOptions() == nil {
		t.Errorf("it speaks no HTTP/2: %v, %v", options, err)
	}
}

// checkedPorts are the ports for which the shadow filter before the check turns it on.
func checkedPorts(t *testing.T, m *hcmv3.HttpConnectionManager) []uint32 {
	t.Helper()
	var ports []uint32
	for _, f := range m.GetHttpFilters() {
		if !f.GetTypedConfig().MessageIs(&rbacv3.RBAC{}) {
			continue
		}
		r := new(rbacv3.RBAC)
		if err := f.GetTypedConfig().UnmarshalTo(r); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, shadowPorts(r.GetShadowRules())...)
	}
	return ports
}

// extension is what a route says to the check.
func extension(t *testing.T, a told, route string) *extauthzv3.ExtAuthzPerRoute {
	t.Helper()
	e := new(extauthzv3.ExtAuthzPerRoute)
	config := a.route(t, route).GetTypedPerFilterConfig()["envoy.filters.http.ext_authz"]
	if config == nil {
		t.Fatalf("the route %s says nothing", route)
	}
	if err := config.UnmarshalTo(e); err != nil {
		t.Fatal(err)
	}
	return e
}
