package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/internal/secretfile"
)

// Two replies have repeated a password. A server without AUTH, such as some proxies,
// answers "ERR unknown command 'auth', with args beginning with: 'the password'". Of
// a server that is no Redis and echoes, go-redis quotes the beginning: "redis: can't
// parse ...". go-redis puts either into the error of the call that needed the
// connection, or into that of any later call, if a reply is left over. So no error of
// the server passes that holds a password, whole, quoted or cut off.

// hideSecrets is a hook that keeps passwords out of a client's errors.
type hideSecrets struct{ *secretfile.Set }

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
func (s hideSecrets) repeatedBy(err error) bool {
	if err == nil || harmless(err) {
		return false
	}
	switch err := err.(type) { //nolint:errorlint // it is unwrapped here
	case interface{ Unwrap() error }:
		return s.repeatedBy(err.Unwrap())
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(err.Unwrap(), s.repeatedBy)
	}
	return s.In(err.Error())
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
