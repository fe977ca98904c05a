package gateway

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// The programs that the tests run. Those of Envoy Gateway stay where they are, because
// linking them takes a minute, and go build does it again only when it has to.
var coatcheck, egctl, envoyGateway string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "coatcheck-gateway-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = buildPrograms(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := m.Run()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// buildPrograms builds what no registry has as a program.
func buildPrograms(dir string) error {
	kept, err := filepath.Abs("../../../.build/mesh")
	if err != nil {
		return err
	}
	coatcheck, egctl, envoyGateway = filepath.Join(dir, "coatcheck"), filepath.Join(kept, "egctl"), filepath.Join(kept, "envoy-gateway")
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-C", "../programs", "-ldflags=-s -w", "-o", kept+string(filepath.Separator),
		"github.com/envoyproxy/gateway/cmd/egctl", "github.com/envoyproxy/gateway/cmd/envoy-gateway")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(build.Args, " "), err, out)
	}
	return rig.Build(coatcheck)
}
