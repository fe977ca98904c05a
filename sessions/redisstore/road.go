package redisstore

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/internal/lane"
)

const (
	// roadPause is how far apart tries to open a lane are.
	roadPause = 100 * time.Millisecond
	// worth is after how many touches that go-redis has brought a lane is opened: few
	// are not worth a connection.
	worth = 32
)

// A road is the way of touches to one node, beside go-redis: a lane, while all is well.
// Where there is none, or it cannot tell, the touch goes by go-redis, and what Redis
// answers there opens a lane in the background: a node that is away, or that refuses
// PEXPIREAT, has none, and is seen as if there were no lanes at all.
type road struct {
	connect func() *redis.Client // one that sends nothing yet
	hooks   []redis.Hook         // of that
	ctx     context.Context
	stop    context.CancelFunc

	lane    atomic.Pointer[lane.Lane] // nil: none
	expires atomic.Int64              // when the lane is to be replaced, in Unix nanoseconds; 0: never
	next    atomic.Int64              // when one may be opened
	opening atomic.Bool
	brought atomic.Int32 // touches by go-redis, since there was a lane

	mu      sync.Mutex // of closed, against the end of an opening
	closed  bool
	running sync.WaitGroup
}

func newRoad(connect func() *redis.Client, hooks ...redis.Hook) *road {
	r := &road{connect: connect, hooks: hooks}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// simple connects to the server of a client.
func simple(client *redis.Client) func() *redis.Client {
	options := *client.Options()
	options.PoolSize, options.MinIdleConns, options.PipelinePoolSize = 1, 0, -1
	options.MaxRetries, options.DialerRetries = -1, 1
	return func() *redis.Client { return redis.NewClient(&options) }
}

// watched connects to the master that Sentinels name. go-redis, or [latest], closes the
// connection when they name another one: the former may live on and know of no revocation
// any more.
func watched(options redis.FailoverOptions) func() *redis.Client {
	options.PoolSize, options.MinIdleConns, options.PipelinePoolSize = 1, 0, -1
	options.MaxRetries, options.DialerRetries = -1, 1
	return func() *redis.Client { return redis.NewFailoverClient(&options) }
}

// touch is Touch by the lane, or lane.ErrAgain.
func (r *road) touch(ctx context.Context, now time.Time, key sessions.Key, until time.Time, names []string) (sessions.Record, time.Duration, error) {
	l := r.lane.Load()
	if l == nil {
		return nil, 0, lane.ErrAgain
	}
	if end := r.expires.Load(); end != 0 && now.UnixNano() > end {
		r.tryOpen(now)
	}
	record, left, err := l.Touch(ctx, key, until, names)
	if errors.Is(err, lane.ErrAgain) && !l.Open() {
		r.drop(l)
	}
	return record, left, err
}

// worked is called when go-redis has brought an answer.
func (r *road) worked(now time.Time) {
	if r.lane.Load() == nil && r.brought.Add(1) >= worth {
		r.tryOpen(now)
	}
}

// tryOpen is open, unless the last try is not long ago.
func (r *road) tryOpen(now time.Time) {
	if now.UnixNano() > r.next.Load() {
		r.open()
	}
}

// drop takes a lane away.
func (r *road) drop(l *lane.Lane) {
	if r.lane.CompareAndSwap(l, nil) {
		r.next.Store(time.Now().Add(roadPause).UnixNano())
	}
	l.Close()
}

// open makes a lane in the background, in the place of the one that is there.
func (r *road) open() {
	if !r.opening.CompareAndSwap(false, true) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.running.Go(func() {
		defer r.opening.Store(false)
		r.next.Store(time.Now().Add(roadPause).UnixNano())
		if conn, err := r.dial(); err == nil {
			r.put(conn)
		}
	})
}

// put makes a connection the lane.
func (r *road) put(conn *ownConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		_ = conn.Close()
		return
	}
	options := conn.client.Options()
	r.brought.Store(0)
	r.expires.Store(0)
	if end := replaceAt(options, time.Now()); !end.IsZero() {
		r.expires.Store(end.UnixNano())
	}
	timeout := options.ReadTimeout
	if timeout <= 0 {
		timeout = time.Second
	}
	if old := r.lane.Swap(lane.New(conn, timeout)); old != nil {
		old.Close()
	}
}

// replaceAt is when a connection that is made now is to be replaced; zero: never.
func replaceAt(o *redis.Options, now time.Time) time.Time {
	if o.ConnMaxLifetime <= 0 {
		return time.Time{}
	}
	spread := max(o.ConnMaxLifetimeJitter, 1)
	jitter := time.Duration(now.UnixNano()) % (2 * spread) // replicas do not start in the same nanosecond
	return now.Add(o.ConnMaxLifetime - spread + jitter)
}

// dial has go-redis connect and greet: it knows Sentinels, TLS, users, passwords that
// rotate, and the database. Its client keeps to that, and the connection is ours.
func (r *road) dial() (*ownConn, error) {
	own := &ownConn{client: r.connect()}
	own.client.AddHook(sound{})
	own.client.AddHook(own)
	for _, hook := range r.hooks {
		own.client.AddHook(hook)
	}
	ctx, cancel := context.WithTimeout(r.ctx, time.Second)
	defer cancel()
	// A connection of its own, which go-redis looks after no more. The command is one of
	// those that the lane needs, on a key that no session has.
	err := own.client.Conn().Process(ctx, redis.NewIntCmd(ctx, "pttl", probeKey))
	if _, moved := redis.IsMovedError(err); moved {
		err = nil // of a Cluster: another node has that key, and this one has greeted us
	}
	if err != nil || !own.take() {
		return nil, errors.Join(err, own.client.Close())
	}
	return own, nil
}

// An ownConn is a connection with the client that made it, of which it is a hook.
type ownConn struct {
	net.Conn
	client *redis.Client
	last   atomic.Pointer[net.Conn] // dialled
}

// take makes the connection that was dialled its own.
func (c *ownConn) take() bool {
	conn := c.last.Load()
	if conn != nil {
		c.Conn = *conn
	}
	return conn != nil
}

// Close closes the client, too, and what go-redis keeps for it.
func (c *ownConn) Close() error { return errors.Join(c.client.Close(), c.Conn.Close()) }

// DialHook notes what go-redis dials.
func (c *ownConn) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err == nil {
			c.last.Store(&conn)
		}
		return conn, err
	}
}

// ProcessHook changes nothing.
func (*ownConn) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook changes nothing.
func (*ownConn) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// close ends the lane, and what opens one.
func (r *road) close() {
	r.mu.Lock()
	r.closed = true
	if l := r.lane.Swap(nil); l != nil {
		l.Close()
	}
	r.mu.Unlock()
	r.stop()
	r.running.Wait()
}

// stats are how many connections of the road are idle and used.
func (r *road) stats() (idle, used uint32) {
	switch l := r.lane.Load(); {
	case l == nil:
	case l.Busy():
		used++
	default:
		idle++
	}
	return idle, used
}
