package redisstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/coatcheck/coatcheck/sessions"
)

// NewClient returns a client for o's servers with timeouts fit for a request
// path; it sends nothing. It fills in what o leaves zero:
//
//   - a deadline in the caller's context also ends a read (by default it does
//     not), and one try takes 100 ms at most, so that a check of 150 ms has room
//     for a second;
//   - dialling goes on for eight short tries, because go-redis answers every
//     call with the last dial error once it has given up, until a probe a second
//     later succeeds: fewer tries turn a bounce of Redis into an outage;
//   - connections live about an hour, so that names, certificates and rights
//     that changed are noticed.
//
// No error of the client's repeats a password of o.
func NewClient(o redis.UniversalOptions) redis.UniversalClient {
	o.ContextTimeoutEnabled = true
	fill(&o.DialTimeout, 250*time.Millisecond)
	fill(&o.DialerRetries, 8)
	fill(&o.DialerRetryTimeout, 50*time.Millisecond)
	fill(&o.ReadTimeout, 100*time.Millisecond)
	fill(&o.WriteTimeout, 100*time.Millisecond)
	fill(&o.PoolTimeout, 50*time.Millisecond)
	fill(&o.MaxRetries, 1)
	fill(&o.MinRetryBackoff, 5*time.Millisecond)
	fill(&o.MaxRetryBackoff, 20*time.Millisecond)
	fill(&o.PoolSize, 10*runtime.GOMAXPROCS(0))
	fill(&o.MinIdleConns, 4)
	fill(&o.PipelinePoolSize, -1) // a check is a pipeline: one pool
	fill(&o.ConnMaxLifetime, time.Hour)
	fill(&o.ConnMaxLifetimeJitter, 6*time.Minute)
	// A server may otherwise push the timeouts up to ten seconds.
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	client := redis.NewUniversalClient(&o)
	for _, password := range []string{o.Password, o.SentinelPassword} {
		if password != "" {
			client.AddHook(hideSecret(password))
		}
	}
	return client
}

func fill[T int | time.Duration](value *T, fallback T) {
	if *value == 0 {
		*value = fallback
	}
}

// Diagnose sends what a check sends, for a record that cannot exist, and reads
// the server's settings. It returns an error where checks would fail (no server,
// a wrong password, a missing right, a Redis before 7.0) and warnings where
// sessions are in danger.
func (s *Store) Diagnose(ctx context.Context) (warnings []string, err error) {
	const probe = sessions.KeyPrefix + "probe"
	_, err = s.Touch(ctx, probe, time.UnixMilli(1), []string{sessions.FieldVersion})
	if !errors.Is(err, sessions.ErrNotFound) {
		return nil, fmt.Errorf("a check cannot read and slide (needs Redis 7.0, and the rights to HMGET, PEXPIREAT and EXISTS): %w", err)
	}
	if err := s.client.PExpireAt(ctx, probe, time.UnixMilli(1)).Err(); err != nil {
		return nil, fmt.Errorf("a check cannot end sessions: %w", err)
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
