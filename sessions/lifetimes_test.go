package sessions_test

import (
	"errors"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/memstore"
)

// TestLifetimes: the earlier of both limits counts, the verdicts are those of Touch, and no
// session is slid.
func TestLifetimes(t *testing.T) {
	t.Parallel()
	clock := new(memstore.Clock)
	config := sessions.Config{IdleTimeout: 10 * time.Minute, AbsoluteTimeout: 25 * time.Minute, Clock: clock}
	m, err := sessions.NewManager(memstore.New(memstore.Config{Clock: clock}), config)
	if err != nil {
		t.Fatal(err)
	}
	id, s, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	look := func(least, most time.Duration, want error) {
		t.Helper()
		got, err := m.Lifetimes(t.Context(), s.Key)
		if err != nil || len(got) != 1 || !errors.Is(got[0].Err, want) || got[0].Left < least || got[0].Left > most {
			t.Fatalf("%+v, %v: want %v to %v, %v", got, err, least, most, want)
		}
	}
	look(10*time.Minute, 11*time.Minute, nil)
	clock.Advance(9 * time.Minute)
	look(time.Minute, 2*time.Minute, nil)
	if _, err := m.Touch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	look(10*time.Minute, 11*time.Minute, nil)
	clock.Advance(9 * time.Minute)
	if _, err := m.Touch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	look(6*time.Minute, 7*time.Minute, nil) // the absolute timeout
	clock.Advance(7 * time.Minute)
	look(0, 0, sessions.ErrExpired)
	clock.Advance(10 * time.Minute)
	look(0, 0, sessions.ErrNotFound)
}
