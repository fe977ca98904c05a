package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// definitions are the modules that have the kinds of others, in the versions of the
// control planes that the modules beside this one run. Kinds of the experimental channel
// of Gateway API are not among them: no overlay may need them.
var definitions = []struct{ pinned, module, files string }{
	{"../programs", "sigs.k8s.io/gateway-api", "config/crd/standard/gateway.*.yaml"},
	{"../programs", "github.com/envoyproxy/gateway", "charts/gateway-crds-helm/templates/generated/*.yaml"},
	{"../programs", "istio.io/api", "kubernetes/customresourcedefinitions.gen.yaml"},
	{"", "github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/*.yaml"},
}

// operatorSum is what go.sum would say of the Prometheus operator, which no go.mod
// lists: nothing is built from it.
const operatorSum = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="

var crds = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// define applies all definitions, and waits until the server knows their kinds.
func define(s *server) error {
	var defined []*unstructured.Unstructured
	for _, d := range definitions {
		dir, err := download(d.pinned, d.module)
		if err != nil {
			return err
		}
		files, err := filepath.Glob(filepath.Join(dir, d.files))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("%s has no %s (%w)", d.module, d.files, err)
		}
		for _, file := range files {
			list, err := definitionsOf(file)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			defined = append(defined, list...)
		}
	}
	for _, o := range defined {
		if err := s.apply(context.Background(), o); err != nil {
			return fmt.Errorf("%s: %w", o.GetName(), err)
		}
	}
	for _, o := range defined {
		if err := s.established(o.GetName()); err != nil {
			return err
		}
	}
	s.kinds.Reset()
	s.warned.take() // of definitions that are not ours
	return nil
}

// definitionsOf reads the definitions of a file, without the lines of Helm.
func definitionsOf(file string) ([]*unstructured.Unstructured, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var kept []string
	for line := range strings.SplitSeq(string(text), "\n") {
		if !strings.HasPrefix(line, "{{") {
			kept = append(kept, line)
		}
	}
	all, err := parse(strings.Join(kept, "\n"))
	var list []*unstructured.Unstructured
	for _, o := range all {
		if o.GetKind() == "CustomResourceDefinition" { // a file of Gateway API has a policy, too
			list = append(list, o)
		}
	}
	return list, err
}

// download returns a module's folder, in the version of the module in the folder pinned.
func download(pinned, module string) (string, error) {
	command := exec.Command("go", "mod", "download", "-json", module)
	command.Dir = pinned
	if pinned == "" {
		command.Dir = os.TempDir() // with no go.mod
	}
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", module, err, out)
	}
	var m struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &m); err != nil {
		return "", err
	}
	if pinned == "" && m.Sum != operatorSum {
		return "", fmt.Errorf("%s has the sum %s", module, m.Sum)
	}
	return m.Dir, nil
}

func (s *server) established(name string) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		o, err := s.objects.Resource(crds).Get(context.Background(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		conditions, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
		if err != nil {
			return err
		}
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
				return nil
			}
		}
	}
	return fmt.Errorf("%s is never established", name)
}

// parse reads documents of YAML.
func parse(text string) ([]*unstructured.Unstructured, error) {
	var list []*unstructured.Unstructured
	for document := range strings.SplitSeq("\n"+text, "\n---") {
		o := new(unstructured.Unstructured)
		if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
			return nil, err
		}
		if o.Object != nil {
			list = append(list, o)
		}
	}
	return list, nil
}
