package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// Refused reports whether err says that Redis, or a Sentinel, answered and would
// not have our user or password. Waiting does not help then, other than with a
// server that does not answer. A right that is missing is no refusal.
func Refused(err error) bool {
	if err == nil {
		return false
	}
	return redis.IsAuthError(err) ||
		// A server that asks for no password is another one than was meant.
		strings.Contains(err.Error(), "called without any password configured")
}

// Diagnose sends what a check sends, for a record that cannot exist, and reads
// the server's settings. It returns an error where checks would fail (no server,
// a wrong password, for which see [Refused], a missing right, a Redis before 7.0)
// and warnings where sessions are in danger.
func (s *Store) Diagnose(ctx context.Context) (warnings []string, err error) {
	const probe = sessions.KeyPrefix + "probe"
	_, _, err = s.Touch(ctx, probe, time.UnixMilli(1), []string{sessions.FieldVersion})
	switch {
	case Refused(err):
		return nil, fmt.Errorf("the user or the password is refused: %w", err)
	case !errors.Is(err, sessions.ErrNotFound):
		return nil, fmt.Errorf("a check cannot read and slide (it needs Redis 7.0, and the rights +hmget +pexpireat +pttl on ~session:*, as docs/sessions.md has them): %w", err)
	}
	info := s.client.Info(ctx, "memory")
	if info.Err() != nil {
		warnings = append(warnings, "cannot read maxmemory_policy (the right to INFO is missing); it must be noeviction")
	}
	for line := range strings.Lines(info.Val()) {
		policy, ok := strings.CutPrefix(strings.TrimSpace(line), "maxmemory_policy:")
		if ok && policy != "noeviction" {
			warnings = append(warnings, "maxmemory_policy is "+policy+": a full Redis logs users out without an error; use noeviction")
		}
	}
	return warnings, nil
}
