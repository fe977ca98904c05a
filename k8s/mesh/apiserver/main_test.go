package apiserver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// root is the repository's.
const root = "../../.."

// version is the one of k8s.io/kubernetes in ../programs/go.mod. A server without one says v0.0.0.
const version = "v1.36.3"

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

// prepare builds the server, copies what operators apply, starts the server and defines
// the kinds.
func prepare(dir string) error {
	tree = filepath.Join(dir, "k8s")
	coatcheck := filepath.Join(dir, "coatcheck")
	program, err := filepath.Abs(filepath.Join(root, ".build/mesh/kube-apiserver"))
	if err != nil {
		return err
	}
	for _, command := range []*exec.Cmd{
		exec.Command("go", "build", "-C", root, "-o", coatcheck, "./cmd/coatcheck"),
		// It stays there, because linking it takes half a minute, and go build does it again
		// only when it has to.
		exec.Command("go", "build", "-C", "../programs", "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion="+version, "-o", program, "./kube-apiserver"),
	} {
		if err := output(command); err != nil {
			return err
		}
	}
	if err := plant(coatcheck); err != nil {
		return err
	}
	if cluster, err = startServer(dir, program); err != nil {
		return err
	}
	if err := define(cluster); err != nil {
		cluster.stop()
		return err
	}
	return nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
