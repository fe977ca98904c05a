package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/envoy/faults/load"
	"github.com/coatcheck/coatcheck/envoy/faults/stage"
)

// A result is what a fault did to a scene.
type result struct {
	fault   stage.Fault
	setting setting

	injected      time.Duration
	sums          history.Sums // of the whole scene so far
	inside, after *load.Figures
	recovery      time.Duration // to the allows, by the worst replica and part of Redis
	recovered     bool
	moved         time.Duration // until Redis itself had its last new master, by a fault that Redis heals itself; zero: it had none
	opened        int64         // connections to Redis, from Inject to the recovery
	before, later []usage
	lag           time.Duration // the longest stall of the machine
	stalled       float64       // the part of the time in which the machine stood still
	failed        []string      // why the run fails
	void          bool          // what went wrong comes of the machine, which stood still until Redis had failed over
}

const (
	// margin is how long before a failover Redis may lose what it has acknowledged: what its
	// replicas had not got yet.
	margin = time.Second
	// steady is for how long allows must go on to count as a recovery.
	steady = 400 * time.Millisecond
	// afterMaster is how long after Redis has a new master Coatcheck must have found it.
	afterMaster = 300 * time.Millisecond
	// aftermath is how long answers are counted once all has recovered.
	aftermath = 1200 * time.Millisecond
)

// suffer has a fault happen to a scene, and waits until it is over.
func (s *scene) suffer(ctx context.Context, f stage.Fault, r *rand.Rand) (*result, error) {
	res := &result{fault: f, setting: s.setting}
	if err := s.begin(res); err != nil {
		return nil, err
	}
	s.elections(ctx, true)
	opened := s.stage.Opened()
	lag, _ := s.load.Lag()
	over := s.declare(f, s.load.Now)
	s.accompany(f.Load)
	s.load.Phase()
	s.load.Watch()
	moved := s.watchMoves(ctx, f)
	defer moved(0)
	injected := s.load.Now()
	res.injected = injected
	heal, err := f.Inject(ctx, s.stage, r)
	if err != nil {
		return nil, fmt.Errorf("%s: injecting: %w", f.Name, err)
	}
	pause(ctx, f.For)
	res.inside = s.load.Phase()
	s.accompany(stage.Even)
	if err := heal(); err != nil {
		return nil, fmt.Errorf("%s: healing: %w", f.Name, err)
	}
	from := s.load.Now()
	if f.FromStart {
		from = injected
	}
	res.recovery, res.recovered = s.awaitRecovery(ctx, from, max(tenTimes*f.Bound, 10*time.Second))
	if at := moved(from + res.recovery); at > 0 {
		res.moved = at - injected
	}
	res.opened = s.stage.Opened() - opened
	if err := s.stage.Settle(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	pause(ctx, steady)
	s.elections(ctx, !f.Loss && !f.FromStart)
	over()
	if err := s.lookAfter(ctx, res); err != nil {
		return nil, err
	}
	s.elections(ctx, true)
	total, worst := s.load.Lag()
	res.lag, res.stalled = worst, (total-lag).Seconds()/(s.load.Now()-injected).Seconds()
	res.failed = append(res.failures(), s.grown(res)...)
	res.void = s.usurped && res.busy() && res.sums.Wrong() > 0
	s.usurped = false // the sweep has found what it has cost
	return res, nil
}

// begin does what must not happen within a fault, and notes what the servers use before it.
func (s *scene) begin(res *result) (err error) {
	if res.fault.Apart {
		if _, err := s.setting.clock.binary(); err != nil {
			return err
		}
	}
	if res.before, err = s.usages(); err != nil {
		return err
	}
	if s.first == nil {
		s.first = res.before
	}
	return nil
}

// watchMoves notes when Redis has a new master, where Redis is to heal a fault itself, and
// returns what ends that and tells the last such moment until the one given; zero: there was
// none. What Redis moves twice, as Sentinels do that a new master does not answer in time
// under the storm of connections, is healed by the second.
func (s *scene) watchMoves(ctx context.Context, f stage.Fault) (end func(until time.Duration) time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	var moves []time.Duration
	var watching sync.WaitGroup
	if f.FromStart {
		watching.Go(func() { s.stage.Moves(ctx, func() { moves = append(moves, s.load.Now()) }) })
	}
	return func(until time.Duration) (last time.Duration) {
		cancel()
		watching.Wait()
		for _, at := range moves {
			if at <= until || last == 0 { // a client may believe the first Sentinel that names it
				last = at
			}
		}
		return last
	}
}

// elections notes how many there were, and whether one was held that must not have been. A
// stage that does not tell has fewer than before, which says nothing.
func (s *scene) elections(ctx context.Context, quiet bool) {
	n, _ := s.stage.Elections(ctx)
	s.usurped = s.usurped || quiet && s.reign > 0 && n > s.reign
	s.reign = max(n, s.reign)
}

// declare tells the history what a fault may do without a server being wrong, and returns
// what ends that. Of the replicas only the one that the fault has drawn may fail.
func (s *scene) declare(f stage.Fault, now func() time.Duration) (over func()) {
	var ends []func(time.Duration)
	if f.Loss {
		ends = append(ends, s.history.Lose(now()-margin, slices.Contains(f.Rows, "F5")))
	}
	s.stage.Drawn = nil
	if f.Down {
		s.stage.Drawn = func(i int) { ends = append(ends, s.history.Down(i, now())) }
	}
	return func() {
		for _, end := range ends {
			end(now())
		}
	}
}

func (s *scene) accompany(l stage.Load) {
	s.load.Herd(l == stage.Herd)
	s.load.Cancels(l == stage.Cancels)
}

// awaitRecovery waits until every replica allows again, for good. It returns when that
// began, since from; zero where there was no outage, or none any more at from.
func (s *scene) awaitRecovery(ctx context.Context, from, longest time.Duration) (time.Duration, bool) {
	begin, quiet := s.load.Now(), s.load.Now()
	for ctx.Err() == nil && s.load.Now()-begin < longest {
		pause(ctx, 10*time.Millisecond)
		down, up := s.load.Outage()
		if down {
			quiet = s.load.Now()
		} else if s.load.Now()-quiet > steady {
			return max(0, up-from), true
		}
	}
	return s.load.Now() - from, false
}

// lookAfter counts what clients get once all has recovered, asks for every session, and
// judges the run.
func (s *scene) lookAfter(ctx context.Context, res *result) error {
	for range tenTimes { // a busy machine refuses some, too; a failure goes on
		s.load.Phase()
		pause(ctx, aftermath)
		res.after = s.load.Phase()
		if refused, all := res.refusedAfter(); all > 0 && refused*10 <= all || ctx.Err() != nil {
			break
		}
	}
	s.load.Sweep()
	pause(ctx, 50*time.Millisecond) // the meter takes the last answers
	res.later = s.awaitRelease(ctx, res.before)
	res.sums = s.history.Sums()
	return ctx.Err()
}

// awaitRelease waits until the replicas use no more than a fault leaves behind, for up to 5 s.
func (s *scene) awaitRelease(ctx context.Context, before []usage) (later []usage) {
	for range 50 {
		var err error
		if later, err = s.usages(); err == nil && len(leaks(s.setting.stage.Kind, before, later)) == 0 {
			break
		}
		pause(ctx, 100*time.Millisecond)
	}
	return later
}

// busy reports whether the machine was too busy for times to say anything of Coatcheck: for
// more than a tenth of the time it did not let even the load run. Verdicts count all the same.
func (r *result) busy() bool { return r.stalled > 0.1 }

// failures says what is wrong with a run: any wrong verdict, any leak, and a figure ten
// times beyond its bound.
func (r *result) failures() (failed []string) {
	for rule, n := range r.sums.Violations {
		if rule == history.Late && r.busy() {
			continue
		}
		failed = append(failed, fmt.Sprintf("%d x %s", n, rule))
	}
	failed = append(failed, leaks(r.setting.stage.Kind, r.before, r.later)...)
	if r.after.Alive[history.Allowed] == 0 && r.stalled < 0.5 { // for twelve seconds: that is no lag
		return append(failed, "no live session was allowed after the recovery")
	}
	if !r.busy() {
		failed = append(failed, r.tooLong()...)
	}
	return failed
}

// tooLong says which figures are ten times beyond their bounds.
func (r *result) tooLong() (failed []string) {
	add := func(is bool, format string, args ...any) {
		if is {
			failed = append(failed, fmt.Sprintf(format, args...))
		}
	}
	add(!r.recovered, "no recovery within %v", r.recovery.Round(time.Millisecond))
	add(r.recovery > tenTimes*r.fault.Bound, "recovery took %v, ten times the bound is %v", r.recovery.Round(time.Millisecond), tenTimes*r.fault.Bound)
	add(r.inside.Latency.Quantile(.99) > tenTimes*p99Answer, "p99 %v", r.inside.Latency.Quantile(.99))
	// What a stopped replica answers late, it does not owe to Redis.
	add(!r.fault.Down && !r.fault.Part && r.inside.KnownDown.Quantile(.5) > tenTimes*downAnswer, "a known-down answer takes %v", r.inside.KnownDown.Quantile(.5))
	refused, checks := r.refusedAfter()
	add(refused*10 > checks, "after the recovery %d of %d live sessions were refused", refused, checks)
	add(r.inside.Unsent > 0 && !r.fault.Down, "%d checks were not sent: too many were under way", r.inside.Unsent)
	return failed
}

// refusedAfter is how many checks of live sessions were refused after the recovery, of how
// many.
func (r *result) refusedAfter() (refused, all int) {
	refused = r.after.Alive[history.Unavailable] + r.after.Alive[history.Failed]
	return refused, refused + r.after.Alive[history.Allowed]
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
