package redisstore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// scanCount is how many keys Redis looks at in one step of a SCAN: enough for
// few round trips, few enough to keep no call waiting.
const scanCount = 1000

// errEnough ends a scan that has found what it was asked for.
var errEnough = errors.New("enough")

// Find scans the keys of every master. Only people who type handles cause it.
func (s *Store) Find(ctx context.Context, prefix string, limit int) (_ []sessions.Key, err error) {
	ctx, call := s.metrics.find.begin(ctx)
	defer call.done(&err)
	var mu sync.Mutex
	found := make(map[sessions.Key]bool) // SCAN may name a key twice
	visit := func(ctx context.Context, node redis.Cmdable) error {
		keys := node.Scan(ctx, 0, sessions.KeyPrefix+prefix+"*", scanCount).Iterator()
		for keys.Next(ctx) {
			key, err := sessions.ParseKey(keys.Val())
			if err != nil {
				continue // a key of another program
			}
			mu.Lock()
			found[key] = true
			full := len(found) >= limit
			mu.Unlock()
			if full {
				return errEnough
			}
		}
		return keys.Err()
	}
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return visit(ctx, node)
		})
	} else {
		err = visit(ctx, s.client)
	}
	if err != nil && !errors.Is(err, errEnough) {
		return nil, needsScan(err)
	}
	keys := slices.Sorted(maps.Keys(found))
	return keys[:min(limit, len(keys))], nil
}
