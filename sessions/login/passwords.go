package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// PasswordsConfig says how [Passwords] hashes. The zero PasswordsConfig is ready.
type PasswordsConfig struct {
	// Params are the costs of new hashes, and what an unknown user's login costs.
	Params HashParams
	// Dummy is a hash of the kind and costs that most accounts of the source have,
	// of whatever password; an unknown user's login then costs as much as theirs.
	// Empty: an argon2id hash of Params.
	Dummy string
	// Concurrent bounds the hashes that are computed at the same time. Zero: half
	// of GOMAXPROCS, and at least one.
	Concurrent int
	// Queue bounds the logins that wait for their turn. Zero: four times
	// Concurrent. Negative: none.
	Queue int
	// Wait bounds how long one of them waits. Zero: a second.
	Wait time.Duration
	// Logger takes what keeps a hash from being used or renewed. Nil: none.
	Logger *slog.Logger
	// Metrics takes the collectors, whose names begin with coatcheck_login_hash.
	// Nil: they are not exported.
	Metrics prometheus.Registerer
}

func (c PasswordsConfig) orDefault() PasswordsConfig {
	c.Params = c.Params.orDefault()
	if c.Concurrent <= 0 {
		c.Concurrent = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if c.Queue == 0 {
		c.Queue = 4 * c.Concurrent
	}
	c.Queue = max(0, c.Queue)
	if c.Wait <= 0 {
		c.Wait = time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Passwords is an [Authenticator] over a [Source] of argon2id and bcrypt hashes.
// It is safe for concurrent use.
//
// # Constant work
//
// Where there is no account, or none with a hash that can be used, a dummy hash
// is checked in its place, so that the time of a refusal does not tell who has
// an account. It does tell accounts apart whose hashes cost something else than
// the dummy's, such as bcrypt beside argon2id: name the usual kind in
// [PasswordsConfig].Dummy, and let a [Renewer] make them all alike in time.
//
// bcrypt looks at 72 bytes of a password. A longer one is refused for an account
// with such a hash, never cut short: its user cannot sign in with it.
//
// # Memory
//
// Each hash in the making holds its own memory, 19 MiB by default, and there are
// at most Concurrent of them: this product is what logins hold at a time,
// however many there are. Until the collector has come by, as much again may be
// waiting for it. A source may hold hashes that take more, up to 128 MiB each.
//
// # Renewal
//
// After a login whose hash is bcrypt's, or cheaper than Params, a new hash is
// made while the password is at hand, and handed to the source if that is a
// [Renewer]. If it fails the login does not.
type Passwords struct {
	source  Source
	renewer Renewer // nil: the source is none
	params  HashParams
	dummy   passwordHash
	gate    *hashGate
	logger  *slog.Logger
}

// NewPasswords checks the passwords of a source's users.
func NewPasswords(source Source, c PasswordsConfig) (*Passwords, error) {
	c = c.orDefault()
	if err := c.Params.check(); err != nil {
		return nil, fmt.Errorf("costs of new hashes: %w", err)
	}
	var dummy passwordHash = argon2idHash{HashParams: c.Params, salt: randomBytes(hashSaltSize), sum: randomBytes(hashSumSize)}
	if c.Dummy != "" {
		var err error
		if dummy, err = parseHash(c.Dummy); err != nil {
			return nil, fmt.Errorf("hash for unknown users: %w", err)
		}
	}
	gate, err := newHashGate(c.Concurrent, c.Queue, c.Wait, c.Metrics)
	if err != nil {
		return nil, err
	}
	p := &Passwords{source: source, params: c.Params, dummy: dummy, gate: gate, logger: c.Logger}
	p.renewer, _ = source.(Renewer)
	return p, nil
}

// Authenticate implements [Authenticator]. An empty password and one longer
// than [MaxPassword] are nobody's, and cost nothing.
func (p *Passwords) Authenticate(ctx context.Context, username, password string) (User, error) {
	if password == "" || len(password) > MaxPassword {
		return User{}, ErrBadCredentials
	}
	account, err := p.source.Find(ctx, username)
	if err != nil && !errors.Is(err, ErrNoUser) {
		return User{}, err
	}
	hash := p.usable(ctx, account, err == nil)
	renewed, err := p.check(ctx, hash, password)
	if err != nil {
		return User{}, err
	}
	if renewed != "" {
		p.renew(ctx, account, renewed)
	}
	return account.User, nil
}

// usable is the account's hash, or nil.
func (p *Passwords) usable(ctx context.Context, a Account, found bool) passwordHash {
	if !found {
		return nil
	}
	hash, err := parseHash(a.Hash)
	if err != nil {
		// Tables mark an account without a password by an empty hash, "!" or "*".
		if len(a.Hash) > 1 {
			p.logger.ErrorContext(ctx, "the hash of a user's password cannot be used", "user_id", a.ID, "error", err.Error())
		}
		return nil
	}
	return hash
}

// check compares the password with the hash, or with the dummy where that is
// nil. If it matches and the hash should be renewed, it returns another one,
// made in the same place in the gate.
func (p *Passwords) check(ctx context.Context, hash passwordHash, password string) (renewed string, err error) {
	if err := p.gate.enter(ctx); err != nil {
		return "", err
	}
	defer p.gate.leave()
	if hash == nil {
		p.dummy.matches(password)
		return "", ErrBadCredentials
	}
	if !hash.matches(password) {
		return "", ErrBadCredentials
	}
	if p.renewer != nil && hash.weakerThan(p.params) {
		renewed = newArgon2id(password, p.params).String()
	}
	return renewed, nil
}

// renew stores a new hash. What goes wrong is for the log, and so repeats
// neither hash.
func (p *Passwords) renew(ctx context.Context, a Account, hash string) {
	if err := p.renewer.Renew(ctx, a, hash); err != nil {
		text := strings.NewReplacer(a.Hash, "[hash]", hash, "[hash]").Replace(err.Error())
		p.logger.WarnContext(ctx, "the hash of a user's password was not renewed", "user_id", a.ID, "error", text)
	}
}
