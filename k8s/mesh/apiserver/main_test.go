package apiserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// root is the repository's.
const root = "../../.."

// version is the one of k8s.io/kubernetes in go.mod.
const version = "v1.37.2"

var (
	tree    string // a copy of k8s, with passwords for the development Redis, and a user
	cluster *server
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "coatcheck-apiserver-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = prepare(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := m.Run()
	cluster.stop()
	if err := goleak.Find(goleak.IgnoreTopFunction("k8s.io/klog/v2.(*flushDaemon).run.func1")); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// prepare builds the programs, copies what operators apply, and starts the server.
func prepare(dir string) error {
	tree = filepath.Join(dir, "k8s")
	for _, part := range []string{"base", "components", "overlays"} {
		if err := os.CopyFS(filepath.Join(tree, part), os.DirFS(filepath.Join(root, "k8s", part))); err != nil {
			return err
		}
	}
	// A developer may have passwords of their own there.
	passwords, coatcheck := filepath.Join(tree, "overlays/dev/passwords"), filepath.Join(dir, "coatcheck")
	if err := os.RemoveAll(passwords); err != nil {
		return err
	}
	program, err := filepath.Abs(filepath.Join(root, ".build/mesh/kube-apiserver"))
	if err != nil {
		return err
	}
	for _, command := range []*exec.Cmd{
		exec.Command("go", "build", "-C", root, "-o", coatcheck, "./cmd/coatcheck"),
		exec.Command(root+"/.ci/passwords", passwords),
		exec.Command(root+"/.ci/users", coatcheck, passwords),
		// It stays there, because linking it takes a minute, and go build does it again
		// only when it has to.
		exec.Command("go", "build", "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion="+version, "-o", program, "./kube-apiserver"),
	} {
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(command.Args, " "), err, out)
		}
	}
	cluster, err = startServer(dir, program)
	return err
}
