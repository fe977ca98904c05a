package nearcache

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/sessions"
)

// The defaults of a [Config].
const (
	DefaultLease      = time.Second
	DefaultMaxEntries = 100_000
	DefaultMaxBytes   = 64 << 20
)

// Config bounds a cache. The zero Config is ready.
type Config struct {
	// Lease is how long after its last sign of life the tracking connection is believed:
	// the longest for which a session that was revoked may be admitted. Zero:
	// [DefaultLease].
	Lease time.Duration
	// MaxEntries is how many sessions are kept. Zero: [DefaultMaxEntries].
	MaxEntries int
	// MaxBytes is how much memory they take, as [Cache] estimates it. Zero:
	// [DefaultMaxBytes].
	MaxBytes int
	// Metrics is where the metrics are registered. Nil: nowhere. Each cache needs one of
	// its own; New panics where another's are.
	Metrics prometheus.Registerer
	// Now is the clock, with its monotonic reading. Nil: time.Now. It is for tests.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	if c.Lease == 0 {
		c.Lease = DefaultLease
	}
	if c.MaxEntries == 0 {
		c.MaxEntries = DefaultMaxEntries
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// The limits of a [Config].
const (
	MinLease   = 100 * time.Millisecond
	MaxLease   = time.Minute
	MinEntries = 1000
	MinBytes   = 1 << 20
)

// Validate names every value that no cache can work by.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if c.Lease < MinLease || c.Lease > MaxLease {
		errs = append(errs, fmt.Errorf("lease %v is not between %v and %v", c.Lease, MinLease, MaxLease))
	}
	if c.MaxEntries < MinEntries {
		errs = append(errs, fmt.Errorf("%d entries are under %d", c.MaxEntries, MinEntries))
	}
	if c.MaxBytes < MinBytes {
		errs = append(errs, fmt.Errorf("%d bytes are under %d", c.MaxBytes, MinBytes))
	}
	return errors.Join(errs...)
}

// A Cache holds sessions as they were read, for as long as it hears of every change.
// It is safe for concurrent use. It holds nothing and admits nothing before [Cache.Alive]
// was called.
type Cache struct {
	config Config
	base   time.Time // what moments count from
	lease  lease
	// generation grows with each flush. What was read in one is kept in no other.
	generation atomic.Uint64
	count      atomic.Int64 // entries
	bytes      atomic.Int64
	shards     [shardCount]shard
	queue      chan task
	metrics    metrics
}

// New returns an empty cache, or what is wrong with config. It leaves nothing running.
func New(config Config) (*Cache, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &Cache{config: config.withDefaults(), queue: make(chan task, queueLength)}
	c.base = c.config.Now()
	c.lease.end()
	for i := range c.shards {
		c.shards[i].clear()
	}
	if config.Metrics != nil {
		config.Metrics.MustRegister(collector{c})
	}
	return c, nil
}

// A moment is a time by both clocks. Elapsed does not count for how long a machine was
// suspended, and the time of day may be set: together they never let a lease last longer
// than it should.
type moment struct{ elapsed, day int64 } // nanoseconds

func (c *Cache) moment(t time.Time) moment { return moment{int64(t.Sub(c.base)), t.UnixNano()} }

func (c *Cache) now() moment { return c.moment(c.config.Now()) }

// A lease says until when tracking is believed.
type lease struct{ elapsed, day atomic.Int64 }

func (l *lease) holds(now moment) bool {
	return now.elapsed < l.elapsed.Load() && now.day < l.day.Load()
}

func (l *lease) end() { l.elapsed.Store(-1 << 62) }

// Alive says that every change was heard of until sent: then a question was sent on the
// tracking connection that has been answered since. It begins or renews the lease, which
// counts from sent and not from the answer. If the lease was over, the entries go first.
// One goroutine at a time calls Alive and Flush.
func (c *Cache) Alive(sent time.Time) {
	if c.lease.elapsed.Load() >= 0 && !c.lease.holds(c.now()) {
		c.Flush(Silent)
	}
	at := c.moment(sent)
	c.lease.day.Store(at.day + int64(c.config.Lease))
	c.lease.elapsed.Store(at.elapsed + int64(c.config.Lease))
}

// Why a cache was flushed.
const (
	Lost    = "lost"    // the tracking connection broke
	Silent  = "silent"  // it said nothing for the lease
	Flushed = "flushed" // Redis was emptied
	Moved   = "moved"   // another master, or other ones, have the records
)

// Flush ends the lease, and forgets every entry and every read that is under way. The
// reason is one of those above.
func (c *Cache) Flush(why string) {
	c.lease.end()
	c.generation.Add(1)
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		count, bytes := len(s.entries), s.bytes
		s.clear()
		s.mu.Unlock()
		c.count.Add(-int64(count))
		c.bytes.Add(-bytes)
	}
	c.metrics.flushed(why)
}

// Invalidate says that the record of key has changed, or is gone. An entry that was used
// is read again in the background.
func (c *Cache) Invalidate(key sessions.Key) {
	c.metrics.invalidations.Add(1)
	sum, ok := key.Sum()
	if !ok {
		return
	}
	if e := c.forget(sum); e != nil && e.used {
		c.enqueue(task{sum: sum, fields: e.fields})
	}
}

// forget drops what is held of a key, and what is being read. It returns the entry that
// there was.
func (c *Cache) forget(sum sum) *entry {
	s := c.shard(sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes[sum.slot()]++
	delete(s.unknown, sum)
	e := s.entries[sum]
	if e != nil {
		c.remove(s, sum, e)
	}
	return e
}

// remove is called with the lock of the shard.
func (c *Cache) remove(s *shard, sum sum, e *entry) {
	delete(s.entries, sum)
	s.bytes -= e.size
	c.count.Add(-1)
	c.bytes.Add(-e.size)
}

// A reservation is made before a record is read. What was read is kept only if no change
// of the key, and no flush, was heard of since.
type reservation struct {
	sum        sum
	generation uint64
	changes    uint32
	at         moment
}

// reserve reports whether what is read from now on may be kept at all.
func (c *Cache) reserve(sum sum) (reservation, bool) {
	r := reservation{sum: sum, generation: c.generation.Load(), at: c.now()}
	s := c.shard(sum)
	s.mu.Lock()
	r.changes = s.changes[sum.slot()]
	s.mu.Unlock()
	return r, c.lease.holds(r.at)
}

// stands is called with the lock of the shard.
func (c *Cache) stands(s *shard, r reservation) bool {
	return r.generation == c.generation.Load() && r.changes == s.changes[r.sum.slot()]
}

// keep keeps a session that was read, if the reservation stands. It ends after left,
// counted from the reservation, and is to be slid from due on, also by others: from late
// on it is no longer answered from here.
func (c *Cache) keep(r reservation, session *sessions.Session, fields []string, left, due, late time.Duration) {
	e := newEntry(session, fields)
	e.end = r.at.elapsed + int64(min(left, late))
	e.due = r.at.elapsed + int64(due)
	e.last = r.at.elapsed // it was read because it is used
	s := c.shard(r.sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.stands(s, r) {
		return
	}
	if old := s.entries[r.sum]; old != nil {
		c.remove(s, r.sum, old)
	}
	delete(s.unknown, r.sum)
	count, bytes := c.count.Add(1), c.bytes.Add(e.size)
	s.entries[r.sum], s.bytes = e, s.bytes+e.size
	for count > int64(c.config.MaxEntries) || bytes > int64(c.config.MaxBytes) {
		sum, victim := s.victim(r.sum)
		c.remove(s, sum, victim)
		c.metrics.evictions.Add(1)
		if victim == e {
			return
		}
		count, bytes = c.count.Load(), c.bytes.Load()
	}
}

// keepUnknown remembers for a moment that a key names nothing.
func (c *Cache) keepUnknown(r reservation) {
	s := c.shard(r.sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.stands(s, r) {
		return
	}
	s.changes[r.sum.slot()]++ // reads that began before may have seen it, and are older
	if len(s.unknown) >= maxUnknown/shardCount {
		for other := range s.unknown { // any: they last a moment only
			delete(s.unknown, other)
			break
		}
	}
	if e := s.entries[r.sum]; e != nil {
		c.remove(s, r.sum, e)
	}
	s.unknown[r.sum] = r.at.elapsed + int64(unknownFor)
}

// get looks for a session with the named fields. slide says that the caller should have
// it slid, and is said once. What it does not find is counted if the caller asks the
// store now: one that only peeks looks again before.
func (c *Cache) get(sum sum, fields []string, live func(*sessions.Session) bool, asks bool) (session *sessions.Session, found result, slide bool) {
	now := c.now()
	s := c.shard(sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	session, found, slide = c.look(s, sum, fields, now, live)
	if asks || found == hit || found == unknown {
		s.results[found]++
	}
	return session, found, slide
}

func (c *Cache) look(s *shard, sum sum, fields []string, now moment, live func(*sessions.Session) bool) (*sessions.Session, result, bool) {
	if !c.lease.holds(now) {
		return nil, off, false
	}
	e := s.entries[sum]
	switch {
	case e == nil:
		if end, ok := s.unknown[sum]; ok && now.elapsed < end {
			return nil, unknown, false
		}
		return nil, absent, false
	case now.elapsed >= e.end || !live(&e.session):
		return nil, ended, false
	case !e.has(fields):
		return nil, otherFields, false
	}
	e.used = true
	e.last = now.elapsed
	slide := now.elapsed >= e.due && !e.sliding
	e.sliding = e.sliding || slide
	return &e.session, hit, slide
}

// fieldsOf are the fields that an entry has beside others.
func (c *Cache) fieldsOf(sum sum) []string {
	s := c.shard(sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[sum]; e != nil {
		return e.fields
	}
	return nil
}

// postpone lets an entry be slid later: it could not be now.
func (c *Cache) postpone(sum sum, pause time.Duration) {
	now := c.now()
	s := c.shard(sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.entries[sum]; e != nil {
		e.due, e.sliding = now.elapsed+int64(pause), false
	}
}
