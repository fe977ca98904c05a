package redisstore

import (
	"context"
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
			deletes := s.deletes(ctx, chunk)
			err := s.change(ctx, group.client, deletes)
			errs = append(errs, err)
			for i, cmd := range deletes {
				deleted := cmd.(*redis.IntCmd).Val()
				n += int(deleted)
				switch {
				case cmd.Err() != nil:
				case deleted == 1 && (err == nil || s.config.WaitReplicas == 0):
					ended = append(ended, chunk[i].Hash())
				default:
					absent = append(absent, chunk[i].Hash())
				}
			}
		}
	}
	return ended, absent, n, sessions.JoinRevocations(errs...)
}

// deleteAndWrite deletes KEYS[1] and returns 1, or writes and deletes it, and returns 0. A
// full Redis, too, runs a script to its end that has begun to write. No shebang line, as
// with add.
const deleteAndWrite = `
if redis.call('DEL', KEYS[1]) == 1 then return 1 end
redis.call('HSET', KEYS[1], 'v', '0')
redis.call('DEL', KEYS[1])
return 0`

// deletes are commands that delete keys of one node. Where replicas are waited for, the
// first one writes in any case: WAIT speaks of what was written on its connection. Behind
// nothing, newer servers call each replica one that has acknowledged, though the revocation
// before this one, which has ended the records, may be on none.
func (s *Store) deletes(ctx context.Context, keys []sessions.Key) []redis.Cmder {
	deletes := make([]redis.Cmder, len(keys))
	for i, key := range keys {
		deletes[i] = redis.NewIntCmd(ctx, "del", string(key))
	}
	if s.config.WaitReplicas > 0 {
		deletes[0] = redis.NewIntCmd(ctx, "eval", deleteAndWrite, 1, string(keys[0]))
	}
	return deletes
}
