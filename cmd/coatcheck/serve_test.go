package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHangupAtStart: a SIGHUP, which operators send to all processes after a change, does
// not end one that has not read its configuration yet. The process is another one, because
// it would end the tests.
func TestHangupAtStart(t *testing.T) {
	const inside = "TEST_HANGUP_CONFIG"
	if path := os.Getenv(inside); path != "" {
		os.Exit(run(t.Context(), []string{"serve", "--config", path}, nil, os.Stdout, os.Stderr))
	}
	path := filepath.Join(t.TempDir(), "coatcheck.yaml")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	other := exec.Command(os.Args[0], "-test.run=^TestHangupAtStart$")
	var output strings.Builder
	other.Env, other.Stderr = append(os.Environ(), inside+"="+path), &output
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0) // until it reads
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	_, written := file.WriteString("tiemout: 1s\n")
	_ = file.Close()
	if err := other.Wait(); other.ProcessState.ExitCode() != 1 || !strings.Contains(output.String(), "did you mean timeout?") {
		t.Errorf("it ended with %v (%v) and said %q", err, written, output.String())
	}
}
