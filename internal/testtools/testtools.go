// Package testtools is what the tests of several packages share: addresses
// for the servers that they run, and the programs themselves.
//
//	addr, err := testtools.Addr()
//	envoy, err := testtools.Program("envoy", "ENVOY")
package testtools

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// reserved keeps the reservations until the process ends.
var reserved struct {
	sync.Mutex
	sockets []net.Listener
}

// Addr returns a loopback address that is free and stays so: no outgoing
// connection gets its port, which is below the kernel's range for those, and
// no later Addr returns it while this process lives, here or in any other
// process of the machine. A server may so listen on it, stop, and listen again.
//
// The usual way (listen on port 0, close, use the port) loses the port to
// another test now and then. Addr is safe for concurrent use.
func Addr() (string, error) {
	const lowest = 10_000
	highest := ephemeral() - 1
	if highest < lowest+1000 {
		return "", fmt.Errorf("the kernel gives outgoing connections the ports from %d (net.ipv4.ip_local_port_range), which leaves too few to tests", highest+1)
	}
	for range 1000 {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(highest-lowest)))
		if err != nil {
			return "", err
		}
		if addr := fmt.Sprintf("127.0.0.1:%d", lowest+n.Int64()); reserve(addr) {
			return addr, nil
		}
	}
	return "", errors.New("no free loopback port in 1,000 tries")
}

// reserve reports whether addr is free, and takes it for this process. The
// reservation is an abstract Unix socket (unix(7)): it ends with the process,
// however that ends.
func reserve(addr string) bool {
	socket, err := net.Listen("unix", "@coatcheck-test-"+addr)
	if err != nil {
		return false
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		_ = socket.Close()
		return false
	}
	_ = listener.Close()
	reserved.Lock()
	defer reserved.Unlock()
	reserved.sockets = append(reserved.sockets, socket)
	return true
}

// ephemeral is the first port that the kernel gives to outgoing connections.
func ephemeral() int {
	content, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		if fields := strings.Fields(string(content)); len(fields) == 2 {
			if first, err := strconv.Atoi(fields[0]); err == nil {
				return first
			}
		}
	}
	return 32768
}

// Program finds a program by the environment's variable, on the PATH, or in
// .tools/bin above the working directory.
func Program(name, variable string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		return path, nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	dir, err := os.Getwd()
	for err == nil {
		path := filepath.Join(dir, ".tools", "bin", name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", fmt.Errorf("no %s: run `make tools`, or name one with %s=", name, variable)
}
