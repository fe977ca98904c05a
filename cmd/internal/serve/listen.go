package serve

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// listen opens a TCP or a Unix socket. A Unix socket's file gets the mode. A file that
// a dead process has left behind is replaced; one on which a process still answers is
// not.
func listen(address string, mode os.FileMode) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok {
		return listenTCP(address)
	}
	listener, err := listenUnix(path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeStale(path); err != nil {
			return nil, err
		}
		listener, err = listenUnix(path)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

// listenTCP adds the cure to the errors that an operator meets.
func listenTCP(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	_, port, _ := net.SplitHostPort(address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%w: another process listens there (ss -ltnp names it); stop it, or choose another port", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%w: no network interface here has it; :%s is every address of this machine", err, port)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%w: ports below 1024 need the right CAP_NET_BIND_SERVICE; choose another port", err)
	}
	return listener, err
}

// listenUnix makes the file for its owner alone, until it has its mode.
func listenUnix(path string) (net.Listener, error) {
	defer syscall.Umask(syscall.Umask(0o177))
	return net.Listen("unix", path)
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	// After any other error a process may still listen: one that is stopped or
	// overloaded does not answer either.
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is in use", path)
	}
	return os.Remove(path)
}

// A bounded listener closes new connections above a number. If it left them waiting,
// the client that opens the most would keep all others out unnoticed; an Envoy whose
// connection is closed tries another replica.
type bounded struct {
	net.Listener
	limit    int64
	open     atomic.Int64
	rejected func()
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		runtime.Gosched() // a thousand handshakes at once keep no check waiting
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.open.Add(1) <= b.limit {
			return &counted{Conn: conn, close: sync.OnceFunc(func() { b.open.Add(-1) })}, nil
		}
		b.open.Add(-1)
		b.rejected()
		_ = conn.Close()
	}
}

// counted is a connection that reports when it is closed.
type counted struct {
	net.Conn
	close func()
}

func (c *counted) Close() error {
	c.close()
	return c.Conn.Close()
}
