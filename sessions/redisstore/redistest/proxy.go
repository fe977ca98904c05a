package redistest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/internal/testtools"
)

// A Proxy is a network between clients and one server, which a test cuts: no byte passes
// then, and neither side hears that the other is gone. It is safe for concurrent use.
type Proxy struct {
	Addr string // where it listens
	To   string // where it leads

	listener net.Listener
	cut      atomic.Bool
	mu       sync.Mutex
	conns    map[net.Conn]bool
	running  sync.WaitGroup
}

// NewProxy runs a proxy to an address until Close.
func NewProxy(to string) (*Proxy, error) {
	listener, err := listen()
	if err != nil {
		return nil, err
	}
	p := &Proxy{Addr: listener.Addr().String(), To: to, listener: listener, conns: make(map[net.Conn]bool)}
	p.running.Go(p.accept)
	return p, nil
}

// listen tries again where a program that does not reserve its addresses was faster.
func listen() (listener net.Listener, err error) {
	for range 5 {
		addr, fault := testtools.Addr()
		if fault != nil {
			return nil, fault
		}
		if listener, err = net.Listen("tcp", addr); err == nil {
			return listener, nil
		}
	}
	return nil, err
}

// Port is the one it listens on.
func (p *Proxy) Port() string { return portOf(p.Addr) }

// Cut lets no byte pass in either direction. What is sent meanwhile is lost with its
// connection, as in a network that swallows packets for longer than TCP waits.
func (p *Proxy) Cut() { p.cut.Store(true) }

// Heal ends the connections that were cut, and lets new ones pass.
func (p *Proxy) Heal() {
	p.cut.Store(false)
	p.drop() // what was taken in before, too
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.cut.Store(false)
	p.drop()
	p.running.Wait()
}

func (p *Proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(conn) })
	}
}

// serve joins a connection with one to the server. A cut network takes none further.
func (p *Proxy) serve(client net.Conn) {
	defer p.keep(client)()
	if p.cut.Load() {
		_, _ = io.Copy(io.Discard, client)
		return
	}
	server, err := net.DialTimeout("tcp", p.To, time.Second)
	if err != nil {
		return
	}
	defer p.keep(server)()
	var both sync.WaitGroup
	both.Go(func() { p.copy(server, client) })
	both.Go(func() { p.copy(client, server) })
	both.Wait()
}

// keep has drop close a connection, until the function that it returns has closed it.
func (p *Proxy) keep(conn net.Conn) (close func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, conn)
		_ = conn.Close()
	}
}

// copy passes bytes on, until it has had to swallow some: then all that follow are lost,
// too. At the end it closes both.
func (p *Proxy) copy(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 1<<15)
	for lost := false; ; {
		n, err := from.Read(buffer)
		lost = lost || p.cut.Load()
		if n > 0 && !lost {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
