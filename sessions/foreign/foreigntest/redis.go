package foreigntest

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A bench is a Redis with the sessions of a format in it.
type bench struct {
	*testing.T
	Subject
	format  sessions.Format
	client  *redis.Client // another one than the store's
	store   *redisstore.Store
	counted *counted
}

// A counted counts what a client sends: calls, each of which is a round trip.
type counted struct{ pipelines, single atomic.Int64 }

func (*counted) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *counted) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.single.Add(1)
		return next(ctx, cmd)
	}
}

func (c *counted) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if name := cmds[0].Name(); name != "hello" && name != "client" && name != "auth" { // of a new connection
			c.pipelines.Add(1)
		}
		return next(ctx, cmds)
	}
}

func runOnRedis(t *testing.T, s Subject) {
	server := redistest.Start(t)
	options := &redis.Options{Addr: server.Addr, Password: redistest.Password}
	ours, theirs := redis.NewClient(options), redis.NewClient(options)
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	c := new(counted)
	ours.AddHook(c)
	b := bench{Subject: s, client: theirs, store: redisstore.New(ours, redisstore.Config{}), counted: c}
	for _, test := range []struct {
		name string
		run  func(bench)
	}{
		{"Touch", bench.touch}, {"Slide", bench.slide}, {"Untouched", bench.untouched}, {"Missing", bench.missing},
		{"Endless", bench.endless}, {"OtherType", bench.otherType}, {"Large", bench.large}, {"Find", bench.find}, {"Logouts", bench.logouts},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := theirs.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			b := b
			b.T, b.format = t, s.Format()
			test.run(b)
		})
	}
}

// reader returns the sessions, and what ends them and waits for their slides.
func (b bench) reader(c foreign.Config) *foreign.Sessions {
	b.Helper()
	s, err := foreign.New(b.store.Foreign(b.format.Place()), b.format, c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	return s
}

// write writes a sample as its framework does.
func (b bench) write(s Sample, ttl time.Duration) sessions.ID {
	b.Helper()
	var err error
	if b.format.Place().Hash {
		err = errors.Join(b.client.HSet(b.Context(), s.Key, s.Hash).Err(), b.client.PExpire(b.Context(), s.Key, ttl).Err())
	} else {
		err = b.client.Set(b.Context(), s.Key, s.Value, ttl).Err()
	}
	if err != nil {
		b.Fatal(err)
	}
	id, err := b.format.Read(lines(s.Cookie))
	if err != nil {
		b.Fatal(err)
	}
	return id
}

func (b bench) dump(s Sample) string {
	b.Helper()
	text, err := b.client.Dump(b.Context(), s.Key).Result()
	if err != nil {
		b.Fatal(err)
	}
	return text
}

func (b bench) ttl(s Sample) time.Duration {
	b.Helper()
	left, err := b.client.PTTL(b.Context(), s.Key).Result()
	if err != nil {
		b.Fatal(err)
	}
	return left
}

// touch: the session is read in one round trip, and its record stays as it was.
func (b bench) touch() {
	for _, sample := range b.SignedIn {
		b.write(sample, sample.ttl())
	}
	for _, sample := range b.SignedIn {
		id, before := b.write(sample, max(sample.Lifetime, sample.ttl())), b.dump(sample)
		s := b.reader(foreign.Config{})
		_, _ = s.Touch(b.Context(), id) // connects
		pipelines, single := b.counted.pipelines.Load(), b.counted.single.Load()
		got, err := s.Touch(b.Context(), id, sample.names()...)
		if err != nil {
			b.Fatal(err)
		}
		differ(b.T, sample, got)
		if got.Key != id.Key() {
			b.Errorf("its key is %s", got.Key)
		}
		s.Close()
		if p, n := b.counted.pipelines.Load()-pipelines, b.counted.single.Load()-single; p != 1 || n != 0 {
			b.Errorf("%s: %d pipelines and %d single calls for one check", sample.Key, p, n)
		}
		if b.dump(sample) != before {
			b.Errorf("%s: the record has changed", sample.Key)
		}
		inspected, err := s.Inspect(b.Context(), id)
		if left := time.Until(inspected.IdleExpiresAt); err != nil || left <= 0 || left > max(sample.Lifetime, sample.ttl()) {
			b.Errorf("%s: it ends in %v, %v", sample.Key, left, err)
		}
	}
	for _, sample := range b.Anonymous {
		if _, err := b.reader(foreign.Config{}).Touch(b.Context(), b.write(sample, sample.ttl())); !errors.Is(err, sessions.ErrNotFound) {
			b.Errorf("%s: %v", sample.Key, err)
		}
	}
}

// slide: an end that is too near is moved to exactly where the framework has it, and the
// value stays as it is. One that is near enough, or later, stays.
func (b bench) slide() {
	for _, sample := range b.SignedIn {
		if sample.Lifetime == 0 {
			continue
		}
		step := min(sample.Lifetime/10, time.Minute)
		for _, c := range []struct {
			left  time.Duration
			slid  bool
			later time.Duration // than the left, at most
		}{{sample.Lifetime - step - 2*time.Second, true, 0}, {sample.Lifetime / 2, true, 0}, {sample.Lifetime - step + 2*time.Second, false, 0}, {2 * sample.Lifetime, false, 0}} {
			want := c.left
			if c.slid {
				want = sample.Lifetime
			}
			began := time.Now()
			left := b.used(sample, c.left)
			for range 9 { // on a busy machine it may be past the step before it is used
				if time.Since(began) < 1500*time.Millisecond {
					break
				}
				began = time.Now()
				left = b.used(sample, c.left)
			}
			if left > want || left < want-2*time.Second {
				b.Errorf("%s with %v left: %v after a use, want %v", sample.Key, c.left, left, want)
			}
		}
	}
}

// used is what is left of a session after a use.
func (b bench) used(sample Sample, left time.Duration) time.Duration {
	b.Helper()
	id := b.write(sample, left)
	before := b.dump(sample)
	s := b.reader(foreign.Config{})
	if _, err := s.Lookup(b.Context(), id); err != nil {
		b.Fatal(err)
	}
	if now := b.ttl(sample); now > left {
		b.Errorf("a lookup has it last %v", now)
	}
	if _, err := s.Touch(b.Context(), id); err != nil {
		b.Fatal(err)
	}
	s.Close()
	if b.dump(sample) != before {
		b.Errorf("%s: the record has changed", sample.Key)
	}
	return b.ttl(sample)
}

// untouched: where the framework moves no end, no end is moved.
func (b bench) untouched() {
	for _, sample := range b.SignedIn {
		if sample.Lifetime > 0 {
			continue
		}
		id := b.write(sample, 50*time.Second)
		s := b.reader(foreign.Config{})
		if _, err := s.Touch(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		s.Close()
		if left := b.ttl(sample); left > 50*time.Second {
			b.Errorf("%s: %v", sample.Key, left)
		}
	}
}

// missing: nothing is created for a key that is not there.
func (b bench) missing() {
	for _, sample := range b.SignedIn {
		id := b.write(sample, time.Minute)
		b.client.Del(b.Context(), sample.Key)
		s := b.reader(foreign.Config{})
		if _, err := s.Touch(b.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
			b.Errorf("%s: %v", sample.Key, err)
		}
		if err := b.store.Foreign(b.format.Place()).Extend(b.Context(), id, time.Hour); err != nil {
			b.Error(err)
		}
		s.Close()
		if n := b.client.Exists(b.Context(), sample.Key).Val(); n != 0 {
			b.Errorf("%s was created", sample.Key)
		}
	}
}

// endless: a record without an end authenticates only where that is configured, and gets
// none. One of no user is what it is with an end, because an application may have many.
func (b bench) endless() {
	for _, sample := range b.Anonymous {
		id := b.write(sample, time.Minute)
		b.client.Persist(b.Context(), sample.Key)
		if _, err := b.reader(foreign.Config{}).Touch(b.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
			b.Errorf("%s of no user, without an end: %v", sample.Key, err)
		}
	}
	for _, sample := range b.SignedIn {
		id := b.write(sample, time.Minute)
		b.client.Persist(b.Context(), sample.Key)
		if _, err := b.reader(foreign.Config{}).Touch(b.Context(), id); !errors.Is(err, sessions.ErrBroken) {
			b.Errorf("%s without an end: %v", sample.Key, err)
		}
		s := b.reader(foreign.Config{Endless: true})
		if _, err := s.Touch(b.Context(), id); err != nil {
			b.Errorf("%s, which may have none: %v", sample.Key, err)
		}
		if err := b.store.Foreign(b.format.Place()).Extend(b.Context(), id, time.Hour); err != nil {
			b.Error(err)
		}
		s.Close()
		if left := b.ttl(sample); left != -1 {
			b.Errorf("%s has an end: %v", sample.Key, left)
		}
	}
}

// otherType: a key of another type is a broken record.
func (b bench) otherType() {
	sample := b.SignedIn[0]
	for kind, make := range map[string]func() error{
		"list": func() error { return b.client.RPush(b.Context(), sample.Key, "x").Err() },
		"hash": func() error { return b.client.HSet(b.Context(), sample.Key, "user", "1").Err() },
		"text": func() error { return b.client.Set(b.Context(), sample.Key, "x", 0).Err() },
	} {
		id := b.write(sample, time.Minute)
		b.client.Del(b.Context(), sample.Key)
		if err := errors.Join(make(), b.client.Expire(b.Context(), sample.Key, time.Minute).Err()); err != nil {
			b.Fatal(err)
		}
		if _, err := b.reader(foreign.Config{}).Touch(b.Context(), id); !errors.Is(err, sessions.ErrBroken) && !errors.Is(err, sessions.ErrNotFound) {
			b.Errorf("%s: %v", kind, err)
		} else if strings.Contains(err.Error(), id.Reveal()) {
			b.Errorf("%s: the error has the ID: %v", kind, err)
		}
		b.client.Del(b.Context(), sample.Key)
	}
}

// large: a record that is too large is not decoded, and not even read whole.
func (b bench) large() {
	if b.format.Place().Hash {
		return
	}
	const whole = 32 << 20
	sample, s := b.SignedIn[0], b.reader(foreign.Config{})
	for _, size := range []int{foreign.MaxRecord, foreign.MaxRecord + 1, whole} {
		sample.Value = b.SignedIn[0].Value + strings.Repeat(" ", size-len(b.SignedIn[0].Value))
		id := b.write(sample, time.Minute)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := s.Touch(b.Context(), id)
		runtime.ReadMemStats(&after)
		if large := size > foreign.MaxRecord; errors.Is(err, sessions.ErrBroken) != large || !large && err != nil {
			b.Errorf("%d bytes: %v", size, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > whole/4 {
			b.Errorf("%d bytes: a check takes %d bytes of memory", size, took)
		}
	}
}

// find: a handle finds the session, also among keys of other programs.
func (b bench) find() {
	b.client.Set(b.Context(), "other", "x", 0)
	var ids []sessions.ID
	for _, sample := range b.SignedIn {
		ids = append(ids, b.write(sample, time.Minute))
	}
	s := b.reader(foreign.Config{})
	for i, id := range ids {
		for _, handle := range []string{id.Key().Handle(), id.Key().Hash(), string(id.Key())} {
			if found, err := s.Find(b.Context(), handle); err != nil || found != ids[i] {
				b.Errorf("%s: %v", handle, err)
			}
		}
	}
	if _, err := s.Find(b.Context(), strings.Repeat("A", 12)); !errors.Is(err, sessions.ErrNotFound) {
		b.Error(err)
	}
	if _, err := s.Find(b.Context(), "*"); err == nil {
		b.Error("a pattern is a handle")
	}
}

// logouts: a record that is deleted while it is slid is gone, 200 times.
func (b bench) logouts() {
	sample := b.SignedIn[0]
	if sample.Lifetime == 0 {
		return
	}
	s := b.reader(foreign.Config{Step: time.Millisecond})
	alive := 0
	for i := range 200 {
		id := b.write(sample, 10*time.Second)
		var racing sync.WaitGroup
		for range 3 {
			racing.Go(func() {
				if _, err := s.Touch(b.Context(), id); err != nil && !errors.Is(err, sessions.ErrNotFound) {
					b.Error(err)
				}
			})
		}
		racing.Go(func() {
			time.Sleep(time.Duration(i%20) * 25 * time.Microsecond)
			if n := b.client.Del(b.Context(), sample.Key).Val(); n == 1 {
				alive++
			}
		})
		racing.Wait()
		if _, err := s.Touch(b.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
			b.Fatalf("logout %d: a check afterwards: %v", i, err)
		}
		if n := b.client.Exists(b.Context(), sample.Key).Val(); n != 0 {
			b.Fatalf("logout %d has left the key", i)
		}
	}
	s.Close() // with the slides that were under way
	if n := b.client.DBSize(context.WithoutCancel(b.Context())).Val(); n != 0 || alive != 200 {
		b.Errorf("%d keys after %d logouts", n, alive)
	}
}
