package redisstore

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/internal/lane"
)

// indexPrefix begins the name of the sorted set that lists a user's sessions. A
// member is the hash part of a key, its score the time, in milliseconds, from which
// on the entry may be looked at.
//
// An entry leaves the index after a DEL that returned 1 for its record, after its
// record was seen and then was absent, or after its record was absent for the grace. A
// revocation that finds no record cannot distinguish a session that is over from one
// that a login has listed and not written yet, and a node whose clock is hours ahead
// takes both for over. So an entry without a record gets a new time: the end of the
// grace and half a millisecond. The half distinguishes it from a time that a login gave.
const indexPrefix = "user-sessions:"

const (
	// grace is how long an entry without a record stays. It is longer than any
	// login takes between listing its session and writing it; see provisional.
	grace = 10 * time.Minute
	// margin is how much longer than its last entry an index lives: a node whose
	// clock is hours ahead must not hide live sessions that other nodes hold.
	margin = 24 * time.Hour
	// pruned is how many entries one call looks at whose time has come.
	pruned = 100
	// window is how many entries are read at once.
	window = 500
	// looked is how many entries List reads at most.
	looked = 10 * window
)

// due lists up to ARGV[1] members of KEYS[1] whose time has come by the clock of the
// node that holds it: callers' clocks are not asked.
const due = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])`

// forget looks at members of KEYS[1] whose time still has come: a login may have listed
// its session anew. ARGV are the grace, how long past is past for certain, and pairs of a
// member and the end in its record, 0 where there is no record. A record that was seen
// does not belong to a login that is under way.
const forget = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 3, #ARGV, 2 do
  local member, ends = ARGV[i], tonumber(ARGV[i + 1])
  local score = tonumber(redis.call('ZSCORE', KEYS[1], member) or now + 1)
  if score > now then
    -- not any more
  elseif ends > 0 then
    redis.call('ZADD', KEYS[1], 'XX', math.floor(math.max(score, ends)) + 0.5, member)
  elseif score % 1 > 0 or score <= now - ARGV[2] then
    redis.call('ZREM', KEYS[1], member)
  else
    redis.call('ZADD', KEYS[1], 'XX', now + ARGV[1] + 0.5, member)
  end
end
return 0`

// hasten has the members behind ARGV[1] looked at when that many milliseconds have
// passed, if not sooner.
const hasten = `
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1] + 0.5
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', 'LT', at, ARGV[i]) end
return 0`

// prune forgets entries whose grace is over without a record, and gives the others
// back the time that their records tell. It is tidiness: its failure changes
// nothing.
func (s *Store) prune(ctx context.Context, userID string) {
	members, err := s.client.Eval(ctx, due, []string{indexPrefix + userID}, pruned).StringSlice()
	if err == nil {
		s.pruneDue(ctx, userID, members)
	}
}

func (s *Store) pruneDue(ctx context.Context, userID string, members []string) {
	if len(members) == 0 {
		return
	}
	keys := make([]sessions.Key, len(members))
	for i, member := range members {
		keys[i] = sessions.Key(sessions.KeyPrefix + member)
	}
	entries, err := s.Read(ctx, []string{sessions.FieldExpiresAt}, keys...)
	if err != nil {
		return
	}
	long := time.Duration(0)
	if _, ok := s.client.(*redis.ClusterClient); ok {
		long = margin // another clock may end the records
	}
	args := []any{grace.Milliseconds(), long.Milliseconds()}
	for i, entry := range entries {
		args = append(args, members[i], endOf(entry))
	}
	s.client.Eval(ctx, forget, []string{indexPrefix + userID}, args...)
}

// endOf is the end of a session by its record, in milliseconds, 0 where there is no
// record. A record without a time is looked at again in a day, by any clock.
func endOf(e sessions.Entry) int64 {
	if errors.Is(e.Err, sessions.ErrNotFound) {
		return 0
	}
	end, err := time.Parse(time.RFC3339, e.Record[sessions.FieldExpiresAt])
	if err != nil {
		end = time.Now().Add(margin)
	}
	return max(1, end.UnixMilli())
}

// UserKeys reads the whole index. ZRANGE reads a short one at a stroke; ZSCAN reads
// a long one in pieces, and misses no member that is there all the while.
func (s *Store) UserKeys(ctx context.Context, userID string) (_ []sessions.Key, err error) {
	ctx, call := s.metrics.list.begin(ctx)
	defer call.done(&err)
	s.prune(ctx, userID)
	index := indexPrefix + userID
	members, err := s.client.ZRange(ctx, index, 0, window-1).Result()
	if err != nil {
		return nil, err
	}
	if len(members) == window {
		if members, err = s.scan(ctx, index); err != nil {
			return nil, err
		}
	}
	return keysOf(members), nil
}

func (s *Store) scan(ctx context.Context, index string) ([]string, error) {
	var members []string
	for cursor := uint64(0); ; {
		page, next, err := s.client.ZScan(ctx, index, cursor, "", window).Result()
		if err != nil {
			return nil, err
		}
		for i := 0; i < len(page); i += 2 { // member, score
			members = append(members, page[i])
		}
		if cursor = next; cursor == 0 {
			return members, nil
		}
	}
}

// keysOf makes keys of members. Others may write the index; what is no key names
// no session.
func keysOf(members []string) []sessions.Key {
	keys := make([]sessions.Key, 0, len(members))
	for _, member := range members {
		if key, err := sessions.ParseKey(sessions.KeyPrefix + member); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// List reads the index from its end, where the newest are, and the records that it
// names. Entries without one are looked at again after the grace.
func (s *Store) List(ctx context.Context, userID string, names []string, n int) (list []sessions.Listed, more int, err error) {
	ctx, call := s.metrics.list.begin(ctx)
	defer call.done(&err)
	s.prune(ctx, userID)
	index := indexPrefix + userID
	total, err := s.client.ZCard(ctx, index).Result()
	if err != nil {
		return nil, 0, err
	}
	var absent []string
	walked := 0
	for len(list) <= n && walked < min(int(total), looked) {
		members, err := s.client.ZRangeArgs(ctx, redis.ZRangeArgs{Key: index, Start: walked, Stop: walked + window - 1, Rev: true}).Result()
		if err != nil {
			return nil, 0, err
		}
		if len(members) == 0 {
			break // others have gone meanwhile
		}
		walked += len(members)
		keys := keysOf(members)
		entries, err := s.Read(ctx, names, keys...)
		if err != nil {
			return nil, 0, err
		}
		for i, entry := range entries {
			if errors.Is(entry.Err, sessions.ErrNotFound) {
				absent = append(absent, keys[i].Hash())
				continue
			}
			list = append(list, sessions.Listed{Key: keys[i], Entry: entry})
		}
	}
	s.hasten(ctx, userID, absent)
	shown := min(n, len(list))
	return list[:shown], len(list) - shown + max(0, int(total)-walked), nil
}

// hasten has entries looked at after the grace. It is tidiness.
func (s *Store) hasten(ctx context.Context, userID string, members []string) {
	for len(members) > 0 {
		n := min(window, len(members))
		args := make([]any, 0, n+1)
		args = append(args, grace.Milliseconds())
		for _, member := range members[:n] {
			args = append(args, member)
		}
		if s.client.Eval(ctx, hasten, []string{indexPrefix + userID}, args...).Err() != nil {
			return
		}
		members = members[n:]
	}
}

var _ sessions.Indexer = (*Store)(nil)

// Listings implements [sessions.Indexer], in one pipeline.
func (s *Store) Listings(ctx context.Context, userIDs []string, keys []sessions.Key) (_ []sessions.Listing, err error) {
	ctx, call := s.metrics.list.begin(ctx)
	defer call.done(&err)
	p := s.client.Pipeline()
	scores, ttls := make([]*redis.FloatCmd, len(keys)), make([]*redis.IntCmd, len(keys))
	for i, key := range keys {
		scores[i] = p.ZScore(ctx, indexPrefix+userIDs[i], key.Hash())
		ttls[i] = pttl(ctx, p, indexPrefix+userIDs[i])
	}
	// What is not listed, and what is no listing, are answers about one key. The expiry
	// is asked for last, and tells of every other error.
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) && !errors.Is(failure(err), sessions.ErrBroken) {
		return nil, err
	}
	listings := make([]sessions.Listing, len(keys))
	for i := range keys {
		if listings[i], err = listingOf(scores[i], ttls[i]); err != nil {
			return nil, err
		}
	}
	return listings, nil
}

// listingOf makes a Listing of the replies to ZSCORE and PTTL.
func listingOf(score *redis.FloatCmd, ttl *redis.IntCmd) (sessions.Listing, error) {
	l := sessions.Listing{Score: score.Val(), TTL: lane.Left(ttl.Val())}
	if err := ttl.Err(); err != nil {
		return l, err
	}
	switch err := failure(score.Err()); {
	case err == nil:
		l.Listed = true
	case errors.Is(err, sessions.ErrBroken):
		l.Err = sessions.ErrBroken
	case !errors.Is(err, redis.Nil):
		return l, err
	}
	return l, nil
}
