package redisstore

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
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
	// The longest first: what is left of "first+" without "first" gives it away.
	slices.SortFunc(s.known, func(a, b string) int { return len(b) - len(a) })
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
		if repeats(cmd.Err()) && s.in(cmd.Err()) {
			cmd.SetErr(errSecret)
		}
	}
	if repeats(err) && s.in(err) {
		return errSecret
	}
	return err
}

// harmless are replies whose text is Redis's own, or names no more than a command,
// a key and a node. A weak password may be a word of it.
var harmless = []string{
	"WRONGPASS", "NOAUTH", "NOPERM", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "LOADING", "READONLY",
	"OOM", "BUSY", "MISCONF", "NOREPLICAS", "WRONGTYPE", "EXECABORT", "NOSCRIPT",
}

// repeats reports whether an error may hold what was sent: a reply of another
// kind, or what could not be understood as one. Those of the network hold
// addresses.
func repeats(err error) bool {
	var network net.Error
	var syscallError *os.SyscallError
	if err == nil || errors.As(err, &network) || errors.As(err, &syscallError) || errors.Is(err, io.EOF) ||
		errors.Is(err, redis.Nil) || errors.Is(err, ErrBreakerOpen) || verdictOf(err) == unknown {
		return false
	}
	return !slices.ContainsFunc(harmless, func(code string) bool { return redis.HasErrorPrefix(err, code) })
}
