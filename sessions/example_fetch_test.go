package sessions_test

import (
	"context"
	"fmt"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/memstore"
)

// A cache renews what it holds: it knows keys, and no IDs.
func ExampleManager_Fetch() {
	m, _ := sessions.NewManager(memstore.New(memstore.Config{}), sessions.Config{})
	ctx := context.Background()
	id, _, _ := m.Create(ctx, sessions.NewSession{UserID: "42", Fields: map[string]string{"tenant": "acme"}})
	session, left, err := m.Fetch(ctx, id.Key(), sessions.Fetch{Slide: true, Fields: []string{"tenant"}})
	fmt.Println(session.UserID, session.Fields["tenant"], left >= m.Config().IdleTimeout, m.Unexpired(session), err)
	// Output: 42 acme true true <nil>
}

func ExampleFetch() {
	fmt.Println(sessions.Fetch{Fields: []string{"tenant"}}.Slide)
	// Output: false
}

// A program that waits for the ends of sessions asks when to look again.
func ExampleManager_Lifetimes() {
	m, _ := sessions.NewManager(memstore.New(memstore.Config{}), sessions.Config{})
	ctx := context.Background()
	id, _, _ := m.Create(ctx, sessions.NewSession{UserID: "42"})
	lifetimes, err := m.Lifetimes(ctx, id.Key(), sessions.NewID().Key())
	fmt.Println(lifetimes[0].Left > 29*time.Minute, lifetimes[1].Err, err)
	// Output: true session not found <nil>
}

func ExampleLifetime() {
	gone := sessions.Lifetime{Err: sessions.ErrNotFound}
	fmt.Println(sessions.Absent(gone.Err))
	// Output: true
}

// The hash of a key is that of the ID.
func ExampleKey_Sum() {
	id := sessions.NewID()
	sum, ok := id.Key().Sum()
	fmt.Println(ok, sum == id.Sum())
	// Output: true true
}

func ExampleID_Sum() {
	id := sessions.NewID()
	fmt.Println(sessions.KeyOf(id.Sum()) == id.Key())
	// Output: true
}

func ExampleKeyOf() {
	id := sessions.NewID()
	fmt.Println(sessions.KeyOf(id.Sum()) == id.Key())
	// Output: true
}

func ExampleManager_Unexpired() {
	m, _ := sessions.NewManager(memstore.New(memstore.Config{}), sessions.Config{})
	_, session, _ := m.Create(context.Background(), sessions.NewSession{UserID: "42"})
	fmt.Println(m.Unexpired(session))
	// Output: true
}
