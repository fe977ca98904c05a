package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A session from login to logout.
func Example() {
	server, err := redistest.New() // in your program: the Redis that you have
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := redisstore.NewClient(redisstore.ClientConfig{
		UniversalOptions: redis.UniversalOptions{Addrs: []string{server.Addr}, Password: redistest.Password, ReadTimeout: 10 * time.Second},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	manager, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()

	// Login: the ID goes into the cookie, and nowhere else.
	id, _, err := manager.Create(ctx, sessions.NewSession{UserID: "42", Username: "Ada", Roles: []string{"staff"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("an ID prints as", id)

	// Each request: who is it? And the session lives on.
	session, err := manager.Touch(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(session.Username, session.Roles)

	// A service adds what it wants to know again.
	if err := manager.Add(ctx, session.Key, map[string]string{"cart": "3 apples"}); err != nil {
		log.Fatal(err)
	}
	session, err = manager.Touch(ctx, id, "cart")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(session.Fields["cart"])

	// Logout. With redisstore.Config.WaitReplicas an end may be without its acknowledgements.
	err = manager.Revoke(ctx, session.Key)
	if errors.Is(err, sessions.ErrNotReplicated) {
		log.Print("signed out, but a failover of Redis could bring the session back")
	} else if err != nil {
		log.Fatal(err)
	}
	_, err = manager.Touch(ctx, id)
	fmt.Println(err, errors.Is(err, sessions.ErrNotFound))

	// Output:
	// an ID prints as [session ID]
	// Ada [staff]
	// 3 apples
	// session not found true
}

// After a change of password the user stays signed in here, and here only.
func ExampleManager_RevokeOthers() {
	server, err := redistest.New()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := redisstore.NewClient(redisstore.ClientConfig{
		UniversalOptions: redis.UniversalOptions{Addrs: []string{server.Addr}, Password: redistest.Password, ReadTimeout: 10 * time.Second},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	manager, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()

	var here *sessions.Session
	for range 3 {
		if _, here, err = manager.Create(ctx, sessions.NewSession{UserID: "42"}); err != nil {
			log.Fatal(err)
		}
	}
	ended, err := manager.RevokeOthers(ctx, here.Key)
	if err != nil {
		log.Fatal(err)
	}
	left, _, err := manager.List(ctx, "42")
	fmt.Println(ended, "ended,", len(left), "left", err)

	// Output: 2 ended, 1 left <nil>
}

// A store that revokes in several places: that one of them is unknown weighs more than that
// replicas of another have not acknowledged it.
func ExampleJoinRevocations() {
	away := errors.New("a master does not answer")
	fmt.Println(sessions.JoinRevocations(nil, sessions.ErrNotReplicated, away))
	fmt.Println(errors.Is(sessions.JoinRevocations(nil, sessions.ErrNotReplicated), sessions.ErrNotReplicated))
	fmt.Println(sessions.JoinRevocations(nil, nil))
	// Output:
	// a master does not answer
	// true
	// <nil>
}
