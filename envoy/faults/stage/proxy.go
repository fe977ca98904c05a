package stage

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/internal/testtools"
)

// A proxy stands before one port of one process, and passes on what both sides say, until
// a rule has it conduct itself otherwise. It rewrites nothing: Redis announces the
// proxy's address as its own. Where its process is dead it refuses connections, as the
// port of a dead process does.
//
// (Shopify/toxiproxy, which is made for this, knows no source of a connection, so that it
// cannot part one client from another, and has a tree of its own.)
type proxy struct {
	addr, target string
	census       *census
	opened       atomic.Int64 // connections by Coatcheck

	mu      sync.Mutex
	random  *rand.Rand
	rules   []*rule // the last one decides
	changes uint64
	links   map[*link]struct{}
	door    door
	shut    int // reasons to refuse connections
	deaf    int // reasons to leave them unanswered
	over    bool
	working sync.WaitGroup
}

// newProxy listens until close, at an address of its own.
func newProxy(seed uint64, c *census) (*proxy, error) {
	addr, err := testtools.Addr()
	if err != nil {
		return nil, err
	}
	p := &proxy{
		addr: addr, census: c,
		random: rand.New(rand.NewPCG(seed, 0)), links: make(map[*link]struct{}),
	}
	return p, p.change(func() {})
}

// leadTo has new connections go on to an address.
func (p *proxy) leadTo(addr string) error { return p.change(func() { p.target = addr }) }

// to is where a connection goes on to.
func (p *proxy) to() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

// change changes how the proxy conducts itself, and has the door and all links obey.
func (p *proxy) change(by func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes++
	by()
	for l := range p.links {
		l.obey(p.toward(l))
	}
	return p.door.be(p.wanted(), p)
}

// add has a rule in force until the returned function is called.
func (p *proxy) add(r rule) (remove func() error, err error) {
	at := &r
	err = p.change(func() { at.made, p.rules = p.changes, append(p.rules, at) })
	return func() error {
		return p.change(func() { p.rules = slices.DeleteFunc(p.rules, func(other *rule) bool { return other == at }) })
	}, err
}

// refuse has new connections refused until the returned function is called.
func (p *proxy) refuse() (undo func() error, err error) {
	return func() error { return p.change(func() { p.shut-- }) }, p.change(func() { p.shut++ })
}

// ignore has new connections go unanswered, as where packets are dropped, until the
// returned function is called.
func (p *proxy) ignore() (undo func() error, err error) {
	return func() error { return p.change(func() { p.deaf-- }) }, p.change(func() { p.deaf++ })
}

// reset ends the connections of a source, without farewell.
func (p *proxy) reset(from source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if l.isFrom(from) {
			l.end(true)
		}
	}
}

// flows reports whether a source has a connection that passes all on.
func (p *proxy) flows(from source) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if l.isFrom(from) && p.toward(l) == (conduct{}) {
			return true
		}
	}
	return false
}

// close ends all connections, and waits for the end of all that works for them.
func (p *proxy) close() error {
	err := p.change(func() {
		p.over = true
		for l := range p.links {
			l.end(true)
		}
	})
	p.working.Wait()
	return err
}

func (p *proxy) wanted() doorState {
	switch {
	case p.over || p.shut > 0:
		return doorShut
	case p.deaf > 0:
		return doorDeaf
	}
	return doorOpen
}

// toward is the conduct toward a link.
func (p *proxy) toward(l *link) conduct {
	for _, r := range slices.Backward(p.rules) {
		if r.about(l) {
			return r.conduct
		}
	}
	return conduct{}
}

// serve takes what comes in by an open door.
func (p *proxy) serve(open net.Listener) {
	for {
		client, err := open.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // no descriptor is left
			time.Sleep(5 * time.Millisecond)
			continue
		}
		p.admit(client.(*net.TCPConn))
	}
}

func (p *proxy) admit(client *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wanted() != doorOpen {
		drop(client)
		return
	}
	l := newLink(p, client)
	if l.from == coatcheck {
		p.opened.Add(1)
	}
	l.made = p.changes
	l.obey(p.toward(l))
	p.links[l] = struct{}{}
	p.working.Go(func() {
		l.run()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, l)
	})
}

// drawn is a duration below limit.
func (p *proxy) drawn(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Duration(p.random.Int64N(int64(limit)))
}

// drop closes a connection so that its other side is told of an error.
func drop(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
