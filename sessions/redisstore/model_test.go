package redisstore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// The model: processes that make and end sessions of one user, each command of
// theirs a step, in every order; a process may die before any of its steps, and all
// of them may stand still for longer than an entry stays. Orders that lead to the
// same state, with the same answers given, are followed once.

var errDied = errors.New("the process has died")

// A world is a Redis and what has happened.
type world struct {
	*fake
	redis     *redis.Client // a real one in place of the fake; nil: none
	processes []*process
	sessions  []*modelSession
	endings   []*ending
	deaths    int // that may happen yet
	stalls    int
	stalled   bool
	later     bool // what is not confirmed has ended
	moment    int  // counts steps
}

// A modelSession is one login and what came of it; moments are 0 until they come.
type modelSession struct {
	key              sessions.Key
	began, made      int
	died             bool
	recipe           bool // made by a program that knows no mark
	err              error
	touchedAfterEnds bool
}

// An ending is a revocation.
type ending struct {
	started, done int
	of            *modelSession // the only one; nil: all, but for keep
	keep          *modelSession
	died          bool
	err           error
}

// A process runs one step whenever it is woken.
type process struct {
	world    *world
	client   *redis.Client
	store    *Store
	manager  *sessions.Manager
	wake     chan bool // false: die
	asleep   chan bool // true: it has ended
	ended    bool
	dead     bool
	answers  maphash.Hash
	sequence int
}

// step waits for its turn, and reports whether the process lives.
func (p *process) step() bool {
	if p.dead {
		return false
	}
	p.asleep <- false
	if !<-p.wake {
		p.dead = true
		return false
	}
	p.sequence++
	p.world.moment++
	return true
}

func (*process) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p *process) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !p.step() {
			cmd.SetErr(errDied)
			return errDied
		}
		return p.run(ctx, []redis.Cmder{cmd}, func(ctx context.Context, cmds []redis.Cmder) error { return next(ctx, cmds[0]) })
	}
}

// ProcessPipelineHook takes a transaction as one step, and a pipeline as many.
func (p *process) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "multi" {
			if !p.step() {
				for _, cmd := range cmds {
					cmd.SetErr(errDied)
				}
				return errDied
			}
			if p.world.redis != nil {
				return next(ctx, cmds)
			}
			return p.run(ctx, cmds[1:len(cmds)-1], nil)
		}
		var first error
		for _, cmd := range cmds {
			if !p.step() {
				cmd.SetErr(errDied)
				first = errDied
				continue
			}
			if err := p.run(ctx, []redis.Cmder{cmd}, next); err != nil && first == nil {
				first = err
			}
		}
		return first
	}
}

func (p *process) run(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	if p.world.redis != nil {
		return next(ctx, cmds)
	}
	for _, cmd := range cmds {
		if cmd.Name() == "eval" && cmd.Args()[1] == leave {
			p.world.now += 10 // so that no two marks and logins are as old as one another
		}
		_, _ = p.answers.WriteString(p.world.do(cmd))
	}
	return cmds[0].Err()
}

// Now and Elapsed implement sessions.Clock.
func (w *world) Now() time.Time {
	if w.redis != nil {
		return time.Now()
	}
	return time.UnixMilli(w.now)
}

func (w *world) Elapsed() time.Duration { return time.Duration(w.Now().UnixNano()) }

// A scenario gives the processes their work.
type scenario struct {
	name   string
	stalls int
	setup  func(*world)
	work   []func(*process)
}

const modelUser = "42"

// login makes session i as Coatcheck does.
func login(i int) func(*process) {
	return func(p *process) {
		s := p.world.sessions[i]
		if !p.step() {
			s.died = true
			return
		}
		p.world.now += 10
		s.began = p.world.moment
		_, err := p.store.Create(context.Background(), p.world.creation(s, p.world.Now()))
		p.world.made(p, s, err)
	}
}

// creation is the one of a session whose login began then; a real Redis is told by the
// real clock, whose monotonic reading counts.
func (w *world) creation(s *modelSession, began time.Time) sessions.CreateParams {
	now := w.Now()
	return sessions.CreateParams{
		Key: s.key, UserID: modelUser, Began: began, Now: now, Expiry: now.Add(30 * time.Minute), Absolute: now.Add(12 * time.Hour),
		Record: sessions.Record{"v": "1", "user_id": modelUser, "expires_at": now.Add(12 * time.Hour).UTC().Format(time.RFC3339), "created_at": now.UTC().Format(time.RFC3339)},
	}
}

func (w *world) made(p *process, s *modelSession, err error) {
	s.err, s.died = err, p.dead
	if err == nil && !p.dead {
		s.made = w.moment
	}
}

// recipe makes session i as docs/sessions.md says, and does no more.
func recipe(i int) func(*process) {
	return func(p *process) {
		s := p.world.sessions[i]
		s.recipe = true
		if !p.step() {
			s.died = true
			return
		}
		s.began = p.world.moment
		c := p.world.creation(s, time.Time{})
		ctx := context.Background()
		_, err := p.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.ZAdd(ctx, indexPrefix+modelUser, entryFor(c))
			pipe.Do(ctx, "PEXPIREAT", indexPrefix+modelUser, c.Absolute.UnixMilli(), "NX")
			pipe.Do(ctx, "PEXPIREAT", indexPrefix+modelUser, c.Absolute.UnixMilli(), "GT")
			return nil
		})
		if err == nil {
			_, err = p.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
				pipe.HSet(ctx, string(c.Key), pairs(c.Record))
				pipe.PExpireAt(ctx, string(c.Key), c.Expiry)
				return nil
			})
		}
		p.world.made(p, s, err)
	}
}

// end runs a revocation and notes when.
func end(e func(*world) *ending, do func(*process) error) func(*process) {
	return func(p *process) {
		ending := e(p.world)
		if !p.step() {
			ending.died = true
			return
		}
		p.world.endings = append(p.world.endings, ending)
		ending.started = p.world.moment
		ending.err = do(p)
		ending.died = p.dead
		if ending.err == nil && !p.dead {
			ending.done = p.world.moment
		}
	}
}

func revokeUser() func(*process) {
	return end(func(*world) *ending { return new(ending) }, func(p *process) error {
		_, err := p.manager.RevokeUser(context.Background(), modelUser)
		return err
	})
}

func revokeOthers(keep int) func(*process) {
	return end(func(w *world) *ending { return &ending{keep: w.sessions[keep]} }, func(p *process) error {
		_, err := p.manager.RevokeOthers(context.Background(), p.world.sessions[keep].key)
		return err
	})
}

func revoke(i int) func(*process) {
	return end(func(w *world) *ending { return &ending{of: w.sessions[i]} }, func(p *process) error {
		err := p.manager.Revoke(context.Background(), p.world.sessions[i].key)
		if errors.Is(err, sessions.ErrNotFound) {
			return nil
		}
		return err
	})
}

// touch uses session i, which must not be there when it has been ended. Before it was
// made its ID is known to no client.
func touch(i int) func(*process) {
	return func(p *process) {
		s := p.world.sessions[i]
		if !p.step() {
			return
		}
		if s.made == 0 {
			return
		}
		over := p.world.over(s)
		_, _, err := p.store.Touch(context.Background(), s.key, p.world.Now().Add(time.Hour), []string{"v"})
		if over && err == nil && !p.dead {
			s.touchedAfterEnds = true
		}
	}
}

func addTo(i int) func(*process) {
	return func(p *process) {
		_ = p.store.Add(context.Background(), p.world.sessions[i].key, map[string]string{"cart": "3"})
	}
}

// look lists, which prunes.
func look(p *process) { _, _, _ = p.manager.List(context.Background(), modelUser) }

// over reports whether a session must have ended: a revocation that began after it
// was made has returned; or one of all, after its login began. What a login leaves
// that died, whose ID is known to no client, ends by itself.
func (w *world) over(s *modelSession) bool {
	return slices.ContainsFunc(w.endings, func(e *ending) bool {
		if e.done == 0 || e.keep == s || e.of != nil && e.of != s {
			return false
		}
		if s.died && !w.later {
			return false
		}
		return s.made != 0 && s.made < e.started || e.of == nil && !s.recipe && s.began != 0 && s.began < e.started
	})
}

// untouched reports whether no revocation can have reached the session: each of them
// had returned before its login began.
func (w *world) untouched(s *modelSession) bool {
	return !slices.ContainsFunc(w.endings, func(e *ending) bool {
		return e.keep != s && (e.of == nil || e.of == s) && (e.done == 0 || e.done > s.began)
	})
}

// wrong says what must not be, once every process has ended.
func (w *world) wrong() string {
	for i, s := range w.sessions {
		live, listed := w.look(s)
		switch {
		case live && !listed:
			return fmt.Sprintf("session %d lives and is not listed", i)
		case live && w.over(s):
			return fmt.Sprintf("session %d lives after a revocation", i)
		case s.touchedAfterEnds:
			return fmt.Sprintf("session %d was found after a revocation", i)
		case s.began != 0 && !s.died && w.untouched(s) && (s.err != nil || !live) && !w.stalled && !w.later:
			return fmt.Sprintf("session %d was not revoked and does not live: %v", i, s.err)
		}
	}
	return ""
}

func (w *world) look(s *modelSession) (live, listed bool) {
	if w.redis != nil {
		ctx := context.Background()
		return w.redis.Exists(ctx, string(s.key)).Val() == 1, w.redis.ZScore(ctx, indexPrefix+modelUser, s.key.Hash()).Err() == nil
	}
	index := w.at(indexPrefix + modelUser)
	if index != nil {
		_, listed = index.set[s.key.Hash()]
	}
	return w.at(string(s.key)) != nil, listed
}

// state tells all that later steps depend on, and the verdict.
func (w *world) state() uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	_, _ = h.WriteString(w.String())
	fmt.Fprint(&h, w.deaths, w.stalls)
	for _, p := range w.processes {
		fmt.Fprint(&h, "p", p.sequence, p.ended, p.dead, p.answers.Sum64())
	}
	for _, s := range w.sessions {
		fmt.Fprint(&h, "s", s.began != 0, s.made != 0, s.died, s.err, s.touchedAfterEnds)
		for _, e := range w.endings {
			fmt.Fprint(&h, s.began < e.started, s.made != 0 && s.made < e.started, e.done != 0, e.done > s.began, e.of == s, e.keep == s)
		}
	}
	return h.Sum64()
}

var seed = maphash.MakeSeed()

// anyOf is a number below n.
func anyOf(n int) int { return int(maphash.String(maphash.MakeSeed(), "") % uint64(n)) }

// A modeller runs a scenario again and again.
type modeller struct {
	*testing.T
	scenario scenario
	pool     []*process
	real     *redis.Client
	seen     map[uint64]bool
	runs     int
}

func newModeller(t *testing.T, s scenario, server *redistest.Server) *modeller {
	m := &modeller{T: t, scenario: s, seen: make(map[uint64]bool)}
	addr := "127.0.0.1:1" // never dialled
	if server != nil {
		addr, m.real = server.Addr, server.Client()
		t.Cleanup(func() { _ = m.real.Close() })
	}
	for range s.work {
		p := &process{wake: make(chan bool), asleep: make(chan bool)}
		p.client = redis.NewClient(&redis.Options{Addr: addr, Password: redistest.Password, PoolSize: 2, MaxRetries: -1})
		p.client.AddHook(p)
		t.Cleanup(func() { _ = p.client.Close() })
		p.store = New(p.client, Config{})
		m.pool = append(m.pool, p)
	}
	return m
}

// start makes a world of processes that wait for their first step.
func (m *modeller) start() *world {
	w := &world{fake: &fake{now: 1_800_000_000_000, keys: map[string]*value{}}, deaths: 1, stalls: m.scenario.stalls, redis: m.real}
	for i := range 3 {
		key := sessions.Key(sessions.KeyPrefix + strings.Repeat(string(rune('A'+i)), 42) + "A")
		w.sessions = append(w.sessions, &modelSession{key: key})
	}
	if m.real != nil {
		m.real.FlushAll(context.Background())
	}
	if m.scenario.setup != nil {
		m.scenario.setup(w)
	}
	for i, work := range m.scenario.work {
		p := m.pool[i]
		p.world, p.ended, p.dead, p.sequence = w, false, false, 0
		p.answers.SetSeed(seed)
		p.answers.Reset()
		if m.real == nil {
			p.store.since = func(t time.Time) time.Duration { return w.Now().Sub(t) }
			p.store.sleep = func(d time.Duration) { w.now += d.Milliseconds() }
		}
		p.manager, _ = sessions.NewManager(p.store, sessions.Config{Clock: w})
		w.processes = append(w.processes, p)
		go func() {
			work(p)
			p.asleep <- true
		}()
		p.ended = <-p.asleep
	}
	return w
}

// choices are what may happen next.
func (w *world) choices() []func() {
	var choices []func()
	for _, p := range w.processes {
		if !p.ended {
			choices = append(choices, func() { p.next(true) })
		}
	}
	for _, p := range w.processes {
		if !p.ended && w.deaths > 0 {
			choices = append(choices, func() { w.deaths--; p.next(false) })
		}
	}
	if len(choices) > 0 && w.stalls > 0 && w.redis == nil {
		choices = append(choices, func() { w.stalls--; w.stalled = true; w.now += grace.Milliseconds() + 1 })
	}
	return choices
}

func (p *process) next(live bool) {
	p.wake <- live
	p.ended = <-p.asleep
}

// run follows a path and then the first choices, or random ones, and returns the
// paths that it passed by.
func (m *modeller) run(path []int, random bool) (others [][]int) {
	m.runs++
	w := m.start()
	for i := 0; ; i++ {
		choices := w.choices()
		if len(choices) == 0 {
			break
		}
		choice := 0
		switch {
		case i < len(path):
			choice = path[i]
		case random:
			choice = anyOf(len(choices))
			path = append(path, choice)
		default:
			state := w.state()
			if m.seen[state] {
				w.stop()
				return others
			}
			m.seen[state] = true
			for j := 1; j < len(choices); j++ {
				others = append(others, append(slices.Clone(path), j))
			}
			path = append(path, 0)
		}
		choices[choice]()
	}
	m.judge(w, path)
	return others
}

// judge looks at the end, and again when entries that nothing stands behind are
// forgotten.
func (m *modeller) judge(w *world, path []int) {
	wrong := w.wrong()
	if wrong == "" && w.redis == nil {
		w.now += grace.Milliseconds() + 1
		w.later = true
		w.prune(indexPrefix + modelUser)
		wrong = w.wrong()
	}
	if wrong != "" {
		m.Fatalf("%s\nby the choices %v", wrong, path)
	}
}

// prune does at once what a store does in steps.
func (f *fake) prune(index string) {
	for _, member := range f.eval(due, index, nil).([]any) {
		if f.at(sessions.KeyPrefix+member.(string)) == nil {
			f.sorted("zrem", index, []string{member.(string)})
		}
	}
}

// stop ends the processes of a run that is not followed.
func (w *world) stop() {
	for _, p := range w.processes {
		for !p.ended {
			p.next(false)
		}
	}
}

// alive is a session that was made before anything else.
func alive(indices ...int) func(*world) {
	return func(w *world) {
		for _, i := range indices {
			s := w.sessions[i]
			c := w.creation(s, time.Time{})
			w.moment++
			s.began, s.made = w.moment, w.moment
			if w.redis != nil {
				ctx := context.Background()
				w.redis.ZAdd(ctx, indexPrefix+modelUser, entryFor(c))
				w.redis.HSet(ctx, string(s.key), pairs(c.Record))
				w.redis.PExpireAt(ctx, string(s.key), c.Expiry)
				continue
			}
			w.zadd(indexPrefix+modelUser, s.key.Hash(), float64(c.Absolute.UnixMilli()))
			v := w.make(string(s.key))
			v.hash, v.end = c.Record, c.Expiry.UnixMilli()
		}
	}
}

var scenarios = []scenario{
	{name: "login, revoke all", work: []func(*process){login(0), revokeUser()}},
	{name: "login, revoke all, stall", stalls: 1, work: []func(*process){login(0), revokeUser()}},
	{name: "login, revoke all twice", work: []func(*process){login(0), revokeUser(), revokeUser()}},
	{name: "login, revoke all, list, stall", stalls: 1, work: []func(*process){login(0), revokeUser(), look}},
	{name: "login, revoke one, revoke all", work: []func(*process){login(0), revoke(0), revokeUser()}},
	{name: "two logins, revoke all", work: []func(*process){login(0), login(1), revokeUser()}},
	{name: "login, revoke others", setup: alive(2), work: []func(*process){login(0), revokeOthers(2)}},
	{name: "login, revoke others, revoke all", setup: alive(2), work: []func(*process){login(0), revokeOthers(2), revokeUser()}},
	{name: "touch, add, revoke all", setup: alive(0), work: []func(*process){touch(0), addTo(0), revokeUser()}},
	{name: "touch, revoke one twice, list", setup: alive(0), work: []func(*process){touch(0), revoke(0), revoke(0), look}},
	{name: "login, touch, revoke all", work: []func(*process){login(0), touch(0), revokeUser()}},
	{name: "login by recipe, revoke all", work: []func(*process){recipe(0), revokeUser()}},
	{name: "login by recipe, revoke all twice, list", work: []func(*process){recipe(0), revokeUser(), revokeUser(), look}},
	{name: "login by recipe, login, revoke all", work: []func(*process){recipe(0), login(1), revokeUser()}},
}

// TestModel follows every order of the steps of a few processes.
func TestModel(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			m := newModeller(t, s, nil)
			start := time.Now()
			full := os.Getenv("COATCHECK_FULL") != ""
			for paths := [][]int{nil}; len(paths) > 0; {
				last := len(paths) - 1
				if !full && len(m.seen) > 400 { // a sample of the rest
					if i := anyOf(len(paths)); time.Since(start) < 250*time.Millisecond {
						paths[i], paths[last] = paths[last], paths[i]
					} else {
						t.Logf("%d states, and not all", len(m.seen))
						return
					}
				}
				path := paths[last]
				paths = append(paths[:last], m.run(path, false)...)
			}
			t.Logf("all of %d states, %d runs", len(m.seen), m.runs)
		})
	}
}

// TestModelOnRedis follows some of these orders on a real one.
func TestModelOnRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rounds := 15
	if os.Getenv("COATCHECK_FULL") != "" {
		rounds = 1000
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			m := newModeller(t, s, server)
			for range rounds {
				m.run(nil, true)
			}
		})
	}
}
