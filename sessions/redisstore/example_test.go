package redisstore_test

import (
	"context"
	"fmt"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A store in the Redis at one address.
func ExampleAt() {
	server, err := redistest.New() // in your program: the Redis that you have
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	config := redisstore.At(server.Addr)
	config.Password, config.ReadTimeout = redistest.Password, 10*time.Second // or PasswordFile
	client, err := redisstore.NewClient(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	manager, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, session, err := manager.Create(context.Background(), sessions.NewSession{UserID: "42"})
	fmt.Println(session.UserID, err)
	// Output: 42 <nil>
}
