package redisstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// deleteRecords deletes the records and counts those that were there.
func (s *Store) deleteRecords(ctx context.Context, keys []sessions.Key) (int, error) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok || s.config.WaitReplicas == 0 {
		return s.deleteOn(ctx, s.client, keys)
	}
	// WAIT has no key to be routed by, so it must be sent to the master of each.
	n, errs := 0, []error(nil)
	for _, key := range keys {
		master, err := cluster.MasterForKey(ctx, string(key))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		deleted, err := s.deleteOn(ctx, master, []sessions.Key{key})
		n += deleted
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}

// deleteOn deletes in one pipeline, followed by WAIT on the same connection.
func (s *Store) deleteOn(ctx context.Context, client redis.Cmdable, keys []sessions.Key) (int, error) {
	p := client.Pipeline()
	deletes := make([]*redis.IntCmd, len(keys))
	for i, key := range keys {
		deletes[i] = p.Del(ctx, string(key))
	}
	var acknowledged *redis.IntCmd
	if s.config.WaitReplicas > 0 {
		acknowledged = redis.NewIntCmd(ctx, "wait", s.config.WaitReplicas, s.config.WaitTimeout.Milliseconds())
		_ = p.Process(ctx, acknowledged)
	}
	_, err := p.Exec(ctx)
	n := 0
	for _, deleted := range deletes {
		n += int(deleted.Val())
	}
	if err == nil && acknowledged != nil && int(acknowledged.Val()) < s.config.WaitReplicas {
		err = fmt.Errorf("%w: %d of %d", ErrNotReplicated, acknowledged.Val(), s.config.WaitReplicas)
	}
	return n, err
}
