package clients_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// at is where everything runs, for all tests.
var at *stand

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	start := time.Now()
	dir, err := os.MkdirTemp("", "coatcheck-clients-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = prepare(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	say("all of it runs after %v", time.Since(start).Round(time.Second))
	status := m.Run()
	at.close()
	say("done after %v", time.Since(start).Round(time.Second))
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// prepare compiles the drivers beside Coatcheck, and starts all.
func prepare(dir string) error {
	var built [4]error
	var work sync.WaitGroup
	for i, build := range []func() error{
		func() error { return buildCoatcheck(filepath.Join(dir, "coatcheck")) },
		func() error { return buildNode(filepath.Join(dir, "node")) },
		func() error { return buildJava(filepath.Join(dir, "java")) },
		func() error { return buildPython(filepath.Join(dir, "python")) },
	} {
		work.Go(func() { built[i] = build() })
	}
	work.Wait()
	if err := errors.Join(built[:]...); err != nil {
		return err
	}
	var err error
	at, err = start(dir)
	return err
}

// say prints the progress of the tests.
func say(format string, values ...any) { fmt.Fprintf(os.Stdout, "clients: "+format+"\n", values...) }
