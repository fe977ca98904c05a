package foreign_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign"
	"github.com/coatcheck/coatcheck/sessions/foreign/express"
)

func TestExamples(t *testing.T) { docstest.Examples(t, "sessions/foreign") }

// oneRecord is a store with one session. Most programs have the one in redisstore.
type oneRecord struct{ id sessions.ID }

var _ foreign.Store = oneRecord{}

func (s oneRecord) Fetch(_ context.Context, id sessions.ID) (sessions.ForeignRecord, error) {
	if id != s.id {
		return sessions.ForeignRecord{}, sessions.ErrNotFound
	}
	return sessions.ForeignRecord{Value: []byte(`{"cookie":{},"user":{"id":42},"tenant":"acme"}`), TTL: 23 * time.Hour}, nil
}

func (oneRecord) Extend(_ context.Context, _ sessions.ID, lifetime time.Duration) error {
	fmt.Println("it lasts for", lifetime)
	return nil
}

func (s oneRecord) Find(context.Context, string, int) ([]sessions.ID, error) {
	return []sessions.ID{s.id}, nil
}

// A request is answered by one question, and the slide follows.
func Example() {
	format, err := express.New(express.Config{Secrets: []string{"keyboard cat"}, UserID: "user.id"})
	if err != nil {
		panic(err)
	}
	id, err := format.Parse("s:hzA1Fb15vkgDrCT7hR96BFYnxz1WUJZZ.LVMRLdx4soba3Z2xqt0dNhj99qHh61FGbf5N5TWrKJM")
	if err != nil {
		panic(err)
	}
	var found *foreign.Sessions
	found, err = foreign.New(oneRecord{id}, format, foreign.Config{Step: time.Minute})
	if err != nil {
		panic(err)
	}
	if _, err := found.Parse("s:forged.signature"); !errors.Is(err, sessions.ErrMalformed) {
		panic(err)
	}
	session, err := found.Touch(context.Background(), id, "tenant")
	found.Close() // waits for the slide
	fmt.Println(session.UserID, session.Fields, err)

	// People name it by its handle.
	named, err := found.Find(context.Background(), session.Key.Handle())
	if err != nil {
		panic(err)
	}
	looked, err := found.Lookup(context.Background(), named)
	fmt.Println(looked.IdleExpiresAt.IsZero(), err)
	whole, err := found.Inspect(context.Background(), named)
	fmt.Println(whole.Fields, len(found.Format().Place().Prefix) < foreign.MaxRecord, err)
	// Output:
	// it lasts for 24h0m0s
	// 42 map[tenant:acme] <nil>
	// false <nil>
	// map[tenant:acme] true <nil>
}

// slow is a store whose slides fail for a while.
type slow struct {
	oneRecord
	left time.Duration
	err  chan error
	done chan time.Duration
}

func (s *slow) Fetch(context.Context, sessions.ID) (sessions.ForeignRecord, error) {
	return sessions.ForeignRecord{Value: []byte(`{"cookie":{"originalMaxAge":100000},"user":{"id":42}}`), TTL: s.left}, nil
}

func (s *slow) Extend(ctx context.Context, _ sessions.ID, lifetime time.Duration) error {
	select {
	case err := <-s.err:
		if err == nil {
			s.done <- lifetime
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func newSlow(t *testing.T, left time.Duration) (*slow, *foreign.Sessions, sessions.ID) {
	t.Helper()
	format, err := express.New(express.Config{Secrets: []string{"s"}, UserID: "user.id"})
	if err != nil {
		t.Fatal(err)
	}
	id, err := sessions.ForeignID("abc")
	if err != nil {
		t.Fatal(err)
	}
	s := &slow{left: left, err: make(chan error, 64), done: make(chan time.Duration, 64)}
	found, err := foreign.New(s, format, foreign.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return s, found, id
}

// TestLostSlides: no verdict waits for a slide; one that fails is tried again; of many
// requests at once one slides; and after one that is lost the next request slides.
func TestLostSlides(t *testing.T) { synctest.Test(t, lostSlides) }

func lostSlides(t *testing.T) {
	s, found, id := newSlow(t, time.Second)
	defer found.Close()
	start := time.Now()
	for range 50 {
		if _, err := found.Touch(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took > 400*time.Millisecond { // less than one attempt
		t.Errorf("50 verdicts took %v beside a slide that hangs", took)
	}
	s.err <- errors.New("redis is away")
	s.err <- nil
	select {
	case lifetime := <-s.done:
		if lifetime != 100*time.Second {
			t.Errorf("it lasts %v", lifetime)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("a slide that failed is not tried again")
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) { // the former one ends
		if _, err := found.Touch(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		s.err <- nil
		select {
		case <-s.done:
		case <-time.After(50 * time.Millisecond):
			if time.Now().Before(deadline) {
				continue
			}
			t.Fatal("the next request does not slide")
		}
		break
	}
	if len(s.done) > 1 {
		t.Errorf("%d slides more", len(s.done))
	}
}

// TestLongStep: a session that is shorter than the step is slid, too.
func TestLongStep(t *testing.T) {
	s, found, id := newSlow(t, 40*time.Second) // of 100
	found.Close()
	found, err := foreign.New(s, found.Format(), foreign.Config{Step: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	s.err <- nil
	if _, err := found.Touch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	found.Close()
	if len(s.done) != 1 {
		t.Error("a session that is used ends")
	}
}

// TestCloseSlides: Close lets a slide under way end, and no longer than a second.
func TestCloseSlides(t *testing.T) { synctest.Test(t, closeSlides) }

func closeSlides(t *testing.T) {
	s, found, id := newSlow(t, time.Second)
	if _, err := found.Touch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { s.err <- nil })
	found.Close()
	if len(s.done) != 1 {
		t.Error("Close did not wait for the slide")
	}
	s, found, id = newSlow(t, time.Second)
	if _, err := found.Touch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	found.Close()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("Close took %v", took)
	}
	if _, err := found.Touch(t.Context(), id); err != nil {
		t.Errorf("a session after Close: %v", err)
	}
	if _, err := foreign.New(s, found.Format(), foreign.Config{Step: -1}); err == nil {
		t.Error("a negative step is good")
	}
}
