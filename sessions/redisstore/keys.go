package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Keys is how many keys Redis has in the database of the client, on all masters of a
// Cluster, as INFO keyspace says, which costs Redis nothing. They are sessions, a listing
// for each user who has had some lately, and marks of revocations, counters of attempts
// and all else that is in the database.
func (s *Store) Keys(ctx context.Context) (int64, error) {
	masters, err := s.masters(ctx)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, master := range masters {
		info, err := master.Info(ctx, "keyspace").Result()
		if err != nil {
			return 0, err
		}
		n, err := keysIn(info, s.database())
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// database is the number of the client's; a Cluster has only 0.
func (s *Store) database() int {
	if client, ok := s.client.(*redis.Client); ok {
		return client.Options().DB
	}
	return 0
}

var errNoKeyspace = errors.New("the reply to INFO keyspace makes no sense")

// keysIn reads a line such as db0:keys=5,expires=5,avg_ttl=0. An empty database has none.
func keysIn(info string, database int) (n int64, err error) {
	if !strings.Contains(info, "# Keyspace") {
		return 0, errNoKeyspace
	}
	for line := range strings.Lines(info) {
		if rest, ok := strings.CutPrefix(line, fmt.Sprintf("db%d:", database)); ok {
			if _, err := fmt.Sscanf(rest, "keys=%d", &n); err != nil || n < 0 {
				return 0, errNoKeyspace
			}
		}
	}
	return n, nil
}
