package redisstore

import (
	"io"

	"golang.org/x/sys/unix"
)

// hungUp returns the error of a socket that the other side has ended, also where bytes of
// it wait to be read: the end of TLS is said in some (RFC 8446, section 6.1).
func hungUp(fd uintptr) error {
	socket := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	if n, err := unix.Poll(socket, 0); n > 0 && err == nil {
		return io.EOF
	}
	return nil
}
