package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/internal/lane"
)

// markPrefix begins the name of the mark that a revocation of all of a user's
// sessions leaves: a random value, so that each mark is another one.
const markPrefix = "user-ended:"

const (
	// markLife is how long a mark lasts. Its age is this less what is left of it.
	markLife = 15 * time.Minute
	// longest is how long a login may take until its session is made: its mark must
	// not be over by then.
	longest = 10 * time.Minute
	// blur is how exact Redis is about what is left.
	blur = time.Millisecond
	// ripening is how old a mark is when Mark returns: a login that begins afterwards
	// sees that it is older, in spite of the blur.
	ripening = 3 * time.Millisecond
)

// leave sets the mark KEYS[1] to ARGV[1], for ARGV[2] milliseconds by the clock of
// the node that holds it. It is a hash, and a script, because login needs the rights
// for those anyway.
const leave = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'mark', ARGV[1])
redis.call('PEXPIREAT', KEYS[1], now + ARGV[2])
return 0`

const markField = "mark"

// Mark leaves a mark for logins that are under way.
func (s *Store) Mark(ctx context.Context, userID string) (err error) {
	ctx, call := s.metrics.mark.begin(ctx)
	defer call.done(&err)
	key := markPrefix + userID
	client, err := s.holder(ctx, key)
	if err != nil {
		return err
	}
	mark := redis.NewCmd(ctx, "eval", leave, 1, key, rand.Text(), markLife.Milliseconds())
	err = s.change(ctx, client, []redis.Cmder{mark})
	if err != nil && !errors.Is(err, ErrNotReplicated) {
		return fmt.Errorf("marking the user: %w", err)
	}
	s.sleep(ripening)
	return err
}

// markOf is the mark that HMGET replied, empty where there is none.
func markOf(got *redis.SliceCmd) (string, error) {
	values, err := got.Result()
	if err != nil {
		return "", err
	}
	record, err := recordOf([]string{markField}, values)
	return record[markField], err
}

// markBefore reads the mark at the beginning of Create. It returns ErrEnded where
// the mark is younger than the login. The node that holds the mark says how old it is,
// and our own clocks say how old the login is; the comparison is as exact as
// the question was short. Where mark and login may be equally old, the login ends, too.
func (s *Store) markBefore(ctx context.Context, userID string, began time.Time) (string, error) {
	if began.IsZero() {
		return markOf(s.client.HMGet(ctx, markPrefix+userID, markField))
	}
	if age := s.since(began); age > longest {
		return "", fmt.Errorf("the login began %v ago, and may take %v", age.Round(time.Second), longest)
	}
	for range 5 {
		asked := s.since(began)
		value, age, err := s.markAge(ctx, userID)
		answered := s.since(began)
		switch {
		case err != nil:
			return "", err
		case age < 0 || age-blur > answered:
			return value, nil
		case age+blur < asked:
			return "", sessions.ErrEnded
		}
	}
	return "", sessions.ErrEnded
}

// since is how old a login is by the clock that says more. The monotonic one stands still
// while the machine is suspended, in which a mark may have been left; the time of day may
// have been set.
func since(began time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(began), now.Round(0).Sub(began.Round(0)))
}

// markAge reads the mark and how old it is: negative where there is no mark,
// or one without an expiry. The age is read last, so that it is never the age of an
// older mark than the value's.
func (s *Store) markAge(ctx context.Context, userID string) (value string, age time.Duration, err error) {
	p := s.client.Pipeline()
	got := p.HMGet(ctx, markPrefix+userID, markField)
	left := pttl(ctx, p, markPrefix+userID)
	if _, err := p.Exec(ctx); err != nil {
		return "", 0, err
	}
	value, err = markOf(got)
	if left.Val() < 0 {
		return value, -1, err
	}
	return value, max(0, markLife-lane.Left(left.Val())), err
}
