package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// doubt is for how long after a failure all Sentinels are asked at each dial, and for how
	// long an epoch counts that no Sentinel tells any more.
	doubt = 10 * time.Second
	// sameAnswer is for how long their answer serves other dials.
	sameAnswer = 50 * time.Millisecond
	// lookAgain is how far apart the questions are whether the master of connections that
	// go-redis does not watch is the same.
	lookAgain = 250 * time.Millisecond
)

// latest is a hook of clients behind Sentinels. go-redis asks one Sentinel for the master and
// believes it for as long as it answers: one that the others do not reach names a dead master
// for ever, and the last one to hear of a new master names it up to two seconds later. So
// after a failure all of them are asked, and the master is the one with the highest epoch,
// which is the word that Sentinels themselves go by (config-epoch of SENTINEL MASTER). Where
// no more than half of them answer, it is the one that go-redis is told.
//
// A connection to another master than a higher epoch names is ended, as go-redis does when
// its Sentinel names another one: the former may live on and know of no revocation any more.
// So connections are known here whichever way they were dialled.
//
// It is the innermost of this package's hooks, and safe for concurrent use.
type latest struct {
	clients func() *sentinels
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	within  time.Duration // they must answer

	ctx  context.Context
	stop context.CancelFunc

	mu       sync.Mutex // held while they are asked
	ask      *sentinels // nil: not asked yet
	believed word       // the last one of the highest epoch
	told     time.Time  // when it was told last
	asked    time.Time
	err      error // of the last answer
	closed   bool

	state   sync.Mutex
	until   time.Time // doubt ends
	conns   map[net.Conn]dialled
	looks   bool           // look runs
	looking sync.WaitGroup // for it
}

// A dialled connection is one to an address.
type dialled struct {
	addr string
	own  bool // in doubt, so that go-redis does not end it when the master changes
}

func newLatest(o *redis.UniversalOptions) *latest {
	l := &latest{clients: func() *sentinels { return newSentinels(o) }, dial: o.Dialer, within: o.DialTimeout / 2, conns: make(map[net.Conn]dialled)}
	if l.dial == nil {
		l.dial = redis.NewDialer(o.Simple())
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	return l
}

// DialHook dials the master that go-redis was told, or, in doubt, the one that all Sentinels
// agree on.
func (l *latest) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if l.doubted() {
			if master, err := l.named(ctx); err == nil {
				return l.reach(ctx, network, master)
			}
		}
		conn, err := next(ctx, network, addr)
		l.note(err)
		if err != nil {
			return nil, err
		}
		return l.keep(conn, dialled{addr: conn.RemoteAddr().String()}), nil
	}
}

// ProcessHook notes failures: a master that is silent takes connections all the same, and one
// that is a replica now refuses writes alone.
func (l *latest) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		l.note(err)
		return err
	}
}

// ProcessPipelineHook is as ProcessHook.
func (l *latest) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		l.note(err)
		return err
	}
}

// note has doubt begin with a failure.
func (l *latest) note(err error) {
	if err == nil || errors.Is(err, redis.Nil) || errors.Is(err, context.Canceled) {
		return
	}
	l.state.Lock()
	defer l.state.Unlock()
	l.until = time.Now().Add(doubt)
}

// doubted also holds while there are connections that were made in doubt: what go-redis is told
// may be as wrong as before.
func (l *latest) doubted() bool {
	l.state.Lock()
	defer l.state.Unlock()
	return l.looks || time.Now().Before(l.until)
}

// reach dials a master, and has the connection looked after.
func (l *latest) reach(ctx context.Context, network, master string) (net.Conn, error) {
	conn, err := l.dial(ctx, network, master)
	l.note(err)
	if err != nil {
		return nil, err
	}
	return l.keep(conn, dialled{master, true}), nil
}

// named asks all Sentinels for the master, unless there is an answer that is fresh.
func (l *latest) named(ctx context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return "", net.ErrClosed
	case time.Since(l.asked) < sameAnswer:
		return l.believed.addr, l.err
	case l.ask == nil:
		l.ask = l.clients()
	}
	ctx, cancel := context.WithTimeout(ctx, l.within)
	defer cancel()
	answer, err := l.ask.latest(ctx)
	l.asked, l.err = time.Now(), err
	if err != nil {
		return "", err
	}
	l.believe(answer)
	return l.believed.addr, nil
}

// believe takes an answer, unless a higher epoch was told not long ago, by a Sentinel that was
// late this time. Of one epoch the first address counts: another is another spelling.
func (l *latest) believe(answer word) {
	if answer.epoch <= l.believed.epoch && l.believed.addr != "" && l.asked.Sub(l.told) < doubt {
		if answer.epoch == l.believed.epoch {
			l.told = l.asked
		}
		return
	}
	changed := answer != l.believed
	l.believed, l.told = answer, l.asked
	if changed {
		l.end(func(_ net.Conn, of dialled) bool { return of.addr != answer.addr })
	}
}

// keep knows a connection until it is closed.
func (l *latest) keep(conn net.Conn, of dialled) net.Conn {
	if socketOf(conn) == nil {
		conn = &tellingEnd{conn, l}
	}
	l.end(func(conn net.Conn, _ dialled) bool { return isClosed(conn) })
	l.state.Lock()
	defer l.state.Unlock()
	l.conns[conn] = of
	if of.own && !l.looks && l.ctx.Err() == nil {
		l.looks = true
		l.looking.Go(l.look)
	}
	return conn
}

func (l *latest) forget(conn net.Conn) {
	l.state.Lock()
	defer l.state.Unlock()
	delete(l.conns, conn)
}

// look asks for the master until there are no connections any more that were made in doubt.
func (l *latest) look() {
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for l.needsLook() {
		select {
		case <-l.ctx.Done():
			return
		case <-ticker.C:
		}
		_, _ = l.named(l.ctx) // which ends those to another one
		l.end(func(conn net.Conn, _ dialled) bool { return isClosed(conn) })
	}
}

// needsLook reports whether there are such connections; if not, look is about to end.
func (l *latest) needsLook() bool {
	l.state.Lock()
	defer l.state.Unlock()
	l.looks = false
	for _, of := range l.conns {
		l.looks = l.looks || of.own
	}
	return l.looks
}

// end closes connections and forgets them. It closes them last: the end of TLS is said to the
// other side, which may be silent.
func (l *latest) end(which func(conn net.Conn, of dialled) bool) {
	var ended []net.Conn
	l.state.Lock()
	for conn, of := range l.conns {
		if which(conn, of) {
			ended = append(ended, conn)
			delete(l.conns, conn)
		}
	}
	l.state.Unlock()
	for _, conn := range ended {
		_ = conn.Close()
	}
}

// isClosed reports whether this side has closed a connection.
func isClosed(conn net.Conn) bool {
	socket := socketOf(conn)
	if socket == nil {
		return false // it tells its end
	}
	raw, err := socket.SyscallConn()
	return err != nil || raw.Control(func(uintptr) {}) != nil
}

// socketOf is nil for a connection of a Dialer that hides its socket.
func socketOf(conn net.Conn) syscall.Conn {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	socket, _ := conn.(syscall.Conn)
	return socket
}

// tellingEnd is a connection without a socket to look at.
type tellingEnd struct {
	net.Conn
	of *latest
}

func (c *tellingEnd) Close() error {
	c.of.forget(c)
	return c.Conn.Close()
}

// close ends the questions. The connections are the client's.
func (l *latest) close() {
	l.state.Lock()
	l.stop() // nothing is looked after from now on
	l.state.Unlock()
	l.looking.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.ask != nil {
		l.ask.close()
	}
}
