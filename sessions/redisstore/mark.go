package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// markPrefix begins the name of the mark that a revocation of all of a user's
// sessions leaves: a random value, so that each mark is another one.
const markPrefix = "user-ended:"

const (
	// markLife is how long a mark lasts. How much of it is left tells its age.
	markLife = 15 * time.Minute
	// longest is how long a login may take until its session is made: its mark must
	// not be over by then.
	longest = 10 * time.Minute
	// blur is how exactly Redis tells how much is left.
	blur = time.Millisecond
	// ripening is how old a mark is when Mark returns: a login that begins afterwards
	// can tell that it is older, in spite of the blur.
	ripening = 3 * time.Millisecond
)

// Mark leaves a mark for logins that are under way.
func (s *Store) Mark(ctx context.Context, userID string) (err error) {
	defer s.metrics.mark.done(time.Now(), &err)
	key := markPrefix + userID
	client, err := s.holder(ctx, key)
	if err != nil {
		return err
	}
	p := client.Pipeline()
	p.Set(ctx, key, rand.Text(), markLife)
	acknowledged := s.wait(ctx, p)
	if _, err := p.Exec(ctx); err != nil {
		return fmt.Errorf("marking the user: %w", err)
	}
	s.sleep(ripening)
	return acknowledged()
}

// mark reads a user's mark. It is empty where there is none.
func (s *Store) mark(ctx context.Context, userID string) (string, error) {
	value, err := s.client.Get(ctx, markPrefix+userID).Result()
	if errors.Is(err, redis.Nil) {
		return "", nil
	}
	return value, err
}

// markBefore reads the mark at the beginning of Create. It returns ErrEnded where
// the mark is younger than the login: how old it is tells the node that holds it,
// how old the login is our own monotonic clock, and the two are compared within the
// time that the question took. A login that is as old as the mark as far as can be
// told, ends, too.
func (s *Store) markBefore(ctx context.Context, userID string, began time.Time) (string, error) {
	if began.IsZero() {
		return s.mark(ctx, userID)
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

// markAge reads the mark and how old it is: less than nothing where there is none,
// or where it tells no age. The age is read last, so that it is never that of an
// older mark than the value's.
func (s *Store) markAge(ctx context.Context, userID string) (value string, age time.Duration, err error) {
	p := s.client.Pipeline()
	got := p.Get(ctx, markPrefix+userID)
	left := pttl(ctx, p, markPrefix+userID)
	if _, err := p.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return "", 0, err
	}
	if left.Err() != nil {
		return "", 0, left.Err()
	}
	if left.Val() < 0 {
		return got.Val(), -1, nil
	}
	return got.Val(), max(0, markLife-time.Duration(left.Val())*time.Millisecond), nil
}
