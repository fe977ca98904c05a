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
	// doubt is for how long after a failure all Sentinels are asked at each dial.
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
// It is the innermost hook, and safe for concurrent use.
type latest struct {
	clients func() *sentinels
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	within  time.Duration // they must answer

	ctx  context.Context
	stop context.CancelFunc

	mu     sync.Mutex // held while they are asked
	ask    *sentinels // nil: not asked yet
	answer answer
	closed bool

	state   sync.Mutex
	until   time.Time           // doubt ends
	own     map[net.Conn]string // connections that were dialled here, and to which address
	looking sync.WaitGroup      // after them, while there are any
}

// An answer is that of all Sentinels.
type answer struct {
	master string
	err    error
	at     time.Time
}

func newLatest(o *redis.UniversalOptions) *latest {
	l := &latest{clients: func() *sentinels { return newSentinels(o) }, dial: o.Dialer, within: o.DialTimeout / 2, own: make(map[net.Conn]string)}
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
		return conn, err
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

func (l *latest) doubted() bool {
	l.state.Lock()
	defer l.state.Unlock()
	return time.Now().Before(l.until)
}

// reach dials a master, and has the connection looked after.
func (l *latest) reach(ctx context.Context, network, master string) (net.Conn, error) {
	conn, err := l.dial(ctx, network, master)
	l.note(err)
	if err != nil {
		return nil, err
	}
	return l.keep(conn, master), nil
}

// named asks all Sentinels for the master, unless there is an answer that is fresh.
func (l *latest) named(ctx context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return "", net.ErrClosed
	case time.Since(l.answer.at) < sameAnswer:
		return l.answer.master, l.answer.err
	case l.ask == nil:
		l.ask = l.clients()
	}
	ctx, cancel := context.WithTimeout(ctx, l.within)
	defer cancel()
	master, err := l.ask.latest(ctx)
	l.answer = answer{master, err, time.Now()}
	return master, err
}

// keep looks after a connection until it is closed: go-redis does not end it when the master
// changes, since the Sentinel that it listens to has not named this one.
func (l *latest) keep(conn net.Conn, master string) net.Conn {
	if socketOf(conn) == nil {
		conn = &tellingEnd{conn, l}
	}
	l.state.Lock()
	defer l.state.Unlock()
	if len(l.own) == 0 && l.ctx.Err() == nil {
		l.looking.Go(l.look)
	}
	l.own[conn] = master
	return conn
}

func (l *latest) forget(conn net.Conn) {
	l.state.Lock()
	defer l.state.Unlock()
	delete(l.own, conn)
}

// look ends connections to masters that are others than the Sentinels name, until there are
// no connections any more.
func (l *latest) look() {
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-ticker.C:
		}
		master, err := l.named(l.ctx)
		if l.end(func(conn net.Conn, of string) bool { return isClosed(conn) || err == nil && of != master }) {
			return
		}
	}
}

// end closes connections and forgets them, and reports whether that were all. It closes them
// last: the end of TLS is said to the other side, which may be silent.
func (l *latest) end(which func(conn net.Conn, of string) bool) (all bool) {
	var ended []net.Conn
	l.state.Lock()
	for conn, of := range l.own {
		if which(conn, of) {
			ended = append(ended, conn)
			delete(l.own, conn)
		}
	}
	all = len(l.own) == 0
	l.state.Unlock()
	for _, conn := range ended {
		_ = conn.Close()
	}
	return all
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
