package waysin_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

var (
	binary string     // coatcheck, built once
	site   *upstreams // run once
)

// full reports whether tests run in full.
var full = os.Getenv("COATCHECK_FULL") == "1"

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	start := time.Now()
	_ = os.Unsetenv("COATCHECK_FULL") // Coatcheck refuses variables that it does not know
	dir, err := os.MkdirTemp("", "coatcheck-waysin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := prepare(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	say("the upstreams run after %v", time.Since(start).Round(time.Second))
	status := m.Run()
	if shared != nil {
		shared.Close()
	}
	site.close()
	seen.print(os.Stdout)
	say("done after %v", time.Since(start).Round(time.Second))
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// prepare builds Coatcheck while the upstreams start.
func prepare(dir string) error {
	binary = filepath.Join(dir, "coatcheck")
	var built error
	var building sync.WaitGroup
	building.Go(func() { built = rig.Build(binary) })
	var err error
	site, err = startUpstreams()
	building.Wait()
	if err != nil {
		return err
	}
	if built != nil {
		site.close()
	}
	return built
}

// say prints the progress of the tests.
func say(format string, values ...any) { fmt.Fprintf(os.Stdout, "ways in: "+format+"\n", values...) }
