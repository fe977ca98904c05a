package redisstore_test

import (
	"context"
	"time"

	"github.com/coatcheck/coatcheck/sessions/nearcache"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A near cache is a Listener.
func ExampleStore_Track() {
	client, _ := redisstore.NewClient(redisstore.At("127.0.0.1:6379"))
	store := redisstore.New(client, redisstore.Config{})
	cache, _ := nearcache.New(nearcache.Config{})
	var listener redisstore.Listener = cache
	ctx, end := context.WithTimeout(context.Background(), time.Minute)
	defer end()
	go store.Track(ctx, listener, nearcache.DefaultLease)
}
