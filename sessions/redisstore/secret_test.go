package redisstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/internal/secretfile"
)

func secretsOf(passwords ...string) hideSecrets {
	s := hideSecrets{new(secretfile.Set)}
	for _, password := range passwords {
		s.Add(password)
	}
	return s
}

// hideOne does what the hook does to one command's error.
func (s hideSecrets) hideOne(t *testing.T, err error) error {
	t.Helper()
	cmd := redis.NewCmd(t.Context(), "hmget")
	cmd.SetErr(err)
	hid := s.hide(err, cmd)
	if fmt.Sprint(hid) != fmt.Sprint(cmd.Err()) {
		t.Errorf("the call's error is %v, the command's %v", hid, cmd.Err())
	}
	return hid
}

// TestHarmless: the password is the text itself, or all letters of it, and the
// error is left as it is.
func TestHarmless(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 6379}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, err := range []error{
		refused, unreached{refused}, fmt.Errorf("dialling: %w", refused),
		&net.DNSError{Err: "no such host", Name: "redis"},
		unreached{&tls.CertificateVerificationError{Err: x509.HostnameError{Host: "redis", Certificate: new(x509.Certificate)}}},
		tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"},
		context.Canceled, context.DeadlineExceeded, os.ErrDeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET,
		redis.Nil, redis.TxFailedErr, redis.ErrClosed, redis.ErrPoolTimeout, redis.ErrPoolExhausted, redis.ErrCrossSlot,
		fmt.Errorf("%w: %s", ErrBreakerOpen, refused.Error()),
		fmt.Errorf("failed to resolve credentials: %w", fileError{&fs.PathError{Op: "open", Path: "/redis-password", Err: fs.ErrNotExist}}),
		fmt.Errorf("redis: all sentinels are unreachable: %w", errors.Join(refused, replyError("NOAUTH Authentication required."))),
		replyError("WRONGPASS invalid username-password pair or user is disabled."),
		replyError("NOPERM this user has no permissions to run the 'time' command"),
		replyError("MOVED 3999 127.0.0.1:6381"),
		replyError("LOADING Redis is loading the dataset in memory"),
		replyError("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"),
		replyError("ERR max number of clients reached"),
	} {
		for _, password := range []string{err.Error(), "e", "E", "redis", "password", "6"} {
			if got := secretsOf(password).hideOne(t, err); got != err { //nolint:errorlint // the very same
				t.Errorf("with %q %v became %v", password, err, got)
			}
		}
	}
}

// TestHidden: what repeats a password, in full, cut off or quoted, is replaced,
// wherever it comes from; a reply by a reply.
func TestHidden(t *testing.T) {
	const password = `canary "long" enough to be cut off`
	s := secretsOf("other", password)
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	unknown := replyError("ERR unknown command 'auth', with args beginning with: '" + password + "' ")
	garbage := fmt.Errorf("redis: can't parse %.50q", "hello 3 auth default "+password)
	for _, test := range []struct {
		err   error
		reply bool
	}{
		{unknown, true},
		{replyError(unknown[:len(unknown)-20]), true},
		{replyError("WRONGPASSWORD " + password), true},
		{fmt.Errorf("failed to authenticate: %w", unknown), true},
		{errors.Join(refused, unknown), true},
		{unreached{errors.Join(refused, unknown)}, true},
		{garbage, false},
		{fmt.Errorf("x: %w", garbage), false},
		{errors.Join(refused, garbage), false},
	} {
		got := s.hideOne(t, test.err)
		if strings.Contains(got.Error(), "canary") || !strings.Contains(got.Error(), "is this a Redis?") {
			t.Errorf("%v became %v", test.err, got)
		}
		if Answered(got) != test.reply {
			t.Errorf("%v: answered is %v", test.err, !test.reply)
		}
	}
	harmless := replyError("ERR unknown command 'hmget', with args beginning with: 'session:' ")
	if got := s.hideOne(t, harmless); got != error(harmless) { //nolint:errorlint // the very same
		t.Errorf("%v became %v", harmless, got)
	}
}
