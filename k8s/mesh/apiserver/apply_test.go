package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

var namespaces = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

// resource is where the server keeps an object.
func (s *server) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := o.GroupVersionKind()
	mapping, err := s.kinds.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	all := s.objects.Resource(mapping.Resource)
	switch {
	case mapping.Scope.Name() == meta.RESTScopeNameRoot:
		return all, nil
	case o.GetNamespace() == "":
		return nil, fmt.Errorf("%s %s has no namespace: kubectl would apply it to that of its user", o.GetKind(), o.GetName())
	}
	return all.Namespace(o.GetNamespace()), nil
}

// apply is kubectl apply --server-side --validate=strict.
func (s *server) apply(ctx context.Context, o *unstructured.Unstructured) error {
	at, err := s.resource(o)
	if err != nil {
		return err
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	_, err = at.Patch(ctx, o.GetName(), types.ApplyPatchType, text, metav1.PatchOptions{FieldManager: "kubectl", FieldValidation: metav1.FieldValidationStrict})
	return err
}

// ask applies an object, and takes it away again, if the server took it.
func (s *server) ask(t *testing.T, o *unstructured.Unstructured) error {
	t.Helper()
	err := s.apply(t.Context(), o)
	if err == nil {
		s.remove(t, o)
	}
	return err
}

// remove takes objects away again, the last first. A namespace is ended as its controller
// would do it once it is empty, so that the next overlay meets no namespace of this one.
func (s *server) remove(t *testing.T, list ...*unstructured.Unstructured) {
	t.Helper()
	ctx, now := context.Background(), int64(0) // at the end of a test its own context has ended
	for _, o := range slices.Backward(list) {
		at, err := s.resource(o)
		must(t, err)
		err = at.Delete(ctx, o.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &now})
		switch {
		case apierrors.IsNotFound(err): // the server refused it
		case err != nil:
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
		case o.GetKind() == "Namespace":
			s.end(t, o.GetName())
		}
	}
}

// end finalizes a namespace that is being deleted.
func (s *server) end(t *testing.T, name string) {
	t.Helper()
	ctx, client := context.Background(), s.objects.Resource(namespaces)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		o, err := client.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return
		}
		must(t, err)
		unstructured.RemoveNestedField(o.Object, "spec", "finalizers")
		_, err = client.Update(ctx, o, metav1.UpdateOptions{}, "finalize")
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			t.Fatalf("the namespace %s: %v", name, err)
		}
	}
	t.Fatalf("the namespace %s is still there", name)
}

// namespace is one that an overlay's README expects, of the profile that Coatcheck has.
func namespace(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": name, "labels": map[string]any{"pod-security.kubernetes.io/enforce": "restricted"}},
	}}
}
