package testtools_test

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
)

func TestMain(m *testing.M) {
	if os.Getenv("TESTTOOLS_ADDRS") != "" {
		os.Exit(printAddrs())
	}
	goleak.VerifyTestMain(testleaks.Patient(m))
}

// printAddrs is what another process of TestAddrs does: it prints addresses,
// and holds them until it has been read.
func printAddrs() int {
	for range 50 {
		addr, err := testtools.Addr()
		if err != nil {
			return 1
		}
		os.Stdout.WriteString(addr + "\n")
	}
	os.Stdout.Close()
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}

// TestAddrs: no two processes get the same address, and no address is in
// the range of outgoing connections.
func TestAddrs(t *testing.T) {
	seen := make(map[string]bool)
	take := func(addr string) {
		t.Helper()
		if seen[addr] {
			t.Errorf("%s twice", addr)
		}
		seen[addr] = true
		_, port, _ := net.SplitHostPort(addr)
		if n, err := strconv.Atoi(port); err != nil || n < 10_000 {
			t.Errorf("%s: %v", addr, err)
		}
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
	}
	for range 2 {
		other := exec.Command(os.Args[0])
		other.Env = append(os.Environ(), "TESTTOOLS_ADDRS=1")
		hold, err := other.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := other.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			hold.Close()
			if err := other.Wait(); err != nil {
				t.Error(err)
			}
		}()
		var text strings.Builder
		buffer := make([]byte, 4096)
		for err == nil {
			var n int
			n, err = out.Read(buffer)
			text.Write(buffer[:n])
		}
		addrs := strings.Fields(text.String())
		if len(addrs) != 50 {
			t.Fatalf("%d addresses", len(addrs))
		}
		for _, addr := range addrs {
			take(addr)
		}
	}
	for range 50 {
		addr, err := testtools.Addr()
		if err != nil {
			t.Fatal(err)
		}
		take(addr)
	}
}
