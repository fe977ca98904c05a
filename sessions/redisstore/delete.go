package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
)

// Delete removes the records, waits for replicas if configured so, and then clears
// the listing of those that it has ended. The others stay listed for the grace: a
// login may be about to write them. The listing's failure changes nothing.
func (s *Store) Delete(ctx context.Context, userID string, keys ...sessions.Key) (n int, err error) {
	ctx, call := s.metrics.remove.begin(ctx)
	defer call.done(&err)
	ended, absent, n, err := s.deleteRecords(ctx, keys)
	s.metrics.revoked.Add(float64(n))
	if userID == "" {
		return n, err
	}
	for len(ended) > 0 {
		chunk := ended[:min(window, len(ended))]
		s.unlist(ctx, userID, chunk)
		ended = ended[len(chunk):]
	}
	s.hasten(ctx, userID, absent)
	return n, err
}

// unlist takes sessions that have ended off the user's list. Only the caller who has
// ended a record does so, so one that was not there was never listed, and a revocation
// of all the user's sessions would not have found it.
func (s *Store) unlist(ctx context.Context, userID string, hashes []any) {
	n, err := s.client.ZRem(ctx, indexPrefix+userID, hashes...).Result()
	if err != nil || int(n) == len(hashes) {
		return
	}
	attrs := []slog.Attr{slog.String("user_id", userID[:min(sessions.MaxUserID, len(userID))]), slog.Int("sessions", len(hashes)-int(n))}
	if hash, ok := hashes[0].(string); ok && len(hashes) == 1 {
		attrs = append(attrs, slog.String("session", sessions.Key(sessions.KeyPrefix+hash).Handle()))
	}
	s.notices.Say(notice.UnlistedRecord, attrs...)
}

// deleteRecords deletes the records and counts those that were there. It returns
// the members of the index that may leave it, and those without a record that may
// not yet. What is not on enough replicas may come back, so its entry stays.
func (s *Store) deleteRecords(ctx context.Context, keys []sessions.Key) (ended []any, absent []string, n int, err error) {
	groups, err := s.byNode(ctx, keys)
	errs := []error{err}
	for _, group := range groups {
		for keys := group.keys; len(keys) > 0; {
			chunk := keys[:min(window, len(keys))]
			keys = keys[len(chunk):]
			deleted, err := s.deleteOn(ctx, group.client, chunk)
			errs = append(errs, err)
			for i, cmd := range deleted {
				n += int(cmd.Val())
				switch {
				case cmd.Err() != nil:
				case cmd.Val() == 1 && (err == nil || s.config.WaitReplicas == 0):
					ended = append(ended, chunk[i].Hash())
				default:
					absent = append(absent, chunk[i].Hash())
				}
			}
		}
	}
	return ended, absent, n, errors.Join(errs...)
}

// A group of keys is asked of one client.
type group struct {
	client redis.Cmdable
	keys   []sessions.Key
}

// byNode groups keys by the node that must be asked: WAIT has no key to be routed
// by.
func (s *Store) byNode(ctx context.Context, keys []sessions.Key) ([]*group, error) {
	var groups []*group
	var errs []error
	at := make(map[redis.Cmdable]*group)
	for _, key := range keys {
		client, err := s.holder(ctx, string(key))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if at[client] == nil {
			at[client] = &group{client: client}
			groups = append(groups, at[client])
		}
		at[client].keys = append(at[client].keys, key)
	}
	return groups, errors.Join(errs...)
}

// holder is the client to ask for a change to key that replicas must acknowledge:
// on a Cluster the one of the key's master.
func (s *Store) holder(ctx context.Context, key string) (redis.Cmdable, error) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok || s.config.WaitReplicas == 0 {
		return s.client, nil
	}
	return cluster.MasterForKey(ctx, key)
}

// deleteOn deletes in one pipeline, followed by WAIT on the same connection.
func (s *Store) deleteOn(ctx context.Context, client redis.Cmdable, keys []sessions.Key) ([]*redis.IntCmd, error) {
	p := client.Pipeline()
	deletes := make([]*redis.IntCmd, len(keys))
	for i, key := range keys {
		deletes[i] = p.Del(ctx, string(key))
	}
	acknowledged := s.wait(ctx, p)
	if _, err := p.Exec(ctx); err != nil {
		return deletes, err
	}
	return deletes, acknowledged()
}

// wait adds WAIT to a pipeline if configured so. The function that it returns is
// called afterwards; its error says that too few replicas have acknowledged.
func (s *Store) wait(ctx context.Context, p redis.Pipeliner) func() error {
	if s.config.WaitReplicas == 0 {
		return func() error { return nil }
	}
	cmd := redis.NewIntCmd(ctx, "wait", s.config.WaitReplicas, s.config.WaitTimeout.Milliseconds())
	_ = p.Process(ctx, cmd)
	return func() error {
		if n := int(cmd.Val()); n < s.config.WaitReplicas {
			return fmt.Errorf("%w: %d of %d", ErrNotReplicated, n, s.config.WaitReplicas)
		}
		return nil
	}
}
