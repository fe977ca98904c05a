package watching_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api/internal/watching"
)

// A pretence is a source of one session, whose reads a test holds up.
type pretence struct {
	gone atomic.Bool
	away atomic.Bool    // it does not answer
	hold chan chan bool // takes a channel: the next read waits for it, after it has seen the record
}

func (p *pretence) Lifetimes(ctx context.Context, keys ...sessions.Key) ([]sessions.Lifetime, error) {
	if p.away.Load() {
		return nil, context.DeadlineExceeded
	}
	lifetimes, _ := forever{}.Lifetimes(ctx, keys...)
	if p.gone.Load() {
		for i := range lifetimes {
			lifetimes[i].Err = sessions.ErrNotFound
		}
	}
	select {
	case wait := <-p.hold:
		wait <- true
		<-wait
	default:
	}
	return lifetimes, nil
}

// held has the next read wait, and returns what waits for it to have begun, and ends it.
func (p *pretence) held() (began, end func()) {
	wait := make(chan bool)
	p.hold <- wait
	return func() { <-wait }, func() { wait <- true }
}

func pretend(t *testing.T, config watching.Config) (*watching.Hub, *pretence) {
	t.Helper()
	p := &pretence{hold: make(chan chan bool, 1)}
	hub, err := watching.New(p, config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { hub.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return hub, p
}

func opened(t *testing.T, hub *watching.Hub, key sessions.Key) *watching.Stream {
	t.Helper()
	s, err := hub.Open("caller", []sessions.Key{key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestReadBeforeTracking: a read that began before tracking did is not believed: the session
// may have ended between the two, unheard.
func TestReadBeforeTracking(t *testing.T) {
	t.Parallel()
	hub, p := pretend(t, watching.Config{Patience: time.Hour, Lease: time.Hour})
	began, end := p.held()
	s := opened(t, hub, sessions.NewID().Key())
	began()
	p.gone.Store(true)
	hub.Alive(time.Now())
	end()
	ends, err := next(s, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if len(ends) == 0 { // the first answer came before the second read
		told(t, s, 1)
	}
}

// TestReadBeforeOpening: a read that began before a stream was opened is not believed either:
// a revocation that was acknowledged before is in the first answer.
func TestReadBeforeOpening(t *testing.T) {
	t.Parallel()
	hub, p := pretend(t, watching.Config{Patience: time.Hour, Lease: time.Hour})
	hub.Alive(time.Now())
	key := sessions.NewID().Key()
	began, end := p.held()
	opened(t, hub, key)
	began()
	p.gone.Store(true)
	late := opened(t, hub, key)
	end()
	if ends, err := next(late, 30*time.Second); err != nil || len(ends) != 1 {
		t.Errorf("the first answer: %v, %v", ends, err)
	}
}

// TestLapsed: a process that was stopped for longer than two leases reads all sessions again,
// also where the connection has outlived that: the timers have not.
func TestLapsed(t *testing.T) {
	t.Parallel()
	hub, p := pretend(t, watching.Config{Patience: time.Hour, Lease: time.Minute})
	hub.Alive(time.Now())
	s := opened(t, hub, sessions.NewID().Key())
	if ends, err := next(s, 30*time.Second); err != nil || len(ends) > 0 {
		t.Fatalf("the first answer: %v, %v", ends, err)
	}
	p.gone.Store(true)
	hub.Alive(time.Now())
	quiet(t, s, 200*time.Millisecond) // of this no message told
	hub.Alive(time.Now().Add(-time.Hour))
	hub.Alive(time.Now())
	told(t, s, 1)
}

// TestPatienceOfEach: a session that is in doubt for too long ends its stream, also where one is
// to be read before it that has come into doubt later, so that it may wait for longer.
func TestPatienceOfEach(t *testing.T) {
	t.Parallel()
	const patience = 2 * time.Second
	hub, p := pretend(t, watching.Config{Patience: patience, Lease: time.Hour}) // changes are not told
	doubted := time.Now()
	open := func(key sessions.Key) *watching.Stream {
		s := opened(t, hub, key)
		if ends, err := next(s, 30*time.Second); err != nil || len(ends) > 0 {
			t.Fatalf("the first answer: %v, %v", ends, err)
		}
		return s
	}
	first, key := open(sessions.NewID().Key()), sessions.NewID().Key()
	time.Sleep(time.Until(doubted.Add(patience * 45 / 100))) // in a moment it is to be read again
	open(key)
	p.away.Store(true)
	hub.Invalidate(key) // which is to be read before it
	unavailable(t, first)
	if took := time.Since(doubted); took > patience*5/4 {
		t.Errorf("the stream ends after %v, and its patience is %v", took, patience)
	}
}
