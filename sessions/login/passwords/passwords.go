// Package passwords checks passwords by the hashes of a [Source], argon2id or bcrypt:
//
//	users, err := userfile.Open("users.yaml") // or pgusers.New, or a Source of your own
//	checked, err := passwords.New(users, passwords.Config{})
//	user, err := checked.Authenticate(ctx, username, password)
//
// [Passwords] says what a login costs: the same work for an unknown user and for a wrong
// password, in bounded memory, and for a bounded number of logins at the same time.
package passwords

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/coatcheck/coatcheck/sessions/login"
)

// Config says how [Passwords] hashes. The zero Config is ready.
type Config struct {
	// Params are the costs of new hashes.
	Params HashParams
	// Dummy names the kinds of hashes that the source holds, with blanks in between:
	// hashes of any password, or what stands in front of their salt, such as
	// "$2b$12$" or "$argon2id$v=19$m=65536,t=4,p=1". Kinds that are found later are
	// added, and a [KindSource] names its own. Empty: Params, until one is found.
	Dummy string
	// Limit bounds the passwords that are checked at the same time, and those that
	// wait.
	Limit login.LimiterConfig
	// Memory bounds the bytes that hashes take together. A hash that takes more is
	// refused. Zero: Limit.Concurrent hashes of 128 MiB, the largest that is read.
	Memory int64
	// Confirm is asked about an account whose password was right; Authenticate
	// returns its error. Nil: every such account is taken. userfile.Accounts has one.
	Confirm func(context.Context, Account) error
	// Logger gets a line for a hash that cannot be used or renewed. Nil: nothing is
	// logged.
	Logger *slog.Logger
}

func (c Config) orDefault() Config {
	c.Params = c.Params.orDefault()
	if c.Limit.Concurrent <= 0 {
		c.Limit.Concurrent = login.DefaultConcurrent()
	}
	if c.Memory <= 0 {
		c.Memory = int64(c.Limit.Concurrent) * maxHashMemory << 10
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Passwords is a [login.Authenticator] over a [Source] of argon2id and bcrypt
// hashes. It is safe for concurrent use.
//
// # Constant work
//
// Every refusal does the same work, whether the account exists or not, has a
// password or not, and with any kind of hash: one hash of each kind that
// the source holds, so that it takes at least as long as the slowest. The
// account's own hash stands in for the dummy of its kind. A source whose hashes
// are all of one kind pays for one hash; let a [Renewer] make them all alike. Only
// a login that succeeds may be faster.
//
// A [KindSource] names its kinds. Those of other sources are learned when an account
// is found: until then its refusals are slower than those for unknown users, so
// name the kinds in [Config].Dummy. At most 16 are kept, the slowest.
//
// bcrypt looks at 72 bytes of a password. A longer one is refused for an account
// with such a hash, never cut short: its user cannot sign in with it.
//
// # Memory
//
// [Config].Memory bounds what all hashes together take, those included that the
// collector has not freed yet. The hash of an account that takes more is refused,
// and the log says so once for the user.
//
// # Order
//
// A login waits for its turn before the source is asked, so that too many logins
// meet [login.ErrBusy], never a source that cannot keep up.
//
// # Renewal
//
// After a login whose hash is bcrypt's, or cheaper than Params, a new hash is
// made while the password is at hand, and handed to the source if that is a
// [Renewer]. If the renewal fails, the login succeeds all the same.
type Passwords struct {
	source  Source
	renewer Renewer // nil: the source cannot store hashes
	params  HashParams
	limiter *login.Limiter
	memory  *hashMemory
	confirm func(context.Context, Account) error
	logger  *slog.Logger

	kinds   knownKinds
	tooMuch sync.Map // IDs of users whose hash takes too much memory, logged already
}

// New returns Passwords of the users of a source. Its error names what is wrong with
// c, or the hashes of a [KindSource] that take more than Memory.
func New(source Source, c Config) (*Passwords, error) {
	c = c.orDefault()
	if err := c.Params.check(); err != nil {
		return nil, fmt.Errorf("costs of new hashes: %w", err)
	}
	known, err := parseKinds(c.Dummy)
	if err != nil {
		return nil, fmt.Errorf("hash for unknown users: %w", err)
	}
	p := &Passwords{source: source, params: c.Params, memory: newHashMemory(c.Memory), confirm: c.Confirm, logger: c.Logger}
	if p.renewer, _ = source.(Renewer); p.renewer != nil {
		known = append(known, Kind{argon2id: c.Params})
	}
	for _, kind := range append(known, Kind{argon2id: c.Params}) {
		if !p.memory.fits(kind) {
			return nil, fmt.Errorf("the %d bytes for hashes are too few for %s, which takes %d", c.Memory, kind, kind.Bytes())
		}
	}
	p.kinds.known = mostWork(known)
	if s, ok := source.(KindSource); ok {
		if err := s.BoundHashes(c.Memory); err != nil {
			return nil, err
		}
	}
	p.limiter, err = login.NewLimiter(c.Limit)
	return p, err
}

// Authenticate implements [login.Authenticator]. An empty password and one longer
// than [login.MaxPassword] belong to no account, and cost nothing.
func (p *Passwords) Authenticate(ctx context.Context, username, password string) (login.User, error) {
	if password == "" || len(password) > login.MaxPassword {
		return login.User{}, login.ErrBadCredentials
	}
	account, renewed, err := p.check(ctx, username, password)
	if err != nil {
		return login.User{}, err
	}
	if p.confirm != nil {
		if err := p.confirm(ctx, account); err != nil {
			return login.User{}, err
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
	if err := p.limiter.Enter(ctx); err != nil {
		return Account{}, "", err
	}
	defer p.limiter.Leave()
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
		return Account{}, "", login.ErrBadCredentials
	}
	if p.renewer != nil && hash.weakerThan(p.params) {
		err = p.memory.use(ctx, Kind{argon2id: p.params}.Bytes(), func() {
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
				"user_id", a.ID, "kind", kind.String(), "bytes", kind.Bytes(), "bound", p.memory.limit)
		}
		return nil
	}
	return hash
}

// compare reports whether the password belongs to the hash, which may be nil. If not,
// it has computed one hash of each kind.
func (p *Passwords) compare(ctx context.Context, hash passwordHash, password string) (right bool, err error) {
	var own Kind
	if hash != nil {
		own = hash.kind()
		err := p.memory.use(ctx, own.Bytes(), func() { right = hash.matches(password) })
		if right || err != nil {
			return right, err
		}
	}
	for _, kind := range p.heldKinds() {
		if kind == own {
			continue
		}
		if err := p.memory.use(ctx, kind.Bytes(), func() { dummy(kind).matches(password) }); err != nil {
			return false, err
		}
	}
	return false, nil
}

// heldKinds are the kinds that the source holds, as far as they are known.
func (p *Passwords) heldKinds() []Kind {
	kinds := p.kinds.all()
	if s, ok := p.source.(KindSource); ok {
		kinds = mostWork(slices.Concat(s.Kinds(), kinds))
	}
	if len(kinds) == 0 {
		return []Kind{{argon2id: p.params}}
	}
	return kinds
}

// renew stores a new hash. An error goes into the log, which repeats neither hash.
func (p *Passwords) renew(ctx context.Context, a Account, hash string) {
	if err := p.renewer.Renew(ctx, a, hash); err != nil {
		text := strings.NewReplacer(a.Hash, "[hash]", hash, "[hash]").Replace(err.Error())
		p.logger.WarnContext(ctx, "the hash of a user's password was not renewed", "user_id", a.ID, "error", text)
	}
}
