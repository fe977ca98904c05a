package userfile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

// An AccountStore keeps the accounts that were last seen: user IDs with digests,
// which are below 2^53. A digest of 0 says that the sessions of an account are
// being ended. redisstore.Accounts is one.
type AccountStore interface {
	// Claim puts the users file of this digest in force.
	Claim(ctx context.Context, file uint64) error
	// Live marks, for so long, that a login works by this file.
	Live(ctx context.Context, file uint64, life time.Duration) error
	// InForce returns the file in force, 0 before the first, and whether a login
	// works by it.
	InForce(ctx context.Context) (file uint64, live bool, err error)
	// One returns the digest of one account, and whether it is there.
	One(ctx context.Context, userID string) (digest uint64, found bool, err error)
	// All returns the digests of all accounts by their user IDs.
	All(ctx context.Context) (map[string]uint64, error)
	// Write sets digests and forgets accounts while file is in force; it reports
	// whether it was in force to the end.
	Write(ctx context.Context, file uint64, digests map[string]uint64, forget []string) (bool, error)
}

var (
	// ErrManyClosed says that a users file lacks more than half of the accounts
	// that were last seen, so that it may be a mistake.
	ErrManyClosed = errors.New("the users file lacks more than half of the accounts that were last seen")
	// ErrOtherFile says that another login, which is alive, works by another users
	// file, as during a rollout.
	ErrOtherFile = errors.New("another login works by another users file")
)

const (
	accountsEvery = 10 * time.Second
	accountsRetry = time.Second
	// accountsLife is how long after its last sign of life a login counts as alive.
	accountsLife = 6 * accountsEvery
	// accountsStep is how many accounts are closed before that is written down.
	accountsStep = 500
)

// AccountsConfig names the users file, the store of accounts and the sessions. File,
// Store and Sessions are required.
type AccountsConfig struct {
	File     *File
	Store    AccountStore
	Sessions interface {
		RevokeUser(ctx context.Context, userID string) (int, error)
	}
	// Logger gets a line for each account whose sessions were ended, and faults.
	// Nil: nothing is logged.
	Logger *slog.Logger
	// Metrics takes the collector coatcheck_login_accounts_unsettled. Nil: it is
	// not exported.
	Metrics prometheus.Registerer
}

// Accounts ends the sessions of accounts that a users file has closed, or whose
// password, roles or attributes it has changed (OWASP ASVS 5.0, 7.4.2 and 7.4.3),
// also where the file changed while no login ran. A change of the username alone
// ends no session: the user is the same, and may do the same.
//
// # Order of work
//
// The accounts in question are written down as being ended, their sessions are
// revoked, and only acknowledged revocations are then written down as done. After a
// crash in between, the next process revokes again.
//
// # Several logins
//
// The file that was taken up last is in force. A login with another one, as
// during a rollout, writes nothing, and signs in those accounts alone that are
// the same in the file in force ([Accounts.Confirm]); when no login lives that
// has the file in force, the others take theirs up. Two files never fight.
//
// # Mistakes
//
// A file that lacks more than half of the accounts last seen ends no session until
// [Accounts.Force] is called. A file that cannot be read changes nothing.
//
// It is safe for concurrent use.
type Accounts struct {
	config    AccountsConfig
	unsettled prometheus.Gauge

	turn    chan struct{} // one place, for the goroutine that may use the fields below
	claimed *contents     // the contents that were put in force; nil: not yet
	logged  string        // what was logged last
}

// NewAccounts returns Accounts. It sends nothing yet.
func NewAccounts(c AccountsConfig) (*Accounts, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Accounts{config: c, turn: make(chan struct{}, 1), unsettled: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "coatcheck_login_accounts_unsettled",
		Help: "1 while accounts that the users file has closed or changed may still have their former sessions.",
	})}
	a.unsettled.Set(1)
	if c.Metrics == nil {
		return a, nil
	}
	return a, c.Metrics.Register(a.unsettled)
}

// Run settles until ctx is done: at once, each time that changed reports a reload,
// and every ten seconds; every second while the store fails.
func (a *Accounts) Run(ctx context.Context, changed <-chan struct{}) {
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(wait):
		}
		wait = accountsEvery
		if err := a.Settle(ctx); err != nil && !errors.Is(err, ErrManyClosed) && !errors.Is(err, ErrOtherFile) {
			wait = accountsRetry
		}
	}
}

// Settle ends the sessions of accounts that are closed or changed. It returns
// [ErrManyClosed] or [ErrOtherFile]. Any other error says that not all of it could
// be done, and that Settle is to be called again.
func (a *Accounts) Settle(ctx context.Context) error {
	_, err := a.settleInTurn(ctx, false)
	return err
}

// Force is [Accounts.Settle] for a file that may lack any number of accounts. It
// returns how many sessions it has ended.
func (a *Accounts) Force(ctx context.Context) (int, error) {
	return a.settleInTurn(ctx, true)
}

// Confirm returns an error unless the account, whose password was right, is the one
// in force: else a replica with an older file would sign in a closed account after
// its sessions were ended. It is made for passwords.Config.
func (a *Accounts) Confirm(ctx context.Context, account passwords.Account) error {
	same, known, err := a.same(ctx, account)
	if err != nil || same {
		return err
	}
	// Redis may have lost the entries, or this login may not have settled yet.
	if err := a.Settle(ctx); errors.Is(err, ErrManyClosed) && !known {
		return nil // a new account of a file that is held up
	} else if err != nil {
		return err
	}
	if same, _, err = a.same(ctx, account); err != nil || same {
		return err
	}
	return ErrOtherFile
}

func (a *Accounts) same(ctx context.Context, account passwords.Account) (same, known bool, err error) {
	seen, known, err := a.config.Store.One(ctx, account.ID)
	return known && seen == digest(account), known, err
}

// settleInTurn settles alone, and logs the result.
func (a *Accounts) settleInTurn(ctx context.Context, force bool) (ended int, err error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	ended, err = a.settle(ctx, force)
	a.report(ctx, err)
	return ended, err
}

func (a *Accounts) settle(ctx context.Context, force bool) (ended int, err error) {
	file := a.config.File.current.Load()
	if err := a.claim(ctx, file, force); err != nil {
		return 0, err
	}
	if err := a.config.Store.Live(ctx, file.digest, accountsLife); err != nil {
		return 0, err
	}
	seen, err := a.config.Store.All(ctx)
	if err != nil {
		return 0, err
	}
	d := compareAccounts(seen, file.digests)
	if force || 2*len(d.closed) <= len(seen) {
		return a.apply(ctx, file, d)
	}
	// A former process has decided these, and has begun to end them.
	if ended, err = a.apply(ctx, file, accountChanges{ending: d.ending}); err != nil {
		return ended, err
	}
	return ended, fmt.Errorf("%w: %d of %d", ErrManyClosed, len(d.closed), len(seen))
}

// claim puts the file in force, if it is new here or no login lives that has the
// one in force.
func (a *Accounts) claim(ctx context.Context, file *contents, force bool) error {
	if a.claimed == file && !force {
		inForce, live, err := a.config.Store.InForce(ctx)
		if err != nil || inForce == file.digest {
			return err
		}
		if live {
			return ErrOtherFile
		}
	}
	if err := a.config.Store.Claim(ctx, file.digest); err != nil {
		return err
	}
	a.claimed, a.logged = file, ""
	return nil
}

// accountChanges are user IDs.
type accountChanges struct {
	closed  []string // in the file no more
	changed []string
	ending  []string // a former process had begun to end their sessions
	added   []string
}

func compareAccounts(seen, file map[string]uint64) (d accountChanges) {
	for id, digest := range seen {
		now, there := file[id]
		switch {
		case digest == 0:
			d.ending = append(d.ending, id)
		case !there:
			d.closed = append(d.closed, id)
		case digest != now:
			d.changed = append(d.changed, id)
		}
	}
	for id := range file {
		if _, there := seen[id]; !there {
			d.added = append(d.added, id)
		}
	}
	return d
}

// apply ends the sessions of accounts that were closed or changed, some accounts
// at a time, and writes the others down.
func (a *Accounts) apply(ctx context.Context, file *contents, d accountChanges) (ended int, err error) {
	// First the new ones, because an empty set looks like one that never was.
	if err := a.write(ctx, file, d.added, nil); err != nil {
		return 0, err
	}
	var errs []error
	for _, group := range []struct {
		reason string
		ids    []string
	}{{"closed", d.closed}, {"changed", d.changed}, {"closed or changed", d.ending}} {
		for ids := group.ids; len(ids) > 0; {
			n := min(len(ids), accountsStep)
			some, err := a.end(ctx, file, ids[:n], group.reason)
			ended += some
			if errs = append(errs, err); errors.Is(err, ErrOtherFile) || ctx.Err() != nil {
				return ended, errors.Join(errs...)
			}
			ids = ids[n:]
		}
	}
	return ended, errors.Join(errs...)
}

// end revokes the sessions of accounts, between the two entries of the order of
// work. A store that is full takes no entry, and yet the sessions are ended.
func (a *Accounts) end(ctx context.Context, file *contents, ids []string, reason string) (ended int, err error) {
	begun := make(map[string]uint64, len(ids))
	for _, id := range ids {
		begun[id] = 0
	}
	inForce, unwritten := a.config.Store.Write(ctx, file.digest, begun, nil)
	if !inForce && unwritten == nil {
		return 0, ErrOtherFile
	}
	ended, done, err := a.revoke(ctx, ids, reason)
	if unwritten != nil {
		return ended, errors.Join(unwritten, err)
	}
	var there, gone []string
	for _, id := range done {
		if _, ok := file.digests[id]; ok {
			there = append(there, id)
		} else {
			gone = append(gone, id)
		}
	}
	return ended, errors.Join(err, a.write(ctx, file, there, gone))
}

// revoke ends the sessions of users, and returns the users for whom that was
// acknowledged. After three failures in a row it leaves the others for later.
func (a *Accounts) revoke(ctx context.Context, ids []string, reason string) (ended int, done []string, err error) {
	var errs []error
	failures := 0
	for _, id := range ids {
		n, err := a.config.Sessions.RevokeUser(ctx, id)
		ended += n
		unreplicated := errors.Is(err, sessions.ErrNotReplicated)
		if n > 0 {
			attrs := []any{"session", "", "user_id", id, "sessions", n, "why", "account " + reason}
			if unreplicated {
				attrs = append(attrs, "replicated", false)
			}
			a.config.Logger.InfoContext(ctx, "session ended", attrs...)
		}
		if err == nil {
			failures, done = 0, append(done, id)
			continue
		}
		errs = append(errs, fmt.Errorf("ending the sessions of user %q: %w", id, err))
		if unreplicated { // the store answers; the user's turn comes again
			continue
		}
		if failures++; failures == 3 {
			break
		}
	}
	return ended, done, errors.Join(errs...)
}

// write writes down accounts as the file has them.
func (a *Accounts) write(ctx context.Context, file *contents, ids, forget []string) error {
	digests := make(map[string]uint64, len(ids))
	for _, id := range ids {
		digests[id] = file.digests[id]
	}
	inForce, err := a.config.Store.Write(ctx, file.digest, digests, forget)
	if err == nil && !inForce {
		return ErrOtherFile
	}
	return err
}

// report logs a result that differs from the last one.
func (a *Accounts) report(ctx context.Context, err error) {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return
	}
	if err == nil {
		a.unsettled.Set(0)
	} else {
		a.unsettled.Set(1)
	}
	what := "done"
	switch {
	case errors.Is(err, ErrManyClosed), errors.Is(err, ErrOtherFile):
		what = err.Error()
	case err != nil:
		what = "failed"
	}
	if what == a.logged {
		return
	}
	a.logged = what
	const done = "the accounts of the users file are in force; the sessions of closed and changed ones have ended"
	switch {
	case err == nil:
		a.config.Logger.InfoContext(ctx, done, "users", len(a.claimed.digests))
	case errors.Is(err, ErrManyClosed):
		a.config.Logger.ErrorContext(ctx, "no session was ended, because this may be a mistake; if it is not, run: coatcheck session revoke --closed", "error", err.Error())
	case errors.Is(err, ErrOtherFile):
		a.config.Logger.WarnContext(ctx, "accounts that differ cannot sign in here until the users files are the same", "error", err.Error())
	default:
		a.config.Logger.ErrorContext(ctx, "the sessions of closed and changed accounts could not be ended; this is tried until it is done", "error", err.Error())
	}
}
