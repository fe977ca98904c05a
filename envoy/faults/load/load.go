package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A Config says what is sent where.
type Config struct {
	Replicas    []string // addresses of the gRPC listeners
	AdminPolicy string   // the replicas' policy that asks for the role admin; empty: none
	History     *history.History
	// Client reaches Redis for logins, revocations and additions.
	Client       redisstore.ClientConfig
	WaitReplicas int  // that must confirm a revocation
	Cluster      bool // the parts of a Cluster recover on their own
	Rate         int  // checks a second, over all replicas
	Changes      int  // logins, revocations and additions a second, together
	Sessions     int  // how many are alive at a time, about
	Seed         uint64
	Steady       bool // no session has a short limit: clocks move
	// Idle and Step are the servers', and Slack is the history's.
	Idle, Step, Slack time.Duration
}

// A Load is under way from Start to Stop.
type Load struct {
	config    Config
	began     time.Time
	targets   []*target
	templates templates
	client    *redisstore.Client
	people    *people
	kinds     []kind
	meter     *lagMeter
	malformed []string

	random   *rand.Rand // of the one goroutine that sends
	inFlight atomic.Int64
	herd     atomic.Bool
	cancels  atomic.Bool

	failedChanges atomic.Int64
	cancel        context.CancelFunc
	running       sync.WaitGroup

	mu        sync.Mutex
	phase     *Figures
	recovered map[place]*recovery
}

// Start signs in the first sessions, and begins to send.
func Start(ctx context.Context, c Config) (*Load, error) {
	l := &Load{
		config: c, began: time.Now(), people: newPeople(c.Seed), random: rand.New(rand.NewPCG(c.Seed, 2)),
		phase: newFigures(0), recovered: make(map[place]*recovery),
		// Of the length of an ID: other characters, and a spelling that is not canonical.
		malformed: []string{placeholder, strings.Repeat("A", len(placeholder)-1) + "B"},
	}
	l.meter = &lagMeter{now: l.now}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	for i := 0; l.people.size() < c.Sessions && i < 5*c.Sessions; i++ {
		l.login(ctx)
	}
	if l.people.size() < c.Sessions {
		return nil, errors.Join(errors.New("logins fail before the fault"), l.close())
	}
	ctx, l.cancel = context.WithCancel(context.WithoutCancel(ctx))
	meterCtx, stopMeter := context.WithCancel(context.WithoutCancel(ctx))
	var sending sync.WaitGroup
	sending.Go(func() { l.send(ctx) })
	sending.Go(func() { l.keepChanging(ctx) })
	l.running.Go(func() { l.meter.run(meterCtx) })
	l.running.Go(func() { sending.Wait(); stopMeter() })
	return l, nil
}

func (l *Load) open() (err error) {
	if l.templates, err = newTemplates(l.config.AdminPolicy); err != nil {
		return err
	}
	for _, address := range l.config.Replicas {
		t, err := dial(address)
		if err != nil {
			return err
		}
		l.targets = append(l.targets, t)
	}
	if l.client, err = redisstore.NewClient(l.config.Client); err != nil {
		return err
	}
	return l.newKinds(redisstore.New(l.client, redisstore.Config{WaitReplicas: l.config.WaitReplicas}))
}

func (l *Load) close() error {
	var errs []error
	for _, t := range l.targets {
		errs = append(errs, t.close())
	}
	if l.client != nil {
		errs = append(errs, l.client.Close())
	}
	return errors.Join(errs...)
}

// Stop waits for all that is under way, and closes the connections.
func (l *Load) Stop() error {
	l.cancel()
	l.running.Wait()
	return l.close()
}

// Now is the time of the history.
func (l *Load) Now() time.Duration { return l.now() }

func (l *Load) now() time.Duration { return time.Since(l.began) }

// keepChanging changes sessions at an even rate. One that takes long holds up no other, up
// to a limit.
func (l *Load) keepChanging(ctx context.Context) {
	var changes sync.WaitGroup
	defer changes.Wait()
	limit := make(chan struct{}, 64)
	ticker := time.NewTicker(time.Second / time.Duration(l.config.Changes))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		select {
		case limit <- struct{}{}:
			changes.Go(func() { l.change(context.WithoutCancel(ctx)); <-limit })
		default:
		}
	}
}

// Lag is how long the machine did not let this process run, in all and at most.
func (l *Load) Lag() (total, worst time.Duration) { return l.meter.lag() }

// FailedChanges is how many logins, revocations and additions have failed.
func (l *Load) FailedChanges() int { return int(l.failedChanges.Load()) }

// Leave ends checks to a replica, as an Envoy does whose health check has failed.
func (l *Load) Leave(replica int) { l.targets[replica].away.Store(true) }

// Join begins to send checks to it again.
func (l *Load) Join(replica int) { l.targets[replica].away.Store(false) }

// Herd sends hundreds of checks at once, again and again, beside the even rate.
func (l *Load) Herd(on bool) { l.herd.Store(on) }

// Cancels has clients give up most checks after some milliseconds.
func (l *Load) Cancels(on bool) { l.cancels.Store(on) }

// Phase begins the figures of what returns from now on, and returns those of the phase that
// ends.
func (l *Load) Phase() *Figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	ended := l.phase
	total, _ := l.meter.lag()
	ended.Lag = total - ended.Lag
	l.phase = newFigures(l.now())
	l.phase.Lag = total
	return ended
}

// Outage reports where an outage is that has not ended, or when the last one ended; zero
// where there was none since Watch.
func (l *Load) Outage() (down bool, up time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.recovered {
		down = down || r.down
		up = max(up, r.up)
	}
	return down, up
}

// Watch forgets the outages so far, but for those that go on.
func (l *Load) Watch() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.recovered {
		r.up = 0
	}
}
