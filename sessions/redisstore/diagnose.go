package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// Try sends what a check sends, for a record that cannot exist, and returns an error where
// a check would fail. Of a Cluster it asks one node.
func (s *Store) Try(ctx context.Context) error {
	_, _, err := s.Touch(ctx, probeKey, time.UnixMilli(1), []string{sessions.FieldVersion})
	if errors.Is(err, sessions.ErrNotFound) || errors.Is(err, ErrEmptied) {
		return nil
	}
	return err
}

// Diagnose sends what a check sends, for a record that cannot exist, and reads
// the server's settings. It returns an error where checks would fail (no server,
// a wrong password, for which see [Refused], a missing right, a Redis before 7.0)
// and warnings where sessions are in danger.
func (s *Store) Diagnose(ctx context.Context) (warnings []string, err error) {
	err = s.Try(ctx)
	switch {
	case Refused(err):
		return nil, fmt.Errorf("the user or the password is refused: %w", err)
	case err != nil:
		return nil, fmt.Errorf("a check cannot read and slide (it needs Redis 7.0, and the rights +hmget +pexpireat +pttl on ~session:*, as docs/sessions.md has them): %w", err)
	}
	return s.policyWarnings(ctx)
}

// policyWarnings say that Redis may drop sessions where its memory is full.
func (s *Store) policyWarnings(ctx context.Context) (warnings []string, err error) {
	infos, err := s.infos(ctx, "memory")
	if err != nil {
		warnings = append(warnings, "cannot read maxmemory_policy (the right to INFO is missing); it must be noeviction")
	}
	for _, info := range infos {
		if policy, ok := info["maxmemory_policy"]; ok && policy != "noeviction" {
			warnings = append(warnings, "maxmemory_policy is "+policy+": a full Redis logs users out without an error; use noeviction")
		}
	}
	return slices.Compact(warnings), nil
}

// Advise reads the server's settings, as far as INFO shows them, and says by which of them
// sessions can be lost though nothing is wrong now. They may be meant: a Redis for
// development keeps nothing. It says nothing where INFO is refused.
func (s *Store) Advise(ctx context.Context) (advice []string) {
	infos, _ := s.infos(ctx, "persistence", "replication")
	var volatile, alone bool
	for _, info := range infos {
		volatile = volatile || info["aof_enabled"] == "0"
		// The number of good replicas is there only with min-replicas-to-write.
		_, bound := info["min_slaves_good_slaves"]
		alone = alone || info["connected_slaves"] != "" && info["connected_slaves"] != "0" && !bound
	}
	if volatile {
		advice = append(advice, "the append-only file is off (aof_enabled): a restart loses the sessions since the last snapshot, or all of them; set appendonly yes to keep them")
	}
	if alone {
		advice = append(advice, "there are replicas, and min-replicas-to-write is 0: a master that is cut off goes on to accept revocations that are lost; docs/operations.md has the advice and its price")
	}
	return advice
}

// infos are the fields of INFO, of each master.
func (s *Store) infos(ctx context.Context, sections ...string) (infos []map[string]string, err error) {
	masters, err := s.masters(ctx)
	for _, master := range masters {
		text, failed := master.Info(ctx, sections...).Result()
		if failed != nil {
			return infos, failed
		}
		infos = append(infos, infoOf(text))
	}
	return infos, err
}

// infoOf reads the lines of INFO, name:value.
func infoOf(text string) map[string]string {
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}
