package mesh_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

const overlays = "../../overlays/"

// build is what kubectl apply -k would send.
func build(t *testing.T, folder string) string {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), overlays+folder)
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// together is a file of manifests.
func together(parts ...string) string { return strings.Join(parts, "\n---\n") }

// meshConfig is what the values of istiod's chart come to.
func meshConfig(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(overlays + "istio/istiod-values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		MeshConfig map[string]any `json:"meshConfig"`
	}
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		t.Fatal(err)
	}
	config, err := yaml.Marshal(values.MeshConfig)
	if err != nil {
		t.Fatal(err)
	}
	return string(config)
}

// replaced replaces a part of a text that must be there.
func replaced(t *testing.T, text, old, by string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("there is no %q in\n%s", old, text)
	}
	return strings.ReplaceAll(text, old, by)
}

// without drops the documents that have this kind and this name.
func without(t *testing.T, manifests, kind, name string) string {
	t.Helper()
	var kept []string
	dropped := false
	for document := range strings.SplitSeq(manifests, "\n---\n") {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatal(err)
		}
		if o.Kind == kind && o.Metadata.Name == name {
			dropped = true
			continue
		}
		kept = append(kept, document)
	}
	if !dropped {
		t.Fatalf("there is no %s %s", kind, name)
	}
	return together(kept...)
}

// plain are the settings that keep out of istiod's answers what an Envoy without
// Istio's agent has not: filters of Istio's build, and certificates.
var plain = []string{"PILOT_ENABLE_ALPN_FILTER=false", "PILOT_ENABLE_METADATA_EXCHANGE=false"}

// startIstiod serves these manifests until the test ends, and returns its address.
func startIstiod(t *testing.T, mesh, manifests string, environment ...string) string {
	t.Helper()
	dir := t.TempDir()
	meshFile, manifestsFile := filepath.Join(dir, "mesh.yaml"), filepath.Join(dir, "manifests.yaml")
	for file, text := range map[string]string{meshFile: mesh, manifestsFile: manifests} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := rig.Run("istiod", istiod, environment, meshFile, manifestsFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop() })
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for line := range strings.Lines(p.Output()) {
			if strings.HasPrefix(line, "127.0.0.1:") && strings.HasSuffix(line, "\n") {
				return strings.TrimSpace(line)
			}
		}
		select {
		case <-p.Exited():
			t.Fatalf("istiod ended: %s", p.Output())
		default:
		}
	}
	t.Fatalf("istiod does not serve: %s", p.Output())
	return ""
}
