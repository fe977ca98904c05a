package redisstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// secrets are the passwords that a client has used. It is safe for concurrent
// use.
type secrets struct {
	mu    sync.RWMutex
	known []string
}

// add remembers one, the empty one aside.
func (s *secrets) add(secret string) {
	if secret == "" || s.has(secret) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = append(s.known, secret)
}

func (s *secrets) has(secret string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Contains(s.known, secret)
}

// in tells whether an error repeats one of them.
func (s *secrets) in(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.ContainsFunc(s.known, func(secret string) bool { return strings.Contains(text, secret) })
}

// redact blanks them out of a text.
func (s *secrets) redact(text string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, secret := range s.known {
		text = strings.ReplaceAll(text, secret, "[password]")
	}
	return text
}

// hideSecrets is a hook that keeps passwords out of a client's errors: a server
// that does not know AUTH repeats the command's arguments, and one that is no
// Redis may answer anything.
type hideSecrets struct{ *secrets }

var errSecret = errors.New("redis: an answer that repeats the password; is this a Redis?")

func (hideSecrets) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s hideSecrets) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return s.hide(next(ctx, cmd), cmd)
	}
}

func (s hideSecrets) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return s.hide(next(ctx, cmds), cmds...)
	}
}

func (s hideSecrets) hide(err error, cmds ...redis.Cmder) error {
	if err == nil {
		return nil
	}
	for _, cmd := range cmds {
		if s.in(cmd.Err()) {
			cmd.SetErr(errSecret)
		}
	}
	if s.in(err) {
		return errSecret
	}
	return err
}
