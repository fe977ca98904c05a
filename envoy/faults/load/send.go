package load

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/sessions"
)

const (
	// maxInFlight is how many checks may be under way: beyond that they are not sent.
	maxInFlight = 4000
	// step is how often checks are sent that are due.
	step = time.Millisecond
	// herdSize checks are sent at once in a herd, each herdEvery.
	herdSize, herdEvery = 300, 250 * time.Millisecond
)

// send sends checks at the rate until ctx ends, and waits for their answers.
func (l *Load) send(ctx context.Context) {
	var checks sync.WaitGroup
	defer checks.Wait()
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	begin, sent, nextHerd := l.now(), 0, time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		due := int((l.now() - begin).Seconds() * float64(l.config.Rate))
		if l.herd.Load() && l.now() > nextHerd {
			nextHerd = l.now() + herdEvery
			l.several(herdSize, &checks)
		}
		// After a stall not all that is due is sent at once: that would be a herd.
		n := min(due-sent, 1+l.config.Rate/50)
		sent = due
		l.several(n, &checks)
	}
}

func (l *Load) several(n int, checks *sync.WaitGroup) {
	for range n {
		if l.inFlight.Load() >= maxInFlight {
			l.mu.Lock()
			l.phase.Unsent++
			l.mu.Unlock()
			continue
		}
		if c, ok := l.draw(); ok {
			l.inFlight.Add(1)
			checks.Go(func() { l.check(c); l.inFlight.Add(-1) })
		}
	}
}

// A draft is a check that will be sent.
type draft struct {
	visitor *visitor // nil: a stranger
	session *history.Session
	message []byte
	route   history.Route
	replica int
	giveUp  time.Duration // zero: never
}

// draw decides what is sent next. It reports false where no replica is there.
func (l *Load) draw() (draft, bool) {
	d := draft{replica: l.random.IntN(len(l.targets))}
	for range l.targets {
		if !l.targets[d.replica].away.Load() {
			l.choose(&d)
			return d, true
		}
		d.replica = (d.replica + 1) % len(l.targets)
	}
	return d, false
}

// choose draws whose check it is, and on which route.
func (l *Load) choose(d *draft) {
	switch n := l.random.IntN(100); {
	case n < 70:
		d.route = history.Required
	case n < 85:
		d.route = history.Optional
	default:
		d.route = history.Role
	}
	form := l.random.IntN(forms)
	cookie := &l.templates.cookie[d.route][form]
	if l.cancels.Load() && l.random.IntN(10) < 8 {
		d.giveUp = time.Duration(1+l.random.IntN(20)) * time.Millisecond
	}
	switch n := l.random.IntN(100); {
	case n < 4:
		d.session, d.message = l.config.History.Stranger("(unknown ID)"), cookie.with(sessions.NewID().Reveal())
	case n < 7:
		d.session, d.message = l.config.History.Stranger("(malformed cookie)"), cookie.with(l.malformed[l.random.IntN(len(l.malformed))])
	case n < 9:
		d.session, d.message = l.config.History.Stranger("(no cookie)"), l.templates.bare[d.route][form].text
	case n < 21:
		d.visitor = l.people.asked(true)
	default:
		d.visitor = l.people.asked(false)
	}
	switch {
	case d.visitor != nil:
		d.session, d.message = d.visitor.history, cookie.with(d.visitor.id.Reveal())
	case d.session == nil: // no session is over yet
		d.session, d.message = l.config.History.Stranger("(no cookie)"), l.templates.bare[d.route][form].text
	}
}

// check sends a check, and has its answer judged once the lag of its time is known.
func (l *Load) check(d draft) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	if d.giveUp > 0 {
		ctx, cancel = context.WithTimeout(context.WithValue(context.Background(), givenUp{}, true), d.giveUp)
	}
	defer cancel()
	begin := l.now()
	asked := d.session.Ask(begin, history.Question{Route: d.route, Replica: d.replica})
	answer, whole := l.targets[d.replica].check(ctx, d.message)
	end := l.now()
	if !whole {
		asked.Cancel(end)
		l.mu.Lock()
		l.phase.GivenUp++
		l.mu.Unlock()
		return
	}
	l.meter.returned(returned{begin: begin, end: end, then: func(lag time.Duration) {
		l.count(d, begin, end, lag, answer)
		answer.Lag = lag
		asked.Answer(end, answer)
	}})
}

// count adds an answer to the figures, before the history learns from it.
func (l *Load) count(d draft, begin, end, lag time.Duration, a history.Answer) {
	alive := d.visitor != nil && d.session.Alive(begin, end)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase.add(begin, end, lag, a.Verdict, alive)
	if !alive || d.giveUp > 0 {
		return
	}
	at := place{d.replica, d.visitor.shard}
	if l.recovered[at] == nil {
		l.recovered[at] = new(recovery)
	}
	v := a.Verdict
	if v == history.Forbidden { // the session was found
		v = history.Allowed
	}
	l.recovered[at].see(end, v)
}

// Sweep asks each replica for each session that is known, and once more where it gets no
// verdict on the session. Call it after the recovery.
func (l *Load) Sweep() {
	var checks sync.WaitGroup
	defer checks.Wait()
	limit := make(chan struct{}, 16)
	for _, v := range l.people.all() {
		for replica, t := range l.targets {
			if t.away.Load() {
				continue
			}
			limit <- struct{}{}
			checks.Go(func() {
				l.check(draft{visitor: v, session: v.history, message: l.templates.cookie[history.Required][raw].with(v.id.Reveal()), replica: replica})
				<-limit
			})
		}
	}
}

// Present says whether Redis has the session with a handle now, for a report; empty where
// the session is not among those that are known.
func (l *Load) Present(ctx context.Context, handle string) string {
	for _, v := range l.people.all() {
		if v.key.Handle() != handle {
			continue
		}
		switch _, err := l.kinds[0].manager.Lookup(ctx, v.key); {
		case err == nil:
			return "Redis has it now"
		case errors.Is(err, sessions.ErrNotFound):
			return "Redis does not have it now"
		default:
			return "what Redis says of it now: " + err.Error()
		}
	}
	return ""
}
