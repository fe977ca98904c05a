package stage

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// A doorState is what becomes of new connections.
type doorState int

const (
	doorShut doorState = iota // refused
	doorOpen
	doorDeaf // unanswered
)

// A door is the port of a proxy.
type door struct {
	state   doorState
	open    net.Listener
	deaf    int // a descriptor
	fillers []net.Conn
}

// be has the door in a state.
func (d *door) be(state doorState, p *proxy) error {
	if state == d.state {
		return nil
	}
	d.leave()
	d.state = state
	switch state {
	case doorOpen:
		listener, err := again(func() (net.Listener, error) { return net.Listen("tcp", p.addr) })
		if err != nil {
			d.state = doorShut
			return err
		}
		d.open = listener
		p.working.Go(func() { p.serve(listener) })
	case doorDeaf:
		if _, err := again(func() (any, error) { return nil, d.beDeaf(p.addr) }); err != nil {
			d.leave()
			return err
		}
	}
	return nil
}

// again tries for half a second where the address is in use: a process that is being
// started holds what this one had open, and has closed, until it runs its program.
func again[T any](try func() (T, error)) (value T, err error) {
	for range 50 {
		if value, err = try(); !errors.Is(err, syscall.EADDRINUSE) {
			return value, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return value, err
}

// leave shuts the door.
func (d *door) leave() {
	switch d.state {
	case doorOpen:
		_ = d.open.Close()
	case doorDeaf:
		_ = syscall.Close(d.deaf)
		for _, filler := range d.fillers {
			_ = filler.Close()
		}
		d.fillers = nil
	}
	d.state = doorShut
}

// beDeaf listens with a queue that is full: Linux then drops the packets that ask for one more
// connection, as a firewall does that drops packets.
func (d *door) beDeaf(addr string) error {
	at, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return err
	}
	if d.deaf, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
		return err
	}
	if err := d.bind(at); err != nil {
		_ = syscall.Close(d.deaf)
		d.deaf = -1
		return err
	}
	for len(d.fillers) < 8 && d.fill(addr) {
	}
	if len(d.fillers) == 8 {
		return fmt.Errorf("the queue of %s does not fill up", addr)
	}
	return nil
}

// bind binds the descriptor, with a queue for no more than one connection.
func (d *door) bind(at *net.TCPAddr) error {
	if err := syscall.SetsockoptInt(d.deaf, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := syscall.Bind(d.deaf, &syscall.SockaddrInet4{Port: at.Port, Addr: [4]byte(at.IP.To4())}); err != nil {
		return err
	}
	return syscall.Listen(d.deaf, 0)
}

// fill reports whether there was room for one more connection.
func (d *door) fill(addr string) bool {
	filler, err := net.DialTimeout("tcp", addr, 20*time.Millisecond)
	if err == nil {
		d.fillers = append(d.fillers, filler)
	}
	return err == nil
}
