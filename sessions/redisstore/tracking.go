package redisstore

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
)

// A Listener hears what happens to session records. A nearcache.Cache is one.
type Listener interface {
	// Invalidate says that a record has changed, has ended, or is gone. It is called from
	// several goroutines, and never for a change that an earlier call of Alive has
	// answered for.
	Invalidate(key sessions.Key)
	// Alive says that every change was told that Redis had made until sent.
	Alive(sent time.Time)
	// Flush says that changes may be missed from now on, until the next Alive, and
	// why: lost, silent, flushed (all records are gone) or moved (another server has
	// them). It is not called at the same time as Alive.
	Flush(why string)
}

const (
	lost    = "lost"
	silent  = "silent"
	flushed = "flushed"
	moved   = "moved"
)

const (
	// beats are the questions in one lease.
	beats = 4
	// retrackMin and retrackMax are the pauses between attempts to track, and
	// retrackRefused the one after Redis has refused it: each try leaves an entry in its
	// ACL log.
	retrackMin     = 20 * time.Millisecond
	retrackMax     = time.Second
	retrackRefused = 10 * time.Second
)

// Track has every master tell l which session records change, and returns when ctx is
// done. For each master it keeps one connection beside the pool: made with the dialer, the
// TLS and the password of the client, and in RESP3, which brings the messages of CLIENT
// TRACKING in BCAST mode. Redis then keeps no list of keys, and a read costs it nothing
// more.
//
// Four times in a lease, it asks each master a question that says more than that the
// connection stands: that the server is a master still (ROLE), or on a Cluster that it
// serves, and that the masters are those that are tracked (CLUSTER INFO, CLUSTER NODES);
// with Sentinels, it asks also these, of which one must answer, and no Sentinel may name another
// master. A master that does not answer for the lease, an error, or another answer end
// tracking everywhere; it then begins anew. So it does when the connections are as old as
// the client's may be: the address may lead to another Redis meanwhile.
//
// The user needs the rights that docs/near-cache.md lists. Without them Track says a notice, and tries again each
// ten seconds.
func (s *Store) Track(ctx context.Context, l Listener, lease time.Duration) {
	t := &tracker{store: s, listener: l, lease: lease}
	pause := retrackMin
	for ctx.Err() == nil {
		began := time.Now()
		err := t.run(ctx)
		pause = min(2*pause, retrackMax)
		switch {
		case errors.As(err, new(untrackable)):
			pause = retrackRefused
		case t.stood && time.Since(began) > lease:
			pause = retrackMin
		}
		sleep(ctx, pause)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// A tracker is what Track knows.
type tracker struct {
	store    *Store
	listener Listener
	lease    time.Duration
	stood    bool // tracking, in the last run
}

// A loss ends a run.
type loss struct {
	why string
	err error
}

func (l loss) Error() string {
	if l.err == nil {
		return l.why
	}
	return l.why + ": " + l.err.Error()
}
func (l loss) Unwrap() error { return l.err }

// reasonOf is why a run has ended.
func reasonOf(err error) string {
	var l loss
	switch {
	case errors.As(err, &l):
		return l.why
	case timedOut(err):
		return silent
	}
	return lost
}

// run tracks all masters until one of them is lost.
func (t *tracker) run(ctx context.Context) error {
	t.stood = false
	ctx, end := context.WithCancelCause(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer end(nil)
	place, err := t.store.place(ctx, t.lease)
	if err != nil {
		t.store.sayUntracked(err)
		return err
	}
	defer place.close()
	sent := time.Now()
	conns, err := t.open(ctx, place)
	defer func() { // before the readers are waited for, who end by it
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	if err != nil {
		t.store.sayUntracked(err)
		return err
	}
	t.store.notices.Over(notice.NearCacheOff)
	for _, c := range conns {
		reading.Go(func() { end(c.read(t.listener)) })
	}
	t.stood = true
	err = t.beat(ctx, place, conns, sent)
	t.listener.Flush(reasonOf(err)) // before all else
	return err
}

// open connects to each master, and has it track.
func (t *tracker) open(ctx context.Context, p *place) (conns []*trackingConn, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(t.lease, time.Second))
	defer cancel()
	for _, master := range p.masters {
		c, err := openTracking(ctx, master.Options(), t.lease, len(p.questions) > 1)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// beat asks each master again and again, and tells the listener when all have answered.
// The first time tells nothing but that tracking stands since sent.
func (t *tracker) beat(ctx context.Context, p *place, conns []*trackingConn, sent time.Time) error {
	ticker := time.NewTicker(t.lease / beats)
	defer ticker.Stop()
	ids := make(map[string]bool, len(conns))
	end := replaceAt(p.masters[0].Options(), time.Now())
	for first := true; ; first = false {
		if !first {
			sent = time.Now()
		}
		for _, c := range conns {
			if err := c.ask(p.questions); err != nil {
				return err
			}
		}
		for _, c := range conns {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case answer := <-c.answers:
				if err := p.agrees(answer, ids); err != nil {
					return err
				}
			}
		}
		until, err := p.moved(ids, sent)
		if err != nil {
			return err
		}
		if !end.IsZero() && time.Now().After(end) {
			return loss{lost, errors.New("the connection is as old as those of the pool may be")}
		}
		t.listener.Alive(until)
		clear(ids)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// sayUntracked says what Redis will not do; a Redis that does not answer is another
// matter.
func (s *Store) sayUntracked(err error) {
	var u untrackable
	if !errors.As(err, &u) {
		return
	}
	attrs := []slog.Attr{slog.String("why", u.what)}
	if len(u.missing) > 0 {
		attrs = append(attrs, slog.Any("missing", u.missing))
	}
	s.notices.Say(notice.NearCacheOff, attrs...)
}
