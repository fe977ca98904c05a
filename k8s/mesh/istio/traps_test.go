package mesh_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// A trap is a small change that is valid, and opens or breaks the mesh in silence. Each
// is seen in what istiod tells: so the tests of the overlays, which look at the same
// places, would see it too.
var traps = []struct {
	name      string
	mesh      func(*testing.T, string) string
	manifests func(*testing.T) string
	proxy     proxy
	sprung    func(*testing.T, told) bool
}{
	{
		name: "no ports: TCP connections are checked, too",
		manifests: func(t *testing.T) string {
			return replaced(t, sidecars(t, "istio/namespace"), "  - to:\n    - operation:\n        ports:\n        - \"8080\"\n", "  - {}\n")
		},
		proxy:  shopProxy,
		sprung: func(t *testing.T, a told) bool { return a.asksForTCP(t, 5432) },
	},
	{
		name: "no timeout: a check may take ten minutes",
		mesh: func(t *testing.T, s string) string { return replaced(t, s, "    timeout: 0.2s\n", "") },
		sprung: everyCheck(func(e *extauthzv3.ExtAuthz) bool {
			return e.GetGrpcService().GetTimeout().AsDuration() == 10*time.Minute
		}),
	},
	{
		name:   "no status: an outage looks like a refusal",
		mesh:   func(t *testing.T, s string) string { return replaced(t, s, "    statusOnError: \"503\"\n", "") },
		sprung: everyCheck(func(e *extauthzv3.ExtAuthz) bool { return e.GetStatusOnError() == nil }),
	},
	{
		name:   "fail open",
		mesh:   func(t *testing.T, s string) string { return replaced(t, s, "failOpen: false", "failOpen: true") },
		sprung: everyCheck(func(e *extauthzv3.ExtAuthz) bool { return e.GetFailureModeAllow() }),
	},
	{
		name: "a provider that is not defined: every request is refused",
		mesh: func(t *testing.T, s string) string {
			return replaced(t, s, "  name: coatcheck\n", "  name: coat-check\n")
		},
		sprung: refusesAll,
	},
	{
		name: "a Service that is not there: every request is refused",
		mesh: func(t *testing.T, s string) string { return replaced(t, s, "coatcheck-mesh.", "coatchek.") }, sprung: refusesAll,
	},
	{
		name:      "the headless Service: a sidecar asks the application's own address",
		mesh:      func(t *testing.T, s string) string { return replaced(t, s, "coatcheck-mesh.", "coatcheck.") },
		manifests: func(t *testing.T) string { return sidecars(t, "istio/namespace") },
		proxy:     shopProxy,
		sprung: func(t *testing.T, a told) bool {
			return a.cluster(t, "outbound|9001||coatcheck.coatcheck.svc.cluster.local").GetType() == clusterv3.Cluster_ORIGINAL_DST
		},
	},
	{
		name: "a policy in another namespace than its gateway: nothing is checked",
		manifests: func(t *testing.T) string {
			return replaced(t, build(t, "istio"), "namespace: istio-ingress", "namespace: coatcheck")
		},
		sprung: checksNothing,
	},
	{
		name: "a selector that is no label of the gateway: nothing is checked",
		manifests: func(t *testing.T) string {
			return replaced(t, build(t, "istio"), "  selector:\n    matchLabels:\n      istio: ingress\n", "  selector:\n    matchLabels:\n      istio: ingressgateway\n")
		},
		sprung: checksNothing,
	},
	{
		name:      "the ports of the Service, which are not the pod's: nothing is checked",
		manifests: func(t *testing.T) string { return replaced(t, build(t, "istio"), "\"443\"", "\"8443\"") },
		sprung: func(t *testing.T, a told) bool {
			return !slices.ContainsFunc(a.managers(t, nil), func(m *hcmv3.HttpConnectionManager) bool { return slices.Contains(checkedPorts(t, m), 443) })
		},
	},
	{
		name: "a name that no route has: the route requires no role",
		manifests: func(t *testing.T) string {
			return replaced(t, build(t, "istio"), "            name: shop-admin\n", "            name: shop-admn\n")
		},
		sprung: func(t *testing.T, a told) bool { return len(a.route(t, "shop-admin").GetTypedPerFilterConfig()) == 0 },
	},
	{
		name:      "the headers' filter at a sidecar behind the check: it removes what Coatcheck has set",
		manifests: func(t *testing.T) string { return together(build(t, "istio"), build(t, "istio/namespace")) },
		proxy:     shopProxy,
		sprung: func(t *testing.T, a told) bool {
			return slices.ContainsFunc(a.managers(t, inbound(8080)), func(m *hcmv3.HttpConnectionManager) bool { return len(m.GetEarlyHeaderMutationExtensions()) > 0 })
		},
	},
	{
		name: "request_headers_to_remove of a route, which comes behind the check",
		manifests: func(t *testing.T) string {
			return replaced(t, build(t, "istio"), "  - name: shop\n", "  - name: shop\n    headers: {request: {remove: [x-user-id]}}\n")
		},
		sprung: func(t *testing.T, a told) bool {
			return slices.Contains(a.route(t, "shop").GetRequestHeadersToRemove(), "x-user-id")
		},
	},
	{
		name:   "clearRouteCache, which istiod accepts and does not tell",
		mesh:   func(t *testing.T, s string) string { return replaced(t, s, "failOpen: false", "clearRouteCache: true") },
		sprung: everyCheck(func(e *extauthzv3.ExtAuthz) bool { return !e.GetClearRouteCache() }),
	},
}

func TestTraps(t *testing.T) {
	t.Parallel()
	for _, trap := range traps {
		t.Run(trap.name, func(t *testing.T) {
			mesh, manifests, p := meshConfig(t), "", gatewayProxy
			if trap.mesh != nil {
				mesh = trap.mesh(t, mesh)
			}
			if trap.manifests != nil {
				manifests = trap.manifests(t)
			} else {
				manifests = build(t, "istio")
			}
			if trap.proxy.kind != "" {
				p = trap.proxy
			}
			if !trap.sprung(t, ask(t, startIstiod(t, mesh, together(manifests, world())), p)) {
				t.Error("istiod does not do so: the comments of the overlays, and this test, are out of date")
			}
		})
	}
}

// A CUSTOM policy that targets no waypoint is not enforced in an ambient mesh.
func TestTrapsOfAmbient(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testing.T, string) string{
		"no targetRefs": func(t *testing.T, s string) string {
			return replaced(t, s, "  targetRefs:\n  - group: gateway.networking.k8s.io\n    kind: Gateway\n    name: waypoint", "")
		},
		"a selector instead": func(t *testing.T, s string) string {
			return replaced(t, s, "  targetRefs:\n  - group: gateway.networking.k8s.io\n    kind: Gateway\n    name: waypoint", "  selector: {matchLabels: {app: shop}}")
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := build(t, "istio-ambient")
			policy := ""
			for document := range strings.SplitSeq(all, "\n---\n") {
				if strings.Contains(document, "action: CUSTOM") {
					policy = change(t, document)
				}
			}
			spoiled := together(without(t, all, "AuthorizationPolicy", "coatcheck"), policy, ambientWorld, world())
			if !checksNothing(t, ask(t, startIstiod(t, meshConfig(t), spoiled, "PILOT_ENABLE_AMBIENT=true"), waypoint)) {
				t.Error("the waypoint checks all the same: the comments of the overlay are out of date")
			}
		})
	}
}

// refusesAll reports whether Istio denies what should be checked.
func refusesAll(t *testing.T, a told) bool {
	for _, m := range a.managers(t, nil) {
		for _, f := range m.GetHttpFilters() {
			if strings.Contains(f.GetTypedConfig().String(), "deny-due-to-bad-CUSTOM-action") {
				return true
			}
		}
	}
	return false
}

func checksNothing(t *testing.T, a told) bool {
	for _, m := range a.managers(t, nil) {
		if len(checks(t, m)) > 0 {
			return false
		}
	}
	return true
}

// everyCheck reports whether there are checks, and this holds of all.
func everyCheck(holds func(*extauthzv3.ExtAuthz) bool) func(*testing.T, told) bool {
	return func(t *testing.T, a told) bool {
		n := 0
		for _, m := range a.managers(t, nil) {
			for _, e := range checks(t, m) {
				if n++; !holds(e) {
					return false
				}
			}
		}
		return n > 0
	}
}
