package memstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/memstore"
	"github.com/coatcheck/coatcheck/sessions/throttle"
)

var (
	_ sessions.Store    = (*memstore.Store)(nil)
	_ throttle.Counters = (*memstore.Counters)(nil)
)

// A test lets half an hour pass.
func Example() {
	clock := new(memstore.Clock)
	store := memstore.New(memstore.Config{Clock: clock, Limit: memstore.DefaultLimit})
	manager, err := sessions.NewManager(store, sessions.Config{Clock: clock})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	id, session, err := manager.Create(ctx, sessions.NewSession{UserID: "42"})
	if errors.Is(err, memstore.ErrFull) {
		fmt.Println("more sessions than Config.Limit")
	}
	fmt.Println(session.UserID, err, manager.Now().Sub(clock.Now()).Abs() < time.Minute, clock.Elapsed() > 0)

	clock.Advance(31 * time.Minute)
	_, err = manager.Touch(ctx, id)
	fmt.Println(err, sessions.Absent(err))
	// Output:
	// 42 <nil> true true
	// session not found true
}

// A directory is the users of a test.
type directory struct{}

func (directory) Authenticate(_ context.Context, username, password string) (login.User, error) {
	if username != "ada" || password != "correct horse" {
		return login.User{}, login.ErrBadCredentials
	}
	return login.User{ID: "42", Username: "ada"}, nil
}

// A whole login, without Redis: the sixth wrong password has to wait.
func ExampleNewCounters() {
	clock := new(memstore.Clock)
	config := memstore.Config{Clock: clock}
	manager, err := sessions.NewManager(memstore.New(config), sessions.Config{Clock: clock})
	if err != nil {
		fmt.Println(err)
		return
	}
	counters := memstore.NewCounters(config)
	handler, err := login.New(login.Config{Users: directory{}, Sessions: manager, Counters: counters})
	if err != nil {
		fmt.Println(err)
		return
	}
	post := func(password string) int {
		form := url.Values{"username": {"ada"}, "password": {password}}
		r := httptest.NewRequest(http.MethodPost, "/.auth/login", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	for range 6 {
		fmt.Print(post("hunter2"), " ")
	}
	clock.Advance(time.Minute)
	fmt.Println(post("correct horse"))
	// Output: 401 401 401 401 401 429 303
}

// What login asks of counters.
func ExampleCounters() {
	counters := memstore.NewCounters(memstore.Config{})
	ctx, rule := context.Background(), throttle.Counter{Key: "a", Free: 1, First: time.Minute, Longest: time.Hour}
	wait, err := counters.Count(ctx, rule)
	fmt.Println(wait, err)
	wait, err = counters.Count(ctx, rule)
	fmt.Println(wait > 30*time.Second, err)
	fmt.Println(counters.Return(ctx, rule), counters.Clear(ctx, "a"), counters.Mark(ctx, "b", time.Hour))
	// Output:
	// 0s <nil>
	// true <nil>
	// <nil> <nil> <nil>
}
