package apiserver

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// definitions are the modules that have the kinds of others, with the sums of their files:
// they are downloaded and read, not built, so go.mod does not list them.
var definitions = []struct{ module, sum, files string }{
	{"sigs.k8s.io/gateway-api@v1.6.1", "h1:mock6phZbI6rvZerwrVNk7hVNymQgHo+6sJ81Ia7ftY=", "config/crd/standard/gateway.*.yaml"},
	{"github.com/envoyproxy/gateway@v1.9.1", "h1:vAVp6/AlBXJ1aOhp1mxL7fNEzVEfjADUguUhm2wzxQY=", "charts/gateway-crds-helm/templates/generated/*.yaml"},
	{"istio.io/api@v1.31.0-rc.0.0.20260824154656-b943409680a7", "h1:xAyXvpHQLGIMd5enneW/4zM3dwWRQ2HmiaG6DlhObds=", "kubernetes/customresourcedefinitions.gen.yaml"},
	{"github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=", "example/prometheus-operator-crd/*.yaml"},
}

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// define applies all definitions, once, and waits until the server knows their kinds.
func define(t *testing.T) {
	t.Helper()
	var names []string
	for _, d := range definitions {
		files, err := filepath.Glob(filepath.Join(download(t, d.module, d.sum), d.files))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no %s (%v)", d.module, d.files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			must(t, err)
			for _, o := range parse(t, withoutTemplates(string(text))) {
				if o.GetKind() == "CustomResourceDefinition" {
					must(t, apply(t, o))
					names = append(names, o.GetName())
				}
			}
		}
	}
	for _, name := range names {
		established(t, name)
	}
	cluster.kinds.Reset()
}

// download is a module's folder, with what go.sum would say of it.
func download(t *testing.T, module, sum string) string {
	t.Helper()
	command := exec.Command("go", "mod", "download", "-json", module)
	command.Dir = t.TempDir()
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", module, err, out)
	}
	var m struct{ Dir, Sum string }
	must(t, json.Unmarshal(out, &m))
	if m.Sum != sum {
		t.Fatalf("%s has the sum %s", module, m.Sum)
	}
	return m.Dir
}

// withoutTemplates leaves out the lines of Helm.
func withoutTemplates(text string) string {
	var kept []string
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "{{") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

func established(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		o, err := cluster.objects.Resource(crds).Get(t.Context(), name, metav1.GetOptions{})
		must(t, err)
		conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, c := range conditions {
			if c := c.(map[string]any); c["type"] == "Established" && c["status"] == "True" {
				return
			}
		}
	}
	t.Fatalf("%s is never established", name)
}

// parse reads documents of YAML.
func parse(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var list []*unstructured.Unstructured
	for document := range strings.SplitSeq("\n"+text, "\n---") {
		o := new(unstructured.Unstructured)
		must(t, yaml.Unmarshal([]byte(document), &o.Object))
		if o.Object != nil {
			list = append(list, o)
		}
	}
	return list
}

// gone reports whether the error says that there is no such object.
func gone(err error) bool { return apierrors.IsNotFound(err) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
