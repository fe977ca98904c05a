package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// PasswordsConfig says how [Passwords] hashes. The zero PasswordsConfig is ready.
type PasswordsConfig struct {
	// Params are the costs of new hashes.
	Params HashParams
	// Dummy names the kinds of hashes that the source holds, with blanks in between:
	// hashes of any password, or what stands in front of their salt, such as
	// "$2b$12$" or "$argon2id$v=19$m=65536,t=4,p=1". Kinds that are found later are
	// added, and a [UserFile] tells its own. Empty: Params, until one is found.
	Dummy string
	// Concurrent bounds the passwords that are checked at the same time. Zero: half
	// of GOMAXPROCS, and at least one.
	Concurrent int
	// Memory bounds the bytes that hashes take together. A hash that takes more is
	// refused. Zero: Concurrent hashes of 128 MiB, the largest that is read.
	Memory int64
	// Queue bounds the logins that wait for their turn. Zero: four times
	// Concurrent. Negative: none.
	Queue int
	// Wait bounds how long one of them waits. Zero: a second.
	Wait time.Duration
	// Confirm is asked about an account whose password was right; its error becomes
	// that of Authenticate. Nil: every such account is taken. See
	// [Accounts.Confirm].
	Confirm func(context.Context, Account) error
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
	if c.Memory <= 0 {
		c.Memory = int64(c.Concurrent) * maxHashMemory << 10
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
// Every refusal does the same work, whether the account exists or not, has a
// password or not, and whatever kind its hash is of: one hash of each kind that
// the source holds, so that it takes at least as long as the slowest. The
// account's own hash stands in for the dummy of its kind. A source whose hashes
// are all of one kind pays for one hash; let a [Renewer] make them all alike. Only
// a login that succeeds may be faster.
//
// A [UserFile] tells its kinds. Those of other sources are learned when an account
// is found: until then its refusals are slower than those for unknown users, so
// name the kinds in [PasswordsConfig].Dummy. At most 16 are kept, the slowest.
//
// bcrypt looks at 72 bytes of a password. A longer one is refused for an account
// with such a hash, never cut short: its user cannot sign in with it.
//
// # Memory
//
// [PasswordsConfig].Memory bounds what all hashes together take, those included
// that the collector has not freed yet. The hash of an account that takes more
// than that is refused, and the log says so once for the user.
//
// # Order
//
// A login waits for its turn before the source is asked, so that what a flood of
// them meets is [ErrBusy], never a source that cannot keep up.
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
	gate    *hashGate
	memory  *hashMemory
	confirm func(context.Context, Account) error
	logger  *slog.Logger

	kinds   hashKinds
	tooMuch sync.Map // IDs of users whose hash takes too much memory, logged already
}

// A kindSource is a Source that knows the kinds of its hashes, and refuses those
// that take more memory than there may be.
type kindSource interface {
	hashKinds() []hashKind
	boundHashes(bytes int64) error
}

// NewPasswords checks the passwords of a source's users. It returns an error for
// a [UserFile] with a hash that takes more than Memory, and that file takes up no
// such hash later.
func NewPasswords(source Source, c PasswordsConfig) (*Passwords, error) {
	c = c.orDefault()
	if err := c.Params.check(); err != nil {
		return nil, fmt.Errorf("costs of new hashes: %w", err)
	}
	known, err := parseHashKinds(c.Dummy)
	if err != nil {
		return nil, fmt.Errorf("hash for unknown users: %w", err)
	}
	p := &Passwords{source: source, params: c.Params, memory: newHashMemory(c.Memory), confirm: c.Confirm, logger: c.Logger}
	if p.renewer, _ = source.(Renewer); p.renewer != nil {
		known = append(known, hashKind{argon2id: c.Params})
	}
	for _, kind := range append(known, hashKind{argon2id: c.Params}) {
		if !p.memory.fits(kind) {
			return nil, fmt.Errorf("the %d bytes for hashes are too few for %s, which takes %d", c.Memory, kind, kind.bytes())
		}
	}
	p.kinds.known = mostWork(known)
	if s, ok := source.(kindSource); ok {
		if err := s.boundHashes(c.Memory); err != nil {
			return nil, err
		}
	}
	p.gate, err = newHashGate(c.Concurrent, c.Queue, c.Wait, c.Metrics)
	return p, err
}

// Authenticate implements [Authenticator]. An empty password and one longer
// than [MaxPassword] belong to no account, and cost nothing.
func (p *Passwords) Authenticate(ctx context.Context, username, password string) (User, error) {
	if password == "" || len(password) > MaxPassword {
		return User{}, ErrBadCredentials
	}
	account, renewed, err := p.check(ctx, username, password)
	if err != nil {
		return User{}, err
	}
	if p.confirm != nil {
		if err := p.confirm(ctx, account); err != nil {
			return User{}, err
		}
	}
	if renewed != "" {
		p.renew(ctx, account, renewed)
	}
	return account.User, nil
}

// check does, in its turn, everything that takes memory or asks the source. If
// the password is right and the hash should be renewed, it returns another one.
func (p *Passwords) check(ctx context.Context, username, password string) (account Account, renewed string, err error) {
	if err := p.gate.enter(ctx); err != nil {
		return Account{}, "", err
	}
	defer p.gate.leave()
	account, err = p.source.Find(ctx, username)
	if err != nil && !errors.Is(err, ErrNoUser) {
		return Account{}, "", err
	}
	hash := p.usable(ctx, account, err == nil)
	if hash != nil {
		p.kinds.learn(hash.kind())
	}
	if right, err := p.compare(ctx, hash, password); err != nil {
		return Account{}, "", err
	} else if !right {
		return Account{}, "", ErrBadCredentials
	}
	if p.renewer != nil && hash.weakerThan(p.params) {
		err = p.memory.use(ctx, hashKind{argon2id: p.params}.bytes(), func() {
			renewed = newArgon2id(password, p.params).String()
		})
	}
	return account, renewed, err
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
	if kind := hash.kind(); !p.memory.fits(kind) {
		if _, logged := p.tooMuch.LoadOrStore(a.ID, true); !logged {
			p.logger.ErrorContext(ctx, "the hash of a user's password takes more memory than hashes may; raise login.hash_memory, or set the password anew",
				"user_id", a.ID, "kind", kind.String(), "bytes", kind.bytes(), "bound", p.memory.limit)
		}
		return nil
	}
	return hash
}

// compare reports whether the password is that of the hash, which may be nil. If
// not, it has computed one hash of each kind.
func (p *Passwords) compare(ctx context.Context, hash passwordHash, password string) (right bool, err error) {
	var own hashKind
	if hash != nil {
		own = hash.kind()
		err := p.memory.use(ctx, own.bytes(), func() { right = hash.matches(password) })
		if right || err != nil {
			return right, err
		}
	}
	for _, kind := range p.heldKinds() {
		if kind == own {
			continue
		}
		if err := p.memory.use(ctx, kind.bytes(), func() { kind.dummy().matches(password) }); err != nil {
			return false, err
		}
	}
	return false, nil
}

// heldKinds are the kinds that the source holds, as far as they are known.
func (p *Passwords) heldKinds() []hashKind {
	kinds := p.kinds.all()
	if s, ok := p.source.(kindSource); ok {
		kinds = mostWork(slices.Concat(s.hashKinds(), kinds))
	}
	if len(kinds) == 0 {
		return []hashKind{{argon2id: p.params}}
	}
	return kinds
}

// renew stores a new hash. What goes wrong is for the log, and so repeats
// neither hash.
func (p *Passwords) renew(ctx context.Context, a Account, hash string) {
	if err := p.renewer.Renew(ctx, a, hash); err != nil {
		text := strings.NewReplacer(a.Hash, "[hash]", hash, "[hash]").Replace(err.Error())
		p.logger.WarnContext(ctx, "the hash of a user's password was not renewed", "user_id", a.ID, "error", text)
	}
}
