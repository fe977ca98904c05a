package stage

import (
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// A link is one connection through a proxy.
type link struct {
	proxy   *proxy
	client  *net.TCPConn
	from    source
	made    uint64 // when, in changes of the proxy's
	replica func() source
	over    chan struct{}

	mu      sync.Mutex
	now     conduct
	changed chan struct{} // closed when now changes
	server  *net.TCPConn  // nil: not dialled yet
	torn    bool          // bytes were dropped
	ended   bool
}

func newLink(p *proxy, client *net.TCPConn) *link {
	from := p.census.source(client.RemoteAddr())
	return &link{
		proxy: p, client: client, from: from,
		replica: sync.OnceValue(func() source { return p.census.replica(client) }),
		over:    make(chan struct{}), changed: make(chan struct{}),
	}
}

// isFrom asks which replica has opened it only where that matters: the answer takes a
// millisecond.
func (l *link) isFrom(s source) bool {
	return l.from == s || l.from == coatcheck && strings.HasPrefix(string(s), string(coatcheck)) && l.replica() == s
}

// obey has the link conduct itself so from now on.
func (l *link) obey(c conduct) {
	l.mu.Lock()
	heals := l.torn && !c.dropUp && !c.dropDown
	if c != l.now {
		l.now = c
		close(l.changed)
		l.changed = make(chan struct{})
	}
	l.mu.Unlock()
	if heals {
		l.end(true)
	}
}

// end closes both sides; abruptly, each is told of an error.
func (l *link) end(abruptly bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	close(l.over)
	for _, c := range []*net.TCPConn{l.client, l.server} {
		switch {
		case c == nil:
		case abruptly:
			drop(c)
		default:
			_ = c.Close()
		}
	}
}

// run dials, and carries until one side ends.
func (l *link) run() {
	defer l.end(true)
	if _, ok := l.may(true); !ok {
		return
	}
	conn, err := net.DialTimeout("tcp", l.proxy.to(), time.Second)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		drop(server)
		return
	}
	l.server = server
	l.mu.Unlock()
	var streams sync.WaitGroup
	defer streams.Wait()
	streams.Go((&stream{link: l, from: l.client, to: server, up: true}).run)
	streams.Go((&stream{link: l, from: server, to: l.client}).run)
}

// may waits while the way is held, and returns the conduct then. It reports false when
// the link has ended.
func (l *link) may(up bool) (conduct, bool) {
	for {
		l.mu.Lock()
		now, changed, ended := l.now, l.changed, l.ended
		if now.drops(up) {
			l.torn = true
		}
		l.mu.Unlock()
		if ended || !now.holds(up) {
			return now, !ended
		}
		select {
		case <-changed:
		case <-l.over:
		}
	}
}

// wait reports false when the link ends sooner.
func (l *link) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.over:
		return false
	}
}

// A stream is one of the two ways of a link.
type stream struct {
	link     *link
	from, to *net.TCPConn
	up       bool        // toward the server
	late     chan *piece // what was delayed; nil: nothing ever was
	sent     sync.WaitGroup
}

// A piece is bytes that arrive at a time.
type piece struct {
	bytes []byte
	due   time.Time
}

func (s *stream) run() {
	buffer := make([]byte, 32<<10)
	var err error
	for err == nil {
		var n int
		n, err = s.from.Read(buffer)
		if n > 0 && !s.carry(buffer[:n]) {
			err = net.ErrClosed
		}
	}
	if s.late != nil {
		close(s.late)
		s.sent.Wait()
	}
	s.farewell()
	s.link.end(!errors.Is(err, io.EOF))
}

// farewell waits until the end of one side may be seen by the other.
func (s *stream) farewell() {
	for {
		now, ok := s.link.may(s.up)
		if !ok || !now.drops(s.up) {
			return
		}
		s.link.wait(10 * time.Millisecond)
	}
}

// carry reports whether the link goes on.
func (s *stream) carry(bytes []byte) bool {
	now, ok := s.link.may(s.up)
	delay, jitter := now.late(s.up)
	switch {
	case !ok:
		return false
	case now.drops(s.up):
		return true
	case now.rate > 0 && !s.link.wait(time.Duration(len(bytes))*time.Second/time.Duration(now.rate)):
		return false
	case s.late == nil && delay+jitter == 0:
		_, err := s.to.Write(bytes)
		return err == nil
	}
	if s.late == nil { // from now on all goes this way, so that none overtakes another
		s.late = make(chan *piece, 1024)
		s.sent.Go(s.send)
	}
	due := time.Now().Add(delay + s.link.proxy.drawn(jitter))
	select {
	case s.late <- &piece{slices.Clone(bytes), due}:
		return true
	case <-s.link.over:
		return false
	}
}

// send writes what was delayed, when it is due.
func (s *stream) send() {
	for p := range s.late {
		if !s.link.wait(time.Until(p.due)) {
			continue
		}
		now, ok := s.link.may(s.up)
		if !ok || now.drops(s.up) {
			continue
		}
		if _, err := s.to.Write(p.bytes); err != nil {
			s.link.end(true)
		}
	}
}
