package apiserver

import (
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// pod is one of an object's template, nil if it has none.
func pod(t *testing.T, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	if o.GetKind() == "EnvoyProxy" {
		return podOfEnvoyGateway(t, o)
	}
	path := []string{"spec", "template"}
	if o.GetKind() == "CronJob" {
		path = []string{"spec", "jobTemplate", "spec", "template"}
	}
	template, ok, err := unstructured.NestedMap(o.Object, path...)
	must(t, err)
	if _, containers, _ := unstructured.NestedSlice(template, "spec", "containers"); !ok || !containers {
		return nil
	}
	return named(&unstructured.Unstructured{Object: template}, o.GetNamespace())
}

// podOfEnvoyGateway is the pod that Envoy Gateway makes of an EnvoyProxy, with Envoy as
// Envoy Gateway lets it run, in the namespace of its Envoys.
func podOfEnvoyGateway(t *testing.T, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	at := func(path ...string) any {
		value, ok, err := unstructured.NestedFieldCopy(o.Object, append([]string{"spec", "provider", "kubernetes", "envoyDeployment"}, path...)...)
		if err != nil || !ok {
			t.Fatalf("the EnvoyProxy has no %v (%v)", path, err)
		}
		return value
	}
	p := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"automountServiceAccountToken": false,
		"securityContext":              at("pod", "securityContext"),
		"volumes":                      at("pod", "volumes"),
		"initContainers":               at("initContainers"),
		"containers": []any{map[string]any{
			"name": "envoy", "image": "envoyproxy/envoy:v1.40.0", "volumeMounts": at("container", "volumeMounts"),
			"securityContext": map[string]any{
				"runAsNonRoot": true, "runAsUser": int64(65532), "allowPrivilegeEscalation": false,
				"capabilities": map[string]any{"drop": []any{"ALL"}}, "seccompProfile": map[string]any{"type": "RuntimeDefault"},
			},
		}},
	}}}
	return named(p, "envoy-gateway-system")
}

func named(p *unstructured.Unstructured, namespace string) *unstructured.Unstructured {
	p.SetAPIVersion("v1")
	p.SetKind("Pod")
	p.SetName("one")
	p.SetNamespace(namespace)
	return p
}

// admitted wants a pod to be admitted, by a namespace that enforces the restricted profile.
func admitted(t *testing.T, p *unstructured.Unstructured) {
	t.Helper()
	o, err := cluster.objects.Resource(namespaces).Get(t.Context(), p.GetNamespace(), metav1.GetOptions{})
	if err != nil {
		t.Errorf("the namespace of a pod: %v", err)
		return
	}
	if profile := o.GetLabels()["pod-security.kubernetes.io/enforce"]; profile != "restricted" {
		t.Errorf("the namespace %s enforces the profile %q", o.GetName(), profile)
	}
	if err := create(t, p); err != nil {
		t.Errorf("a pod of the namespace %s: %v", p.GetNamespace(), err)
	}
	if text := cluster.warned.take(); text != "" {
		t.Errorf("a pod of the namespace %s: the server warns: %s", p.GetNamespace(), text)
	}
}

// create asks the server whether it would take a pod. A controller, which is not here, makes
// the account that a pod without a name of one has.
func create(t *testing.T, p *unstructured.Unstructured) error {
	t.Helper()
	account := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": map[string]any{"name": "default"}}}
	_, err := cluster.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}).Namespace(p.GetNamespace()).
		Create(t.Context(), account, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = cluster.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(p.GetNamespace()).
		Create(t.Context(), p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	return err
}
