package live_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

var (
	binary string // coatcheck, built once
	tools  string // where .ci/fetch puts what it fetches
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	start := time.Now()
	dir, err := os.MkdirTemp("", "coatcheck-express-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	status := 1
	if err = prepare(dir); err == nil {
		say("Coatcheck is built after %v", time.Since(start).Round(time.Second))
		status = m.Run()
	}
	closeSites()
	if err = errors.Join(err, goleak.Find()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	say("done after %v", time.Since(start).Round(time.Second))
	return status
}

func prepare(dir string) (err error) {
	if tools, err = toolsFolder(); err != nil {
		return err
	}
	binary = filepath.Join(dir, "coatcheck")
	return rig.Build(binary)
}

// toolsFolder is where .ci/fetch puts what it fetches.
func toolsFolder() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, ".ci", "fetch")); err == nil {
			return filepath.Join(dir, ".tools"), nil
		}
	}
	return "", errors.Join(errors.New("no .ci/fetch here or above"), err)
}

// say prints the progress of the tests.
func say(format string, values ...any) { fmt.Fprintf(os.Stdout, "express: "+format+"\n", values...) }
