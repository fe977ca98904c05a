package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// A Go program asks the kernel for the time of day, and no library that could be replaced. So
// that replicas can have clocks that are wrong, they are built once more, from the same
// source, with a package time whose Now adds what a variable says. What has elapsed stays
// true.

// clockAhead is the variable: by how many seconds the clock of a program is ahead.
const clockAhead = "FAULTS_CLOCK_AHEAD"

// wrongNow is put into time.Now, and wrongBy behind the imports.
const (
	asked    = "\tsec, nsec, mono := runtimeNow()\n"
	wrongNow = asked + "\tsec += wrongBy\n"
	imported = "\t_ \"unsafe\" // for go:linkname\n)\n"
	wrongBy  = "\t\"syscall\"\n" + imported + `
var wrongBy = func() int64 {
	text, _ := syscall.Getenv("` + clockAhead + `")
	d, _ := ParseDuration(text)
	return int64(d / Second)
}()
`
)

// wrongTime is the source of package time with the two in it.
func wrongTime(source string) (string, error) {
	now := strings.Index(source, "\nfunc Now() Time {\n"+asked)
	if now < 0 || !strings.Contains(source, imported) {
		return "", errors.New("package time of this Go does not look as it did: its clock cannot be set")
	}
	source = source[:now] + strings.Replace(source[now:], asked, wrongNow, 1)
	return strings.Replace(source, imported, wrongBy, 1), nil
}

// buildWithClock builds coatcheck so that its clock can be set.
func buildWithClock(dir string) (path string, err error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	file := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	source, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	text, err := wrongTime(string(source))
	if err != nil {
		return "", err
	}
	changed, overlay := filepath.Join(dir, "time.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
		return "", err
	}
	replaced, err := json.Marshal(map[string]any{"Replace": map[string]string{file: changed}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, replaced, 0o600); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "coatcheck-clock")
	return path, rig.Build(path, "-overlay", overlay)
}

// A clockworker builds the program at the first need of it.
type clockworker struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// binary is the program whose clock can be set.
func (c *clockworker) binary() (string, error) {
	c.once.Do(func() {
		if c.dir, c.err = os.MkdirTemp("", "coatcheck-faults-"); c.err == nil {
			progress("building a coatcheck whose clock can be set (two minutes, the first time)")
			c.path, c.err = buildWithClock(c.dir)
		}
	})
	return c.path, c.err
}

func (c *clockworker) remove() { _ = os.RemoveAll(c.dir) }

// awaitApart wants a replica to know how far its clock is ahead of Redis's.
func (r *replica) awaitApart() error {
	var u usage
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if u, err = r.usage(); err == nil && (u.offset+r.ahead).Abs() < 2*time.Second {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("a replica whose clock is to be %v ahead finds Redis's %v ahead of its own", r.ahead, u.offset), err)
}
