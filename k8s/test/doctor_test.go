package manifests

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDoctor: in what people apply, and in the folder as it is, the doctor finds nothing.
func TestDoctor(t *testing.T) {
	if out, err := doctor("", "../../k8s", "../../docker-compose.yml", "../../envoy/envoy.yaml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for _, b := range builds {
		text := build(t, b.dir)
		if out, err := doctor(text, "-"); err != nil {
			t.Errorf("%s: %v\n%s", b.dir, err, out)
		}
		// With a mistake, so that it is known to have looked.
		spoiled := strings.ReplaceAll(text, "terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 15")
		if out, err := doctor(spoiled, "-"); err == nil || strings.Count(out, "KUBERNETES_GRACE") != 2 {
			t.Errorf("%s, pods that are killed early: %v\n%s", b.dir, err, out)
		}
	}
}

// doctor runs the real program, which reads the text from standard input.
func doctor(text string, sources ...string) (string, error) {
	command := exec.Command(binary, append([]string{"doctor", "--severity", "note"}, sources...)...)
	command.Stdin = strings.NewReader(text)
	out, err := command.CombinedOutput()
	return string(out), err
}
