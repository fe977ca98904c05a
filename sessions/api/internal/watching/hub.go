package watching

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/sessions"
)

// A Source reads how long sessions live on: *[sessions.Manager] is one.
type Source interface {
	Lifetimes(ctx context.Context, keys ...sessions.Key) ([]sessions.Lifetime, error)
}

// The defaults and the bounds of a [Config].
const (
	DefaultMaxSessions = 200_000
	DefaultPatience    = 5 * time.Second
	DefaultLease       = time.Second

	// MaxPerStream is how many names a stream may have.
	MaxPerStream = 10_000
	// MaxStreams is how many streams there may be at once. A caller may have half of them.
	MaxStreams = 2000

	minPatience = 100 * time.Millisecond
)

// Config bounds a hub. The zero Config is ready.
type Config struct {
	// MaxSessions is how many names all streams may have together, about 200 bytes each. A
	// caller may have half of them. Zero: [DefaultMaxSessions].
	MaxSessions int
	// Patience is how long a session may be in doubt: its streams end then. Zero:
	// [DefaultPatience].
	Patience time.Duration
	// Lease is how long the tracking connection may say nothing. Zero: [DefaultLease].
	Lease time.Duration
	// Metrics is where the metrics are registered. Nil: nowhere.
	Metrics prometheus.Registerer
}

func (c Config) withDefaults() Config {
	if c.MaxSessions == 0 {
		c.MaxSessions = DefaultMaxSessions
	}
	if c.Patience == 0 {
		c.Patience = DefaultPatience
	}
	if c.Lease == 0 {
		c.Lease = DefaultLease
	}
	return c
}

// Validate names every value that no hub can work by.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.MaxSessions < MaxPerStream {
		errs = append(errs, fmt.Errorf("%d sessions are under the %d that one stream may have", c.MaxSessions, MaxPerStream))
	}
	if c.Patience < minPatience {
		errs = append(errs, fmt.Errorf("patience %v is under %v", c.Patience, minPatience))
	}
	if c.Lease <= 0 {
		errs = append(errs, fmt.Errorf("lease %v is not positive", c.Lease))
	}
	return errors.Join(errs...)
}

// A Hub watches sessions for its streams. It is safe for concurrent use. It is a Listener
// of sessions/redisstore.
type Hub struct {
	source Source
	config Config
	base   time.Time // what moments count from
	wake   chan struct{}
	rearm  chan struct{}

	mu       sync.Mutex
	sessions map[sum]*watched
	timers   timers
	queue    list   // to be read at once
	later    list   // to be read again because changes may be missed, nearly in the order of their doubt
	overdue  moment // the patience with a session of a list ends no sooner
	tracked  bool   // changes are told
	spell    uint32 // of tracking: how often it has begun
	alive    time.Time
	timer    moment // when keepTime looks next
	names    int
	owners   map[string]share // of callers
	streams  map[*Stream]struct{}
	over     bool // Run has returned
	metrics  metrics
}

// A share is what a caller has of a hub.
type share struct{ names, streams int }

// New returns a hub without streams, or what is wrong with config. It does nothing before
// [Hub.Run].
func New(source Source, config Config) (*Hub, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	h := &Hub{
		source: source, config: config.withDefaults(), base: time.Now(),
		wake: make(chan struct{}, 1), rearm: make(chan struct{}, 1),
		sessions: make(map[sum]*watched), owners: make(map[string]share), streams: make(map[*Stream]struct{}),
		metrics: metrics{ends: make(map[Reason]uint64)},
	}
	if config.Metrics != nil {
		if err := config.Metrics.Register(collector{h}); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Idle reports whether the hub has no stream.
func (h *Hub) Idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams) == 0 && h.names == 0 && len(h.sessions) == 0
}

// Lease is how long the tracking connection may say nothing.
func (h *Hub) Lease() time.Duration { return h.config.Lease }

// Run reads sessions until ctx is done. Then every stream ends with [ErrUnavailable].
func (h *Hub) Run(ctx context.Context) {
	var running sync.WaitGroup
	for range readers {
		running.Go(func() { h.read(ctx) })
	}
	running.Go(func() { h.keepTime(ctx) })
	running.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	for s := range h.streams {
		h.cut(s)
	}
}

// A moment is a time since the base of a hub, by the monotonic clock.
type moment int64

func (h *Hub) now() moment { return moment(time.Since(h.base)) }

// Invalidate says that the record of key has changed, or is gone.
func (h *Hub) Invalidate(key sessions.Key) {
	sum, ok := key.Sum()
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.sessions[sum]; w != nil {
		h.metrics.changes++
		h.doubt(w, h.now())
	}
}

// Alive says that every change was told until sent. Where changes may have been missed
// before, all sessions are read.
func (h *Hub) Alive(sent time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tracked && h.lapsed() {
		h.lose()
	}
	h.alive = sent
	if h.tracked {
		return
	}
	h.tracked = true
	h.spell++ // what is being read may have changed before
	for h.later.first != nil {
		h.doubt(h.later.first, h.now())
	}
}

// Flush says that changes may be missed from now on, until the next Alive.
func (h *Hub) Flush(string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lose()
}

// lapsed reports whether the tracking connection has said nothing for too long, by either
// clock: the monotonic one stands still while a machine is suspended. A loss is told
// before that, unless this process was stopped.
func (h *Hub) lapsed() bool {
	limit := 2 * h.config.Lease
	return time.Since(h.alive) > limit || time.Now().Round(0).Sub(h.alive.Round(0)) > limit
}

// lose puts every session in doubt that was in none.
func (h *Hub) lose() {
	if !h.tracked {
		return
	}
	h.tracked = false
	h.metrics.losses++
	now := h.now()
	for _, w := range h.sessions {
		if w.state == idle {
			w.doubt = now
			h.enter(w, &h.later, waiting)
		}
	}
}

// doubt has a session read that may have ended since a moment. One that is being read is
// read again.
func (h *Hub) doubt(w *watched, since moment) {
	switch w.state {
	case idle:
		w.doubt = since
	case waiting:
		h.later.remove(w)
	case reading:
		if !w.changed {
			w.changed, w.doubtNext = true, since
		}
		return
	case queued:
		return
	}
	h.enter(w, &h.queue, queued)
	h.signal()
}

// signal wakes a goroutine that reads.
func (h *Hub) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}
