package nearcache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2" //nolint:depguard // a model that can be repeated by its seed
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// A model is a store whose messages are under way for any time, in their order, and one
// cache that hears of them. Each change of a record makes another version of it.
type model struct {
	t       *testing.T
	rand    *rand.Rand
	now     time.Time
	cache   *Cache
	slow    bool // messages take long
	keys    []sum
	version []int
	since   []map[int]time.Time // when a version was replaced, and by that gone
	heard   []int               // the least version that may still be answered
	wire    []message
	reads   []read
	hits    int
}

// A message is a change of a key, or the answer to a question that was sent at a time.
type message struct {
	key, version int
	sent         time.Time
}

// A read was reserved, and maybe answered.
type read struct {
	key, version int // -1: not answered
	reserved     reservation
	ok           bool
	end          time.Time // the record's
}

const modelLease = time.Second

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0), slow: seed%2 == 1}
	var err error
	if m.cache, err = New(Config{Lease: modelLease, Now: func() time.Time { return m.now }}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		m.keys = append(m.keys, sum(sessions.NewID().Sum()))
		m.version = append(m.version, 1)
		m.since = append(m.since, map[int]time.Time{})
		m.heard = append(m.heard, 0)
	}
	return m
}

func (m *model) step() {
	key := m.rand.IntN(len(m.keys))
	switch m.rand.IntN(14) {
	case 0, 1:
		r := read{key: key, version: -1}
		r.reserved, r.ok = m.cache.reserve(m.keys[key])
		m.reads = append(m.reads, r)
	case 2, 3: // the store answers one
		if i := m.pick(); i >= 0 && m.reads[i].version < 0 {
			m.reads[i].version, m.reads[i].end = m.version[m.reads[i].key], m.now.Add(time.Duration(m.rand.IntN(6000))*time.Millisecond)
		}
	case 4, 5, 6: // the answer arrives
		m.arrive()
	case 7: // a change, such as a revocation
		m.since[key][m.version[key]] = m.now
		m.version[key]++
		m.wire = append(m.wire, message{key: key, version: m.version[key]})
	case 8: // one of this process
		m.cache.forget(m.keys[key])
		m.since[key][m.version[key]] = m.now
		m.version[key]++
		m.wire = append(m.wire, message{key: key, version: m.version[key]})
		m.cache.forget(m.keys[key])
		m.heard[key] = m.version[key]
	case 9: // a question, which the store answers behind all changes
		m.wire = append(m.wire, message{key: -1, sent: m.now})
	case 10, 11:
		if m.slow && m.rand.IntN(3) > 0 {
			m.now = m.now.Add(time.Duration(m.rand.IntN(200)) * time.Millisecond)
			break
		}
		m.deliver()
	case 12:
		m.now = m.now.Add(time.Duration(m.rand.IntN(300)) * time.Millisecond)
	case 13:
		if m.rand.IntN(4) == 0 { // what is under way is lost, and then tracking begins anew
			m.wire = nil
			m.cache.Flush(Lost)
			copy(m.heard, m.version)
		}
	}
	m.look()
}

func (m *model) pick() int {
	if len(m.reads) == 0 {
		return -1
	}
	return m.rand.IntN(len(m.reads))
}

func (m *model) arrive() {
	i := m.pick()
	if i < 0 || m.reads[i].version < 0 {
		return
	}
	r := m.reads[i]
	m.reads = append(m.reads[:i], m.reads[i+1:]...)
	if !r.ok {
		return
	}
	s := &sessions.Session{Key: sessions.KeyOf(m.keys[r.key]), UserID: strconv.Itoa(r.version)}
	left := r.end.Sub(m.cache.base.Add(time.Duration(r.reserved.at.elapsed)))
	m.cache.keep(r.reserved, s, nil, left, time.Hour, 2*time.Hour)
}

func (m *model) deliver() {
	if len(m.wire) == 0 {
		return
	}
	next := m.wire[0]
	m.wire = m.wire[1:]
	if next.key < 0 {
		m.cache.Alive(next.sent)
		return
	}
	m.cache.Invalidate(sessions.KeyOf(m.keys[next.key]))
	m.heard[next.key] = max(m.heard[next.key], next.version)
}

// look asks for every key, and holds each hit to what is promised.
func (m *model) look() {
	for key, sum := range m.keys {
		session, found, _ := m.cache.get(sum, nil, func(*sessions.Session) bool { return true }, true)
		if found != hit {
			continue
		}
		m.hits++
		version, _ := strconv.Atoi(session.UserID)
		replaced, old := m.since[key][version]
		switch {
		case version < m.heard[key]:
			m.t.Fatalf("a version that was heard to be gone")
		case old && m.now.Sub(replaced) >= modelLease:
			m.t.Fatalf("a version that is gone for %v", m.now.Sub(replaced))
		}
	}
}

// TestModel follows random orders of reads, changes, messages and losses.
func TestModel(t *testing.T) {
	runs := 300
	if os.Getenv("COATCHECK_FULL") == "1" {
		runs = 20_000
	}
	hits := 0
	for seed := range runs {
		m := newModel(t, uint64(seed))
		for range 400 {
			m.step()
		}
		hits += m.hits
	}
	t.Logf("%d runs, %d hits", runs, hits)
	if hits < runs {
		t.Errorf("only %d hits: the model proves nothing", hits)
	}
}

// A fixture is a cache with a lease and a clock, over sessions that the test makes.
type fixture struct {
	now   time.Time
	cache *Cache
	*Sessions
	fetches []sessions.Fetch
	answer  func(key sessions.Key, f sessions.Fetch) (*sessions.Session, time.Duration, error)
	over    bool
	held    error // of what is missing; nil: it is not found
}

func (f *fixture) Missing(err error) error {
	if f.held != nil {
		return f.held
	}
	return err
}

func (f *fixture) Fetch(_ context.Context, key sessions.Key, how sessions.Fetch) (*sessions.Session, time.Duration, error) {
	f.fetches = append(f.fetches, how)
	return f.answer(key, how)
}
func (f *fixture) Unexpired(*sessions.Session) bool { return !f.over }
func (f *fixture) Config() sessions.Config {
	return sessions.Config{IdleTimeout: 30 * time.Minute, IdleStep: time.Minute}
}

func newFixture(t testing.TB, c Config) *fixture {
	t.Helper()
	f := &fixture{now: time.Now()}
	c.Now = func() time.Time { return f.now }
	var err error
	if f.cache, err = New(c); err != nil {
		t.Fatal(err)
	}
	f.answer = func(key sessions.Key, how sessions.Fetch) (*sessions.Session, time.Duration, error) {
		s := &sessions.Session{Key: key, UserID: "42", Username: "ada", Roles: []string{"admin", "billing", "staff", "support", "ops"}, ExpiresAt: f.now.Add(time.Hour)}
		for _, name := range how.Fields {
			if s.Fields == nil {
				s.Fields = map[string]string{}
			}
			s.Fields[name] = "value of " + name
		}
		return s, 30*time.Minute + 30*time.Second, nil
	}
	f.Sessions = f.cache.Sessions(f)
	f.cache.Alive(f.now)
	return f
}

func (f *fixture) pass(d time.Duration) {
	f.now = f.now.Add(d)
	f.cache.Alive(f.now.Add(-time.Millisecond)) // before it lapses, if d is below the lease
}

// later lets time pass in which the lease is renewed.
func (f *fixture) later(d time.Duration) {
	for end := f.now.Add(d); f.now.Before(end); {
		f.pass(min(500*time.Millisecond, end.Sub(f.now)))
	}
}

func (f *fixture) has(id sessions.ID) bool {
	_, ok, _ := f.Peek(id, nil)
	return ok
}

func (f *fixture) touch(t testing.TB, id sessions.ID, fields ...string) *sessions.Session {
	t.Helper()
	s, err := f.Touch(t.Context(), id, fields...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLease(t *testing.T) {
	f, id := newFixture(t, Config{}), sessions.NewID()
	f.touch(t, id)
	f.now = f.now.Add(DefaultLease - 1)
	if !f.has(id) {
		t.Error("no hit within the lease")
	}
	f.now = f.now.Add(1)
	if f.has(id) {
		t.Error("a hit after the lease")
	}
	f.cache.Alive(f.now)
	if f.has(id) {
		t.Error("an entry of before the lease was over")
	}
	// A machine that was suspended: elapsed time stands still, the time of day does not.
	f.touch(t, id)
	f.cache.lease.day.Store(f.now.UnixNano())
	if f.has(id) {
		t.Error("a hit after a suspension")
	}
}

// TestEnds: a hit outlives neither the record's end, nor its absolute timeout.
func TestEnds(t *testing.T) {
	f, id := newFixture(t, Config{}), sessions.NewID()
	made := f.answer
	f.answer = func(key sessions.Key, how sessions.Fetch) (*sessions.Session, time.Duration, error) {
		s, _, err := made(key, how)
		return s, 3 * time.Second, err
	}
	f.touch(t, id)
	f.later(3*time.Second - 1)
	if !f.has(id) {
		t.Error("no hit before the end")
	}
	f.later(1)
	if f.has(id) {
		t.Error("a hit after the end")
	}
	f.touch(t, id)
	f.over = true
	if f.has(id) {
		t.Error("a hit after the absolute timeout")
	}
}

// TestUnknown: IDs that name nothing push out no session, and are forgotten soon.
func TestUnknown(t *testing.T) {
	f, id := newFixture(t, Config{MaxEntries: MinEntries}), sessions.NewID()
	f.touch(t, id)
	f.answer = func(sessions.Key, sessions.Fetch) (*sessions.Session, time.Duration, error) {
		return nil, 0, sessions.ErrNotFound
	}
	made := sessions.NewID()
	for range 3 * maxUnknown {
		_, _ = f.Touch(t.Context(), sessions.NewID())
	}
	_, _ = f.Touch(t.Context(), made)
	before := len(f.fetches)
	if _, err := f.Touch(t.Context(), made); !errors.Is(err, sessions.ErrNotFound) || len(f.fetches) != before {
		t.Errorf("%v, and asked %d times", err, len(f.fetches)-before)
	}
	held := 0
	for i := range f.cache.shards {
		held += len(f.cache.shards[i].unknown)
	}
	if !f.has(id) || held > maxUnknown {
		t.Errorf("the session is held: %v, with %d unknown keys", f.has(id), held)
	}
	f.pass(unknownFor / 2)
	f.pass(unknownFor / 2)
	_, _ = f.Touch(t.Context(), made)
	if len(f.fetches) != before+1 {
		t.Error("it was not asked for again")
	}
	f.cache.Invalidate(made.Key())
	if _, _ = f.Touch(t.Context(), made); len(f.fetches) != before+2 {
		t.Error("not asked for after the key came up")
	}
}

// TestUnknownIsHeld: what is missing in a store that has lost its data is not said to be
// missing from memory either.
func TestUnknownIsHeld(t *testing.T) {
	f, id := newFixture(t, Config{}), sessions.NewID()
	f.answer = func(sessions.Key, sessions.Fetch) (*sessions.Session, time.Duration, error) {
		return nil, 0, sessions.ErrNotFound
	}
	_, _ = f.Touch(t.Context(), id)
	f.held = errors.New("emptied")
	if _, err := f.Touch(t.Context(), id); !errors.Is(err, f.held) {
		t.Errorf("touched: %v", err)
	}
	if _, ok, err := f.Peek(id, nil); ok || !errors.Is(err, f.held) {
		t.Errorf("peeked: %v, %v", ok, err)
	}
	f.held = nil
	if _, _, err := f.Peek(id, nil); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("behind the hold: %v", err)
	}
}

// TestSlides: a session that is used is slid once a step, and once at a time.
func TestSlides(t *testing.T) {
	f, id := newFixture(t, Config{}), sessions.NewID()
	f.touch(t, id)
	f.later(29 * time.Second)
	f.touch(t, id)
	if len(f.cache.queue) != 0 {
		t.Fatal("slid before the step has passed")
	}
	f.later(2 * time.Second)
	for range 5 {
		f.touch(t, id)
	}
	if len(f.cache.queue) != 1 || len(f.fetches) != 1 {
		t.Fatalf("%d slides, %d reads", len(f.cache.queue), len(f.fetches))
	}
	f.do(t.Context(), <-f.cache.queue)
	f.touch(t, id)
	if len(f.cache.queue) != 0 || len(f.fetches) != 2 || !f.fetches[1].Slide {
		t.Fatalf("%d slides, reads %v", len(f.cache.queue), f.fetches)
	}
	// The store is away: hits go on for a step, and then checks ask it.
	made := f.answer
	f.answer = func(sessions.Key, sessions.Fetch) (*sessions.Session, time.Duration, error) {
		return nil, 0, errors.New("away")
	}
	f.later(40 * time.Second)
	f.touch(t, id)
	f.do(t.Context(), <-f.cache.queue)
	f.later(retryAfter)
	f.touch(t, id)
	if len(f.cache.queue) != 1 {
		t.Error("not tried again")
	}
	f.later(time.Minute)
	if _, err := f.Touch(t.Context(), id); err == nil {
		t.Error("a hit although it was not slid for a step")
	}
	f.answer = made
}

// TestRefreshes: an entry that was used is read again after a change, and another is not.
func TestRefreshes(t *testing.T) {
	f, used, unused := newFixture(t, Config{}), sessions.NewID(), sessions.NewID()
	f.touch(t, used, "tenant")
	f.touch(t, used, "tenant")
	f.touch(t, unused)
	f.cache.Invalidate(used.Key())
	f.cache.Invalidate(unused.Key())
	if f.has(used) || len(f.cache.queue) != 1 {
		t.Fatalf("held %v, %d reads", f.has(used), len(f.cache.queue))
	}
	f.do(t.Context(), <-f.cache.queue)
	if last := f.fetches[len(f.fetches)-1]; last.Slide || fmt.Sprint(last.Fields) != "[tenant]" || !f.has(used) {
		t.Errorf("read %v, held %v", last, f.has(used))
	}
}

// TestFields: callers that ask for different fields share one entry.
func TestFields(t *testing.T) {
	f, id := newFixture(t, Config{}), sessions.NewID()
	f.touch(t, id, "tenant")
	if s := f.touch(t, id, "plan"); s.Fields["plan"] == "" {
		t.Error("a field is missing")
	}
	for _, fields := range [][]string{nil, {"tenant"}, {"plan"}, {"plan", "tenant"}} {
		s := f.touch(t, id, fields...)
		for _, name := range fields {
			if s.Fields[name] != "value of "+name {
				t.Errorf("field %s is %q", name, s.Fields[name])
			}
		}
	}
	if len(f.fetches) != 2 {
		t.Errorf("read %d times", len(f.fetches))
	}
}

// TestNotFoundStays: a read that began before another one found nothing brings no session
// back.
func TestNotFoundStays(t *testing.T) {
	f, id := newFixture(t, Config{}), sessions.NewID()
	early, _ := f.cache.reserve(sum(id.Sum()))
	s, left, _ := f.answer(id.Key(), sessions.Fetch{})
	f.answer = func(sessions.Key, sessions.Fetch) (*sessions.Session, time.Duration, error) {
		return nil, 0, sessions.ErrNotFound
	}
	_, _ = f.Touch(t.Context(), id)
	f.cache.keep(early, s, nil, left, time.Minute, time.Hour)
	if _, err := f.Touch(t.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("the session is back: %v", err)
	}
}

// TestLookups: a check that peeks, and then asks, is one look.
func TestLookups(t *testing.T) {
	f, id := newFixture(t, Config{}), sessions.NewID()
	for range 4 {
		if !f.has(id) {
			f.touch(t, id)
		}
	}
	if s := f.cache.Stats(); s.Lookups != 4 || s.Hits != 3 {
		t.Errorf("%d hits of %d looks", s.Hits, s.Lookups)
	}
}

func TestBounds(t *testing.T) {
	f := newFixture(t, Config{MaxEntries: 2000, MaxBytes: MinBytes})
	for range 20_000 {
		f.touch(t, sessions.NewID())
	}
	if s := f.cache.Stats(); s.Entries > 2000 || s.Bytes > MinBytes || s.Entries < 1000 || s.Evictions == 0 {
		t.Errorf("%+v", s)
	}
	f.cache.Flush(Lost)
	if s := f.cache.Stats(); s.Entries != 0 || s.Bytes != 0 || s.Leased {
		t.Errorf("after a flush %+v", s)
	}
}

// TestVictim: a session that was read just now is no older than one that was used long ago,
// though no hit has followed.
func TestVictim(t *testing.T) {
	f := newFixture(t, Config{})
	var ids []sessions.ID
	for len(ids) < 3 {
		if id := sessions.NewID(); id.Sum()[0]%shardCount == 0 {
			ids = append(ids, id)
		}
	}
	old, young, newcomer := ids[0], ids[1], ids[2]
	f.later(time.Second)
	f.touch(t, old)
	f.touch(t, old)
	f.later(20 * time.Second)
	f.touch(t, young)
	f.touch(t, newcomer)
	if victim, _ := f.cache.shards[0].victim(sum(newcomer.Sum())); victim != sum(old.Sum()) {
		t.Error("the session that was used last makes room for another")
	}
}

// TestEntrySize holds an entry, with five roles, to 600 bytes of heap.
func TestEntrySize(t *testing.T) {
	const n = 50_000
	f := newFixture(t, Config{})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	ids := make([]sessions.ID, n)
	for i := range ids {
		ids[i] = sessions.NewID()
	}
	before := heap()
	for _, id := range ids {
		reserved, _ := f.cache.reserve(sum(id.Sum()))
		s, left, _ := f.answer(id.Key(), sessions.Fetch{})
		f.cache.keep(reserved, s, nil, left, time.Minute, time.Hour)
	}
	each := float64(heap()-before) / n
	counted := float64(f.cache.Stats().Bytes) / n
	t.Logf("an entry takes %.0f bytes of heap, and is counted as %.0f", each, counted)
	if each > 600 {
		t.Errorf("an entry takes %.0f bytes", each)
	}
	if counted < each*.85 || counted > each*1.25 {
		t.Errorf("an entry is counted as %.0f bytes and takes %.0f", counted, each)
	}
	runtime.KeepAlive(f)
	runtime.KeepAlive(ids)
}

func TestHitAllocatesNothing(t *testing.T) {
	f, id := newFixture(t, Config{}), sessions.NewID()
	fields := []string{"tenant"}
	f.touch(t, id, fields...)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := f.Touch(context.Background(), id, fields...); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkHit(b *testing.B) {
	f := newFixture(b, Config{})
	f.cache.config.Now = time.Now
	f.cache.Alive(time.Now().Add(time.Hour)) // no lease ends
	ids := make([]sessions.ID, 1000)
	for i := range ids {
		ids[i] = sessions.NewID()
		f.touch(b, ids[i])
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, ok, _ := f.Peek(ids[i%len(ids)], nil); !ok {
				b.Error("no hit")
				return
			}
		}
	})
}
