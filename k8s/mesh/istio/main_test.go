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
	if istiod, err = filepath.Abs("../../../.build/mesh/istiod"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	coatcheck = filepath.Join(dir, "coatcheck")
	if err := rig.Build(coatcheck); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// It stays there, because linking it takes half a minute, and go build does it again only
	// when it has to.
	if out, err := exec.Command("go", "build", "-C", "../programs", "-ldflags=-s -w", "-o", istiod, "./istiod").CombinedOutput(); err != nil {
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
