package mesh_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// The programs, built once.
var coatcheck, istiod string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "coatcheck-istio-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	coatcheck, istiod = filepath.Join(dir, "coatcheck"), filepath.Join(dir, "istiod")
	if err := rig.Build(coatcheck); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if path := os.Getenv("ISTIOD"); path != "" {
		istiod = path // to try changes without linking it each time
		return test(m)
	}
	// Without flags, so that nothing is compiled twice that make mesh has compiled.
	if out, err := exec.Command("go", "build", "-C", "istiod", "-o", istiod, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building istiod: %v\n%s", err, out)
		return 1
	}
	return test(m)
}

func test(m *testing.M) int {
	status := m.Run()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}
