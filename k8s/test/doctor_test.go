package manifests

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDoctor: in what people apply, and in the folder as it is, the doctor finds nothing.
func TestDoctor(t *testing.T) {
	if out, err := doctor("", "../../k8s", "../../docker-compose.yml", "../../envoy/envoy.yaml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, dir := range applied(t) {
		healthy(t, dir)
	}
	for _, component := range []string{"login-mtls", "monitoring", "mtls", "redis-tls"} { // overlays have the others
		t.Run(component, func(t *testing.T) {
			healthy(t, overlay(t, component, read(t, "k8s/base/coatcheck.yaml"), read(t, "k8s/base/login/coatcheck.yaml")))
		})
	}
}

// healthy wants no finding in what kustomize builds, and one where it has a mistake, so that
// the doctor is known to have looked.
func healthy(t *testing.T, dir string) {
	t.Helper()
	text := build(t, dir)
	if out, err := doctor(text, "-"); err != nil {
		t.Errorf("%s: %v\n%s", dir, err, out)
	}
	spoiled := strings.ReplaceAll(text, "terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 15")
	if out, err := doctor(spoiled, "-"); err == nil || !strings.Contains(out, "KUBERNETES_GRACE") {
		t.Errorf("%s, pods that are killed early: %v\n%s", dir, err, out)
	}
}

// applied are the base, every overlay, and every copy of one that a README speaks of.
func applied(t *testing.T) []string {
	t.Helper()
	dirs := []string{
		"base",
		changedCopy(t, "istio", "\n- gateway\n", "\n- namespace\n"),
		changedCopy(t, "istio", "\n- gateway\n", "\n- whole-mesh\n"),
		changedCopy(t, "envoy-gateway", "\nimages:\n", "\ncomponents: [../../components/envoy-gateway-sidecar]\nimages:\n"),
	}
	overlays, err := filepath.Glob(filepath.Join("..", "overlays", "*", "kustomization.yaml"))
	if err != nil || len(overlays) == 0 {
		t.Fatalf("there are no overlays (%v)", err)
	}
	for _, file := range overlays {
		dirs = append(dirs, filepath.Join("overlays", filepath.Base(filepath.Dir(file))))
	}
	return dirs
}

// changedCopy copies an overlay with one change of its kustomization.
func changedCopy(t *testing.T, overlay, before, after string) string {
	t.Helper()
	dir := filepath.Join(tree, "overlays", overlay+"-"+rand.Text()) // beside it, for its ../..
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(tree, "overlays", overlay))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "kustomization.yaml")
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), before) != 1 {
		t.Fatalf("there is no place %q in %s (%v)", before, file, err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), before, after, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return filepath.Join("overlays", filepath.Base(dir))
}

// doctor runs the real program, which reads the text from standard input.
func doctor(text string, sources ...string) (string, error) {
	command := exec.Command(binary, append([]string{"doctor"}, sources...)...)
	command.Stdin = strings.NewReader(text)
	out, err := command.CombinedOutput()
	return string(out), err
}
