package serve

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// listen opens a TCP or a Unix socket. The socket's file is open to owner and
// group; one left behind by a process that is gone is replaced, one that
// somebody still answers on is not.
func listen(address string) (net.Listener, error) {
	path, ok := strings.CutPrefix(address, "unix://")
	if !ok {
		return net.Listen("tcp", address)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		if err := removeStale(path); err != nil {
			return nil, err
		}
		if listener, err = net.Listen("unix", path); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there and is no socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	// Any other error leaves open whether somebody listens: a process that is
	// stopped or has its hands full does not answer either.
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is in use", path)
	}
	return os.Remove(path)
}
