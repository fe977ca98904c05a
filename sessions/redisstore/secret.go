package redisstore

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Two replies have repeated a password. A server without AUTH, such as some proxies,
// answers "ERR unknown command 'auth', with args beginning with: 'the password'". Of
// a server that is no Redis and echoes, go-redis quotes the beginning: "redis: can't
// parse ...". go-redis puts either into the error of the call that needed the
// connection, or into that of any later call, if a reply is left over. So no error of
// the server passes that holds a password, whole, quoted or cut off.

// secrets are the passwords that a client has used. They are safe for concurrent use.
type secrets struct {
	mu    sync.RWMutex
	known []string // the longest first: it may contain another
}

// add remembers one, the empty one aside.
func (s *secrets) add(secret string) {
	if secret == "" || s.has(secret) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = append(s.known, secret)
	slices.SortStableFunc(s.known, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
}

func (s *secrets) has(secret string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Contains(s.known, secret)
}

// in reports whether a text repeats one of them.
func (s *secrets) in(text string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.ContainsFunc(s.known, func(secret string) bool {
		// go-redis quotes what it cannot read.
		quoted := strings.Trim(strconv.Quote(secret), `"`)
		return strings.Contains(text, head(secret)) || strings.Contains(text, head(quoted))
	})
}

// head is the beginning by which a secret is known, because a server may cut it off.
func head(secret string) string { return secret[:min(len(secret), 16)] }

// redact replaces them in a text.
func (s *secrets) redact(text string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var pairs []string
	for _, secret := range s.known {
		pairs = append(pairs, secret, "[password]")
	}
	return strings.NewReplacer(pairs...).Replace(text) // in one go, and the first that fits
}

// hideSecrets is a hook that keeps passwords out of a client's errors.
type hideSecrets struct{ *secrets }

var errSecret = errors.New("redis: an answer that repeats the password; is this a Redis?")

// A hiddenReply takes the place of an error that a server replied with. It still
// counts as a reply.
type hiddenReply struct{ error }

func (hiddenReply) RedisError() {}

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
		if err := cmd.Err(); s.repeatedBy(err) {
			cmd.SetErr(hidden(err))
		}
	}
	if s.repeatedBy(err) {
		return hidden(err)
	}
	return err
}

func hidden(err error) error {
	var reply redis.Error
	if errors.As(err, &reply) {
		return hiddenReply{errSecret}
	}
	return errSecret
}

// repeatedBy reports whether an error repeats a secret. It looks only at errors that
// can hold what was sent, down to where they came from, because a password may be a
// word of any other error.
func (s *secrets) repeatedBy(err error) bool {
	if err == nil || harmless(err) {
		return false
	}
	switch err := err.(type) { //nolint:errorlint // it is unwrapped here
	case interface{ Unwrap() error }:
		return s.repeatedBy(err.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(err.Unwrap(), s.repeatedBy)
	}
	return s.in(err.Error())
}

// harmless reports whether the text of an error is known, or comes from before
// anything was sent. It does not look at wrapped errors.
func harmless(err error) bool {
	switch err := err.(type) { //nolint:errorlint // one in a chain says nothing of the others
	case redis.Error:
		return fixed(err.Error())
	case net.Error, fileError, *tls.CertificateVerificationError, tls.RecordHeaderError:
		return true
	}
	return slices.Contains(harmlessErrors, err)
}

// harmlessErrors are those without a type of their own. The cause in the breaker's error
// has come through hideSecrets.
var harmlessErrors = []error{
	ErrBreakerOpen, errSecret, context.Canceled, io.EOF, io.ErrUnexpectedEOF,
	redis.ErrClosed, redis.ErrPoolTimeout, redis.ErrPoolExhausted,
}

// fixed reports whether a reply, or an error of go-redis's own, repeats no argument but
// the name of a command, of a user or of a key.
func fixed(reply string) bool {
	code, _, _ := strings.Cut(reply, " ")
	return slices.Contains(fixedCodes, code) ||
		slices.ContainsFunc(fixedReplies, func(start string) bool { return strings.HasPrefix(reply, start) })
}

var fixedCodes = []string{
	"WRONGPASS", "NOAUTH", "NOPERM", "DENIED", "NOPROTO",
	"MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "CLUSTERDOWN", "MASTERDOWN",
	"LOADING", "BUSY", "READONLY", "MISCONF", "OOM", "NOREPLICAS",
	"EXECABORT", "WRONGTYPE", "NOSCRIPT",
}

var fixedReplies = []string{
	"redis: nil", "redis: transaction failed",
	"ERR max number of clients", "ERR AUTH <password> called without any password configured",
}
