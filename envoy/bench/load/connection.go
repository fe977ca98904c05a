package load

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A connection has at most one request under way.
type connection struct {
	fd   int
	due  time.Time // when the request was due
	busy bool
	got  []byte // of the answer, so far
}

func (c *connection) reset() { c.busy, c.got = false, c.got[:0] }

// connect opens a connection, and waits for it.
func (l *loop) connect() (*connection, error) {
	address, err := net.ResolveTCPAddr("tcp4", l.job.Address)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	to := &unix.SockaddrInet4{Port: address.Port, Addr: [4]byte(address.IP.To4())}
	err = errors.Join(unix.Connect(fd, to), unix.SetNonblock(fd, true),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), l.watch(fd))
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("connecting to %s: %w", l.job.Address, err)
	}
	c := &connection{fd: fd}
	l.connections[fd] = c
	return c, nil
}

func cutCookie(request string) (head, tail string) {
	head, tail, _ = strings.Cut(request, "COOKIE")
	return head, tail
}

// send sends the next request on a connection that is free.
func (l *loop) send(c *connection, due time.Time) error {
	cookie := l.cookies[l.next%len(l.cookies)]
	l.next++
	l.scratch = append(append(append(l.scratch[:0], l.head...), cookie...), l.tail...)
	c.due, c.busy = due, true
	l.inFlight++
	if l.measuring && l.arrivals != nil {
		l.lateness = append(l.lateness, time.Since(due))
	}
	n, err := unix.Write(c.fd, l.scratch)
	if err == nil && n < len(l.scratch) {
		return fmt.Errorf("a request of %d bytes does not fit in the socket's buffer", len(l.scratch))
	}
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil // the next read finds it closed
	}
	return os.NewSyscallError("write", err)
}

// read takes what has come, and counts the answer once it is whole.
func (l *loop) read(c *connection, sending bool) error {
	var buffer [16 << 10]byte
	n, err := unix.Read(c.fd, buffer[:])
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil
	case n <= 0:
		return l.broken(c, sending)
	}
	c.got = append(c.got, buffer[:n]...)
	status, whole, err := parse(c.got)
	if err != nil || !whole {
		return err
	}
	return l.answered(c, status, sending)
}

// broken replaces a connection that Envoy has closed. An answer that was due has
// status 0.
func (l *loop) broken(c *connection, sending bool) error {
	delete(l.connections, c.fd)
	_ = unix.Close(c.fd)
	fresh, err := l.connect()
	if err != nil {
		return err
	}
	if !c.busy {
		if l.arrivals != nil {
			l.arrivals.replace(c, fresh)
		}
		return nil
	}
	fresh.due = c.due
	return l.answered(fresh, 0, sending)
}

var headEnd, lengthName = []byte("\r\n\r\n"), []byte("\r\ncontent-length: ")

// parse reads the status of an answer, and reports whether the answer is whole. It knows
// the answers that Envoy makes itself: with Content-Length in lower case.
func parse(got []byte) (status int, whole bool, err error) {
	end := bytes.Index(got, headEnd)
	if end < 0 {
		return 0, false, nil
	}
	head := got[:end+2]
	if len(head) < 12 {
		return 0, false, fmt.Errorf("not an HTTP answer: %q", head)
	}
	if status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return 0, false, fmt.Errorf("not an HTTP answer: %q", head)
	}
	length := 0
	if at := bytes.Index(head, lengthName); at >= 0 {
		value := head[at+len(lengthName):]
		value = value[:bytes.IndexByte(value, '\r')]
		if length, err = strconv.Atoi(string(value)); err != nil {
			return 0, false, fmt.Errorf("Content-Length %q", value)
		}
	}
	return status, len(got) >= end+len(headEnd)+length, nil
}
