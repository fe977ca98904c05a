package serve

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/logsink"
)

// TestHangupAtEnd: a SIGHUP does not end a process that waits for a handler that hangs,
// after all else is closed. The process is another one, because it would end the tests.
func TestHangupAtEnd(t *testing.T) {
	t.Parallel() // it waits
	const inside = "TEST_HANGUP_INSIDE"
	if os.Getenv(inside) == "" {
		other := exec.Command(os.Args[0], "-test.run=^TestHangupAtEnd$")
		other.Env = append(os.Environ(), inside+"=1")
		if out, err := other.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	sink := logsink.New(os.Stderr, 1)
	defer sink.Close(time.Second)
	p := newProcess(t.Context(), configure(t, "127.0.0.1:1"), sink)
	handler, closing, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	p.running.Go(func() { <-handler })
	p.closers = append([]func(){func() { close(closing) }}, p.closers...) // the last one to be called
	go func() { p.close(); close(closed) }()
	<-closing
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Error(err)
	}
	time.Sleep(100 * time.Millisecond)
	close(handler)
	<-closed
}
