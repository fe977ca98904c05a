package apiserver

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// An installation is a folder that operators apply, and the namespaces that its README
// expects. The overlay brings all others, or the server refuses what lies in them.
type installation struct {
	folder     string
	namespaces []string
	check      func(t *testing.T, list []*unstructured.Unstructured) // besides
}

// installations are the base, the overlays as they are, and what their READMEs say to
// change in a copy.
var installations = []installation{
	{folder: "base"},
	{folder: "overlays/dev"},
	{folder: "overlays/example"},
	{folder: "overlays/sidecar"},
	{folder: "overlays/istio", namespaces: []string{"istio-ingress", "shop"}},
	{folder: "overlays/istio-namespace", namespaces: []string{"shop"}},
	{folder: "overlays/istio-whole-mesh", namespaces: []string{"istio-system"}},
	{folder: "overlays/istio-ambient", namespaces: []string{"shop"}},
	{folder: "overlays/envoy-gateway", check: guards},
	{folder: "overlays/envoy-gateway-sidecar", namespaces: []string{"envoy-gateway-system"}, check: guardsSidecar},
	{folder: "overlays/with-api"},
	{folder: "overlays/with-login-mtls"},
	{folder: "overlays/with-monitoring"},
	{folder: "overlays/with-mtls"},
	{folder: "overlays/with-postgres"},
	{folder: "overlays/with-redis-tls"},
	{folder: "overlays/with-without-login"},
}

// TestOverlays: the server takes every object of every installation without a warning,
// and takes it again, and a pod of each template is one that its namespace admits.
func TestOverlays(t *testing.T) {
	for _, i := range installations {
		t.Run(i.folder, func(t *testing.T) {
			if i.check != nil {
				unguarded(t)
			}
			list, pods := install(t, i), 0
			for _, o := range list {
				if p := pod(t, o); p != nil {
					pods++
					admitted(t, p)
				}
			}
			if pods == 0 {
				t.Error("there is no template of a pod")
			}
			if i.check != nil {
				i.check(t, list)
			}
			applyAll(t, "again", list)
			t.Logf("%d objects, %d templates of pods", len(list), pods)
		})
	}
	unreached(t)
}

// install applies an installation until the test ends.
func install(t *testing.T, i installation) []*unstructured.Unstructured {
	t.Helper()
	list := build(t, i.folder)
	for _, name := range i.namespaces {
		o := namespace(name)
		t.Cleanup(func() { cluster.remove(t, o) })
		must(t, cluster.apply(t.Context(), o))
	}
	t.Cleanup(func() { cluster.remove(t, list...) })
	applyAll(t, "the first time", list)
	return list
}

// applyAll is what kubectl apply -k does. Nothing that it prints is meant for an operator.
func applyAll(t *testing.T, when string, list []*unstructured.Unstructured) {
	t.Helper()
	for _, o := range list {
		if err := cluster.apply(t.Context(), o); err != nil {
			t.Errorf("%s: %s %s/%s: %v", when, o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
		if text := cluster.warned.take(); text != "" {
			t.Errorf("%s: %s %s/%s: the server warns: %s", when, o.GetKind(), o.GetNamespace(), o.GetName(), text)
		}
	}
}

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

// unreached finds folders that no installation has, so that a new one is not forgotten.
func unreached(t *testing.T) {
	t.Helper()
	reached := make(map[string]bool)
	for _, i := range installations {
		reach(t, filepath.Join(tree, i.folder), reached)
	}
	for _, part := range parts {
		must(t, filepath.WalkDir(filepath.Join(root, "k8s", part), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Name() == "kustomization.yaml" && !reached[filepath.Dir(path)] {
				t.Errorf("no installation has %s", filepath.Dir(path))
			}
			return err
		}))
	}
}

// reach adds a folder and what its kustomization names.
func reach(t *testing.T, dir string, reached map[string]bool) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if os.IsNotExist(err) {
		return // a file, and no folder
	}
	must(t, err)
	reached[original(dir)] = true
	var k struct{ Resources, Components []string }
	must(t, yaml.Unmarshal(text, &k))
	for _, named := range slices.Concat(k.Resources, k.Components) {
		if filepath.Ext(named) == "" {
			reach(t, filepath.Join(dir, named), reached)
		}
	}
}

// original is the folder of the repository, of which one below tree is a copy.
func original(dir string) string {
	dir = strings.Replace(dir, tree, filepath.Join(root, "k8s"), 1)
	return strings.NewReplacer("overlays/istio-namespace", "overlays/istio", "overlays/istio-whole-mesh", "overlays/istio", "overlays/envoy-gateway-sidecar", "overlays/envoy-gateway").Replace(dir)
}
