package nearcache_test

import (
	"context"
	"fmt"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/memstore"
	"github.com/coatcheck/coatcheck/sessions/nearcache"
)

// A store that tells of changes says so by Alive; here the example does.
func Example() {
	cache, _ := nearcache.New(nearcache.Config{Lease: time.Minute})
	manager, _ := sessions.NewManager(cache.Store(memstore.New(memstore.Config{})), sessions.Config{})
	checks := cache.Sessions(manager)
	cache.Alive(time.Now())

	ctx := context.Background()
	id, _, _ := manager.Create(ctx, sessions.NewSession{UserID: "42"})
	_, _ = checks.Touch(ctx, id)
	_, near, _ := checks.Peek(id, nil)
	fmt.Println(near, cache.Stats().Entries)

	_ = manager.Revoke(ctx, id.Key())
	_, err := checks.Touch(ctx, id)
	fmt.Println(err)
	// Output:
	// true 1
	// session not found
}
