package manifests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

// The policy for upstreams, applied to the namespace of an application, lets
// Envoy in and nothing else that could say who it is.
func TestUpstreamPolicy(t *testing.T) {
	dir := filepath.Join("overlays", t.Name())
	if err := os.MkdirAll(filepath.Join(tree, dir), 0o700); err != nil {
		t.Fatal(err)
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: shop\ncomponents: [../../components/upstream]\n"
	if err := os.WriteFile(filepath.Join(tree, dir, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	good := build(t, dir)
	for _, p := range upstreamProblems(good) {
		t.Error(p)
	}
	for _, m := range []mutation{
		{"two items of the list", "      podSelector:\n        matchLabels:\n          app.kubernetes.io/name: envoy", "    - podSelector:\n        matchLabels:\n          app.kubernetes.io/name: envoy", "a neighbour"},
		{"every pod of the gateway's namespace", "      podSelector:\n        matchLabels:\n          app.kubernetes.io/name: envoy\n", "", "another pod of the gateway's namespace gets in"},
		{"everything that calls itself envoy", "    - namespaceSelector:\n        matchLabels:\n          kubernetes.io/metadata.name: gateway\n      podSelector", "    - namespaceSelector: {}\n      podSelector", "an envoy of another namespace gets in"},
		{"another gateway", "kubernetes.io/metadata.name: gateway", "kubernetes.io/metadata.name: edge", "Envoy does not get in"},
		{"open ingress", "  - from:\n", "  - {}\n  - from:\n", "a neighbour"},
		{"some pods", "podSelector: {}\n", "podSelector: {matchLabels: {a: b}}\n", "every pod"},
		{"the other way", "- Ingress\n", "- Egress\n", "ingress"},
		{"every port", "    ports:\n    - port: http\n      protocol: TCP\n", "", "another port"},
		{"another namespace", "namespace: shop", "namespace: default", "is in default"},
	} {
		caught(t, good, m, upstreamProblems)
	}
}

func upstreamProblems(built string) []string {
	m := &manifests{}
	p := new(networkingv1.NetworkPolicy)
	if err := yaml.UnmarshalStrict([]byte(built), p); err != nil {
		return []string{err.Error()}
	}
	if p.Kind != "NetworkPolicy" || p.Namespace != "shop" {
		m.problem("the %s is in %s", p.Kind, p.Namespace)
	}
	if p.Spec.PodSelector.Size() != 0 {
		m.problem("it is not about every pod of the namespace")
	}
	if len(p.Spec.PolicyTypes) != 1 || p.Spec.PolicyTypes[0] != networkingv1.PolicyTypeIngress {
		m.problem("it is not about ingress, or about more: %v", p.Spec.PolicyTypes)
	}
	gateway, other := map[string]string{"kubernetes.io/metadata.name": "gateway"}, map[string]string{"kubernetes.io/metadata.name": "other"}
	envoy, pod := map[string]string{"app.kubernetes.io/name": "envoy"}, map[string]string{"app.kubernetes.io/name": "shop"}
	if !admits(m, p, gateway, envoy, "http") {
		m.problem("Envoy does not get in")
	}
	for name, in := range map[string]bool{
		"a neighbour":                              admits(m, p, nil, pod, "http"),
		"a neighbour that calls itself envoy":      admits(m, p, nil, envoy, "http"),
		"another pod of the gateway's namespace":   admits(m, p, gateway, pod, "http"),
		"an envoy of another namespace":            admits(m, p, other, envoy, "http"),
		"a pod of another namespace":               admits(m, p, other, pod, "http"),
		"a pod of a namespace that has no labels":  admits(m, p, map[string]string{}, envoy, "http"),
		"Envoy, to another port (of a debugger's)": admits(m, p, gateway, envoy, "debug"),
	} {
		if in {
			m.problem("%s gets in", name)
		}
	}
	return m.problems
}

// README says that everything rests on it, and names where it is.
func TestReadmeNamesUpstreamPolicy(t *testing.T) {
	if _, said, _ := strings.Cut(read(t, "README.md"), "**Upstreams must be reachable only through Envoy.**"); !strings.Contains(said, "](k8s/components/upstream/networkpolicy.yaml)") {
		t.Error("README.md does not name k8s/components/upstream/networkpolicy.yaml")
	}
}
