package apiserver

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TestRefusals: the server is one that refuses, or TestOverlays would show nothing.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct{ folder, kind, name, old, new, says string }{
		"a misspelt field":                  {"base", "Deployment", "coatcheck", `"minReadySeconds"`, `"minReadySecond"`, "minReadySecond"},
		"a volume that is not there":        {"base", "Deployment", "coatcheck", `"name":"config","readOnly"`, `"name":"conf","readOnly"`, "volumeMounts"},
		"a namespace that is not there":     {"base", "Deployment", "coatcheck", `"namespace":"coatcheck"`, `"namespace":"coat"`, `namespaces "coat" not found`},
		"a misspelt field of Envoy Gateway": {"overlays/envoy-gateway", "SecurityPolicy", "coatcheck", `"failOpen"`, `"failOpn"`, "failOpn"},
		"a value that is not allowed":       {"overlays/envoy-gateway", "SecurityPolicy", "coatcheck", `"statusOnError":503`, `"statusOnError":200`, "statusOnError"},
		"a misspelt field of Gateway API":   {"overlays/envoy-gateway", "HTTPRoute", "coatcheck-login", `"backendRefs"`, `"backendRef"`, "backendRef"},
		"an expression that is none":        {"overlays/envoy-gateway", "ValidatingAdmissionPolicy", "coatcheck-routes", `has(object.spec.mergeType)`, `has(object.spec.mergeType`, "mergeType"},
		"a misspelt field of Istio":         {"overlays/istio", "AuthorizationPolicy", "coatcheck", `"provider"`, `"providr"`, "providr"},
		"two ways to choose workloads":      {"overlays/istio", "AuthorizationPolicy", "coatcheck", `"selector":`, `"targetRefs":[{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"a"}],"selector":`, "only one of targetRefs or selector can be set"},
		"a misspelt field of a monitor":     {"overlays/with-monitoring", "ServiceMonitor", "coatcheck", `"sampleLimit"`, `"sampleLimits"`, "sampleLimits"},
		"a misspelt field of alerts":        {"overlays/with-monitoring", "PrometheusRule", "coatcheck", `"expr"`, `"expression"`, "expr"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := cluster.ask(t, spoiled(t, only(t, c.folder, c.kind, c.name), c.old, c.new)); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the server says %v", err)
			}
			if err := cluster.ask(t, only(t, c.folder, c.kind, c.name)); err != nil {
				t.Errorf("without the mistake the server says %v", err)
			}
		})
	}
}

// TestPodsRefused: the namespaces that overlays bring admit no pod of another profile.
func TestPodsRefused(t *testing.T) {
	for name, c := range map[string]struct{ folder, deployment, old, new, says string }{
		"that runs as root":          {"base", "coatcheck", `"runAsNonRoot":true`, `"runAsNonRoot":false`, `violates PodSecurity "restricted`},
		"that may gain rights":       {"base", "coatcheck-login", `"allowPrivilegeEscalation":false`, `"allowPrivilegeEscalation":true`, `violates PodSecurity "restricted`},
		"that keeps capabilities":    {"overlays/dev", "redis", `"drop":["ALL"]`, `"drop":[]`, `violates PodSecurity "restricted`},
		"whose sidecar runs as root": {"overlays/sidecar", "envoy", `"runAsNonRoot":true,"runAsUser":65532,"seccompProfile"`, `"runAsUser":0,"seccompProfile"`, `violates PodSecurity "restricted`},
		"whose account is not there": {"base", "coatcheck", `"serviceAccountName":"coatcheck"`, `"serviceAccountName":"coat"`, `serviceaccount "coat" not found`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, o := range install(t, installation{folder: c.folder}) {
				if o.GetKind() != "Deployment" || o.GetName() != c.deployment {
					continue
				}
				if err := create(t, spoiled(t, pod(t, o), c.old, c.new)); err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("the server says %v", err)
				}
				return
			}
			t.Errorf("there is no Deployment %s", c.deployment)
		})
	}
}

// only is an object of a build, beside whose namespace the server has none of it.
func only(t *testing.T, folder, kind, name string) *unstructured.Unstructured {
	t.Helper()
	list := build(t, folder)
	i := slices.IndexFunc(list, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind && o.GetName() == name })
	if i < 0 {
		t.Fatalf("%s has no %s %s", folder, kind, name)
	}
	if name := list[i].GetNamespace(); name != "" {
		o := namespace(name)
		t.Cleanup(func() { cluster.remove(t, o) })
		must(t, cluster.apply(t.Context(), o))
	}
	return list[i]
}

// spoiled is an object with one mistake.
func spoiled(t *testing.T, o *unstructured.Unstructured, before, after string) *unstructured.Unstructured {
	t.Helper()
	text, err := o.MarshalJSON()
	must(t, err)
	if !strings.Contains(string(text), before) {
		t.Fatalf("there is no %s to spoil in %s", before, text)
	}
	changed := new(unstructured.Unstructured)
	must(t, changed.UnmarshalJSON([]byte(strings.Replace(string(text), before, after, 1))))
	return changed
}
