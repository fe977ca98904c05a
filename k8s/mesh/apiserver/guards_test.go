package apiserver

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// tried is a policy that an application may have in a namespace of the Gateway, beside
// those of the overlay.
const tried = `{apiVersion: gateway.envoyproxy.io/v1alpha1, kind: SecurityPolicy, metadata: {name: tried, namespace: shop}, spec: {mergeType: StrategicMerge, targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: shop}], extAuth: {failOpen: false, recomputeRoute: false, grpc: {backendRefs: [SERVER]}}}}`

const (
	service = "{name: coatcheck, namespace: coatcheck, port: 9001}"
	backend = "{group: gateway.envoyproxy.io, kind: Backend, name: coatcheck, namespace: coatcheck}"
	mine    = "{name: mine, port: 9001}"
	another = "another server would decide"
)

func guards(t *testing.T, _ []*unstructured.Unstructured) { guard(t, service, backend) }

func guardsSidecar(t *testing.T, _ []*unstructured.Unstructured) { guard(t, backend, service) }

// guard shows what guard.yaml refuses, and that it takes what it must not refuse.
// The server that policies must name is ours.
func guard(t *testing.T, ours, other string) {
	good := strings.Replace(tried, "SERVER", ours, 1)
	inForce(t, object(t, strings.Replace(good, ours, mine, 1)))
	for _, c := range []struct{ old, new, says string }{
		{"mergeType: StrategicMerge, ", "", "without mergeType"},
		{"failOpen: false", "failOpen: true", "failOpen: true lets"},
		{"recomputeRoute: false", "recomputeRoute: true", "recomputeRoute: true lets"},
		{ours, other, another},
		{ours, mine, another},
		{ours, ours + ", " + mine, another},     // in turns
		{", namespace: coatcheck", "", another}, // one of its own, with the name
		{", port: 9001", ", port: 9002", another},
		{"grpc: {backendRefs: [" + ours + "]}", "http: {backendRefs: [" + ours + "]}", another},
		{"grpc: {backendRefs: [" + ours + "]}", "grpc: {backendRefs: [" + ours + "]}, http: {backendRefs: [" + ours + "]}", ""}, // Envoy Gateway's kind refuses it first
	} {
		if c.old == ", port: 9001" && !strings.Contains(ours, c.old) {
			continue // a Backend has its own
		}
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Fatalf("there is no %q to spoil in %s", c.old, good)
		}
		if err := cluster.ask(t, object(t, bad)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("the server says %v, and not %q, of %s", err, c.says, bad)
		}
	}
	for name, text := range map[string]string{
		"a policy with our server":  good,
		"a policy without a server": strings.Replace(good, ", extAuth: {failOpen: false, recomputeRoute: false, grpc: {backendRefs: ["+ours+"]}}", ", cors: {allowOrigins: ['https://app.example.com']}", 1),
		// The login pages are not checked, by a policy without mergeType.
		"a policy of the namespace coatcheck": strings.NewReplacer("namespace: shop", "namespace: coatcheck", "mergeType: StrategicMerge, ", "").Replace(good),
		// guard.yaml is about namespaces whose routes the Gateway takes.
		"a policy of another namespace": strings.NewReplacer("namespace: shop", "namespace: default", "mergeType: StrategicMerge, ", "").Replace(good),
	} {
		if err := cluster.ask(t, object(t, text)); err != nil {
			t.Errorf("%s: the server says %v", name, err)
		}
	}
	changed(t)
}

// changed: a policy that is there cannot be made into one that opens routes.
func changed(t *testing.T) {
	t.Helper()
	for _, o := range build(t, "overlays/envoy-gateway") {
		if o.GetKind() != "SecurityPolicy" || o.GetName() != "admin" {
			continue
		}
		bad := spoiled(t, o, `"extAuth":{`, `"extAuth":{"failOpen":true,`)
		if err := cluster.apply(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "failOpen: true lets") {
			t.Errorf("of a change the server says %v", err)
		}
		return
	}
	t.Error("there is no SecurityPolicy admin")
}

// inForce waits until the server refuses a policy, because guard.yaml takes a moment.
func inForce(t *testing.T, bad *unstructured.Unstructured) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if cluster.ask(t, bad) != nil {
			return
		}
	}
	t.Fatal("guard.yaml is never in force")
}

// unguarded waits until the guard.yaml of an earlier installation is no longer in force. It
// could demand another server.
func unguarded(t *testing.T) {
	t.Helper()
	shop := namespace("shop")
	shop.SetLabels(map[string]string{"coatcheck-routes": "true"})
	must(t, cluster.apply(t.Context(), shop))
	defer cluster.remove(t, shop)
	bad := object(t, strings.Replace(tried, "SERVER", mine, 1))
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = cluster.ask(t, bad); err == nil {
			return
		}
	}
	t.Fatalf("without guard.yaml the server says %v", err)
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	list, err := parse(text)
	must(t, err)
	return list[0]
}
