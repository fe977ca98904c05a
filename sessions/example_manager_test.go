package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// openStore starts a Redis; your program has one.
func openStore() (store sessions.Store, closeStore func()) {
	server, err := redistest.New()
	if err != nil {
		log.Fatal(err)
	}
	client, err := redisstore.NewClient(redisstore.ClientConfig{
		UniversalOptions: redis.UniversalOptions{Addrs: []string{server.Addr}, Password: redistest.Password, ReadTimeout: 10 * time.Second},
	})
	if err != nil {
		log.Fatal(err)
	}
	return redisstore.New(client, redisstore.Config{}), func() { _ = client.Close(); server.Close() }
}

// Where the users are signed in, and signing them out.
func ExampleManager() {
	store, closeStore := openStore()
	defer closeStore()
	config := sessions.Config{IdleTimeout: time.Hour, AbsoluteTimeout: min(24*time.Hour, sessions.MaxTimeout)}
	if err := config.Validate(); err != nil {
		log.Fatal(err)
	}
	var manager *sessions.Manager
	manager, err := sessions.NewManager(store, config)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := manager.SyncClock(ctx); err != nil { // a server repeats it
		log.Fatal(err)
	}
	fmt.Println(manager.ClockSynced(), time.Since(manager.Now()).Abs() < time.Minute)

	_, s, err := manager.Create(ctx, sessions.NewSession{UserID: "42", Fields: map[string]string{"tenant": "acme"}})
	if err != nil {
		log.Fatal(err)
	}
	found, err := manager.Lookup(ctx, s.Key) // does not slide
	fmt.Println(found.UserID, len(found.Fields), err)
	whole, err := manager.Inspect(ctx, s.Key) // with every application field
	fmt.Println(whole.Fields["tenant"], err)
	key, err := manager.Resolve(ctx, s.Key.Handle(), "")
	fmt.Println(key == s.Key, err)
	n, err := manager.RevokeUser(ctx, "42")
	fmt.Println(n, "ended", err)

	// Output:
	// true true
	// 42 0 <nil>
	// acme <nil>
	// true <nil>
	// 1 ended <nil>
}

// Errors that say that the client is not signed in, and those that do not.
func ExampleManager_Touch() {
	store, closeStore := openStore()
	defer closeStore()
	manager, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = manager.Touch(context.Background(), sessions.NewID())
	switch {
	case err == nil:
		fmt.Println("signed in")
	case errors.Is(err, sessions.ErrNotFound), errors.Is(err, sessions.ErrExpired), errors.Is(err, sessions.ErrBroken):
		fmt.Println("not signed in: 401")
	case errors.Is(err, sessions.ErrLayout):
		fmt.Println("a record of a newer version: 503")
	default:
		fmt.Println("unknown: 503")
	}
	// Output: not signed in: 401
}

// What Add, Create and Resolve refuse.
func ExampleManager_Add() {
	store, closeStore := openStore()
	defer closeStore()
	manager, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	_, s, err := manager.Create(ctx, sessions.NewSession{UserID: "42"})
	if errors.Is(err, sessions.ErrEnded) {
		fmt.Println("all sessions of the user were ended meanwhile")
	}
	_ = manager.Add(ctx, s.Key, map[string]string{"cart": "apples"})
	err = manager.Add(ctx, s.Key, map[string]string{"cart": "pears"})
	fmt.Println(errors.Is(err, sessions.ErrFieldExists))
	err = manager.Add(ctx, s.Key, map[string]string{sessions.FieldRoles: "[]"})
	fmt.Println(errors.Is(err, sessions.ErrReserved), errors.Is(sessions.ValidateFieldName("cart"), nil))
	key, err := manager.Resolve(ctx, s.Key.Handle()[:6], "42")
	if errors.Is(err, sessions.ErrHandleAmbiguous) {
		fmt.Println("two handles begin so")
	}
	fmt.Println(key == s.Key)
	// Output:
	// true
	// true true
	// true
}

// A program that reads records by itself.
func ExampleRecord_Decode() {
	id := sessions.NewID()
	record := sessions.Record{
		sessions.FieldVersion: sessions.LayoutVersion, sessions.FieldUserID: "42", sessions.FieldUsername: "Ada",
		sessions.FieldRoles: `["staff"]`, sessions.FieldCreatedAt: "2026-07-01T08:00:00Z", sessions.FieldExpiresAt: "2026-07-01T20:00:00Z",
		sessions.FieldAddress: "192.0.2.1", sessions.FieldUserAgent: "curl/8", "tenant": "acme",
	}
	s, err := record.Decode(id.Key())
	fmt.Println(s.Username, s.Roles, s.ExpiresAt, err)
	delete(record, sessions.FieldUserID)
	_, err = record.Decode(id.Key())
	fmt.Println(errors.Is(err, sessions.ErrBroken))
	// Output:
	// Ada [staff] 2026-07-01 20:00:00 +0000 UTC <nil>
	// true
}

// Sizes that a login keeps to.
func ExampleNewSession() {
	store, closeStore := openStore()
	defer closeStore()
	manager, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		log.Fatal(err)
	}
	for _, n := range []sessions.NewSession{
		{UserID: strings.Repeat("x", sessions.MaxUserID+1)},
		{UserID: "42", Roles: make([]string, sessions.MaxRoles+1)},
		{UserID: "42", Roles: []string{strings.Repeat("x", sessions.MaxRole+1)}},
		{UserID: "42", UserAgent: strings.Repeat("x", sessions.MaxUserAgent+1)},
		{UserID: "42", Fields: map[string]string{strings.Repeat("x", sessions.MaxFieldName+1): ""}},
		{UserID: "42", Fields: map[string]string{"x": strings.Repeat("x", sessions.MaxFieldValue+1)}},
	} {
		_, _, err := manager.Create(context.Background(), n)
		fmt.Println(err != nil)
	}
	list, _, err := manager.List(context.Background(), "42")
	fmt.Println(len(list) <= sessions.MaxListed, err)
	// Output:
	// true
	// true
	// true
	// true
	// true
	// true
	// true <nil>
}

// A stopped clock, for tests.
type stopped struct{}

func (stopped) Now() time.Time         { return time.Unix(1_800_000_000, 0) }
func (stopped) Elapsed() time.Duration { return 0 }

// A test chooses the clock of the machine.
func ExampleClock() {
	store, closeStore := openStore()
	defer closeStore()
	var clock sessions.Clock = stopped{}
	manager, err := sessions.NewManager(store, sessions.Config{Clock: clock})
	fmt.Println(manager.Now().UTC(), err)
	// Output: 2027-01-15 08:00:00 +0000 UTC <nil>
}

// A counted store is one with something around it; embed the other methods.
type counted struct {
	sessions.Store
	creates, reads int
}

func (c *counted) Create(ctx context.Context, p sessions.CreateParams) (int, error) {
	c.creates++
	return c.Store.Create(ctx, p)
}

func (c *counted) Read(ctx context.Context, names []string, keys ...sessions.Key) ([]sessions.Entry, error) {
	c.reads++
	return c.Store.Read(ctx, names, keys...)
}

func (c *counted) List(ctx context.Context, userID string, names []string, n int) ([]sessions.Listed, int, error) {
	return c.Store.List(ctx, userID, names, n)
}

// A store that counts its calls.
func ExampleStore() {
	store, closeStore := openStore()
	defer closeStore()
	c := &counted{Store: store}
	manager, err := sessions.NewManager(c, sessions.Config{})
	if err != nil {
		log.Fatal(err)
	}
	_, s, _ := manager.Create(context.Background(), sessions.NewSession{UserID: "42"})
	_, err = manager.Lookup(context.Background(), s.Key)
	fmt.Println(c.creates, c.reads, err)
	// Output: 1 1 <nil>
}
