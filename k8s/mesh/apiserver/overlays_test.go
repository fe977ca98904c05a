package apiserver

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// build is what kubectl apply -k would send.
func build(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(tree, dir))
	must(t, err)
	var list []*unstructured.Unstructured
	for _, r := range built.Resources() {
		text, err := r.MarshalJSON()
		must(t, err)
		o := new(unstructured.Unstructured)
		must(t, o.UnmarshalJSON(text))
		list = append(list, o)
	}
	return list
}

// resource is where the server keeps an object.
func resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	mapping, err := cluster.kinds.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	all := cluster.objects.Resource(mapping.Resource)
	if mapping.Scope.Name() == "root" {
		return all, nil
	}
	return all.Namespace(o.GetNamespace()), nil
}

// apply is kubectl apply --server-side --validate=strict.
func apply(t *testing.T, o *unstructured.Unstructured) error {
	t.Helper()
	at, err := resource(o)
	if err != nil {
		return err
	}
	text, err := json.Marshal(o)
	must(t, err)
	force := true
	_, err = at.Patch(t.Context(), o.GetName(), types.ApplyPatchType, text, metav1.PatchOptions{FieldManager: "kubectl", FieldValidation: metav1.FieldValidationStrict, Force: &force})
	return err
}

// remove takes objects away again. A namespace stays: no controller would end it.
func remove(t *testing.T, list []*unstructured.Unstructured) {
	t.Helper()
	now := int64(0)
	for _, o := range slices.Backward(list) {
		if o.GetKind() == "Namespace" {
			continue
		}
		at, err := resource(o)
		must(t, err)
		if err := at.Delete(t.Context(), o.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil && !gone(err) {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

// folders are the overlays, and the base.
func folders(t *testing.T) []string {
	t.Helper()
	list := []string{"base"}
	entries, err := os.ReadDir(filepath.Join(tree, "overlays"))
	must(t, err)
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(tree, "overlays", e.Name(), "kustomization.yaml")); err == nil {
			list = append(list, filepath.Join("overlays", e.Name()))
		}
	}
	return list
}

// TestOverlays: the server takes every object of every overlay, and takes it again, and a
// pod of each template is one that the restricted profile allows.
func TestOverlays(t *testing.T) {
	define(t)
	restricted := parse(t, "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: restricted\n  labels: {pod-security.kubernetes.io/enforce: restricted}\n")[0]
	must(t, apply(t, restricted))
	for _, dir := range folders(t) {
		t.Run(dir, func(t *testing.T) {
			list := build(t, dir)
			defer remove(t, list)
			for _, time := range []string{"the first time", "again"} {
				for _, o := range list {
					if err := apply(t, o); err != nil {
						t.Errorf("%s: %s %s/%s: %v", time, o.GetKind(), o.GetNamespace(), o.GetName(), err)
					}
				}
			}
			pods := 0
			for _, o := range list {
				if p := pod(t, o); p != nil {
					pods++
					if err := create(t, p); err != nil {
						t.Errorf("a pod of %s %s: %v", o.GetKind(), o.GetName(), err)
					}
				}
			}
			t.Logf("%d objects, %d templates of pods", len(list), pods)
			if dir == "overlays/envoy-gateway" {
				guards(t)
			}
		})
	}
}

// pod is one of an object's template, nil if it has none.
func pod(t *testing.T, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	path := []string{"spec", "template"}
	if o.GetKind() == "CronJob" {
		path = []string{"spec", "jobTemplate", "spec", "template"}
	}
	template, ok, err := unstructured.NestedMap(o.Object, path...)
	must(t, err)
	if _, containers, _ := unstructured.NestedSlice(template, "spec", "containers"); !ok || !containers {
		return nil
	}
	p := &unstructured.Unstructured{Object: template}
	p.SetAPIVersion("v1")
	p.SetKind("Pod")
	p.SetName("one")
	p.SetNamespace("restricted")
	return p
}

// create asks the server whether it would.
func create(t *testing.T, p *unstructured.Unstructured) error {
	t.Helper()
	_, err := cluster.objects.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(p.GetNamespace()).
		Create(t.Context(), p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	return err
}

// TestRefusals: the server is one that refuses, or the tests above would show nothing.
func TestRefusals(t *testing.T) {
	define(t)
	for name, c := range map[string]struct{ dir, kind, name, old, new, says string }{
		"a misspelt field":             {"base", "Deployment", "coatcheck", `"minReadySeconds"`, `"minReadySecond"`, "minReadySecond"},
		"a volume that is not there":   {"base", "Deployment", "coatcheck", `"name":"config","readOnly"`, `"name":"conf","readOnly"`, "volumeMounts"},
		"a misspelt field of a policy": {"overlays/envoy-gateway", "SecurityPolicy", "coatcheck", `"failOpen"`, `"failOpn"`, "failOpn"},
		"a value that is not allowed":  {"overlays/envoy-gateway", "SecurityPolicy", "coatcheck", `"statusOnError":503`, `"statusOnError":200`, "statusOnError"},
	} {
		t.Run(name, func(t *testing.T) {
			list := build(t, c.dir)
			defer remove(t, list)
			for _, o := range list {
				if o.GetKind() == "Namespace" {
					must(t, apply(t, o))
				}
				if o.GetKind() != c.kind || o.GetName() != c.name {
					continue
				}
				if err := apply(t, spoiled(t, o, c.old, c.new)); err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("the server says %v", err)
				}
			}
		})
	}
	t.Run("a pod that runs as root", func(t *testing.T) {
		must(t, apply(t, parse(t, "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: restricted\n  labels: {pod-security.kubernetes.io/enforce: restricted}\n")[0]))
		for _, o := range build(t, "base") {
			if o.GetKind() == "Deployment" && o.GetName() == "coatcheck" {
				if err := create(t, pod(t, spoiled(t, o, `"runAsNonRoot":true`, `"runAsNonRoot":false`))); err == nil || !strings.Contains(err.Error(), "PodSecurity") {
					t.Errorf("the server says %v", err)
				}
			}
		}
	})
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

// policies that an application may and may not have in a namespace of the Gateway.
const permitted = `{apiVersion: gateway.envoyproxy.io/v1alpha1, kind: SecurityPolicy, metadata: {name: tried, namespace: shop}, spec: {mergeType: StrategicMerge, targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: shop}], extAuth: {failOpen: false, grpc: {backendRefs: [{name: coatcheck, namespace: coatcheck, port: 9001}]}, contextExtensions: [{name: coatcheck.roles, type: Value, value: admin}]}}}`

// guards shows what guard.yaml refuses.
func guards(t *testing.T) {
	for _, c := range []struct{ old, new, says string }{
		{"mergeType: StrategicMerge, ", "", "without mergeType"},
		{"failOpen: false", "failOpen: true", "failOpen: true lets"},
		{"failOpen: false", "recomputeRoute: true", "recomputeRoute: true lets"},
		{"{name: coatcheck, namespace: coatcheck, port: 9001}", "{name: mine, port: 9001}", "another server would decide"},
		{"{name: coatcheck, namespace: coatcheck, port: 9001}", "{name: coatcheck, namespace: coatcheck, port: 9001}, {name: mine, port: 9001}", "another server would decide"},
		{"grpc: {backendRefs: [{name: coatcheck, namespace: coatcheck, port: 9001}]}", "http: {backendRefs: [{name: coatcheck, namespace: coatcheck, port: 9001}]}", "another server would decide"},
	} {
		o := parse(t, strings.Replace(permitted, c.old, c.new, 1))[0]
		refused(t, o, c.says)
	}
	o := parse(t, permitted)[0]
	must(t, apply(t, o))
	remove(t, []*unstructured.Unstructured{o})
}

// refused waits for it, because a policy takes a moment to be in force.
func refused(t *testing.T, o *unstructured.Unstructured, says string) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = apply(t, o); err != nil {
			break
		}
		remove(t, []*unstructured.Unstructured{o})
	}
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("the server says %v, and not that %s", err, says)
	}
}
