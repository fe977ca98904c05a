package throttle

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"
	"time"
)

// The rules; the table of the package comment has what they amount to.
var (
	pairRule    = Counter{Free: 5, First: 30 * time.Second, Longest: 30 * time.Minute}
	accountRule = Counter{Free: 20, First: time.Second, Longest: 20 * time.Minute}
	prefixRule  = Counter{Free: 100, First: time.Second, Longest: time.Minute}
	siteRule    = Counter{Free: 500, First: time.Second, Longest: time.Minute}
)

// knownFor is how long an address prefix is known to an account after a login.
const knownFor = 30 * 24 * time.Hour

// keyPrefix begins every key of the throttle. The hash tag keeps them on one node
// of a Cluster, where one script can count them.
const keyPrefix = "throttle:{login}:"

// An Attempt is one attempt to sign in, with the counters that it is counted by.
type Attempt struct {
	pair   Counter
	others []Counter
	known  string // key of the mark that this name has signed in from the prefix
}

// NewAttempt returns the attempt at an account from an address; the zero address
// stands for an unknown one. It counts nothing yet.
func NewAttempt(username string, address netip.Addr) Attempt {
	account, prefix := accountHash(username), addressPrefix(address)
	// As it was typed: who has the account "ádá" must not become known to the account "ada".
	known := keyPrefix + "known:" + hash(hash(username), prefix)
	a := Attempt{
		pair:   at(pairRule, "pair:"+hash(account, prefix), ""),
		others: []Counter{at(accountRule, "account:"+account, known), at(prefixRule, "prefix:"+hash(prefix), "")},
		known:  known,
	}
	if site := addressSite(address); site != "" {
		a.others = append(a.others, at(siteRule, "site:"+hash(site), known))
	}
	return a
}

// at is the rule for one key.
func at(rule Counter, key, unless string) Counter {
	rule.Key, rule.Unless = keyPrefix+key, unless
	return rule
}

func (a Attempt) all() []Counter { return append([]Counter{a.pair}, a.others...) }

// Count counts the attempt with every counter. If one of them has to wait, it
// counts with no counter and returns how long.
func (a Attempt) Count(ctx context.Context, c Counters) (wait time.Duration, err error) {
	return c.Count(ctx, a.all()...)
}

// GiveBack takes back an attempt that was counted, because the password was not
// checked after all.
func (a Attempt) GiveBack(ctx context.Context, c Counters) error {
	return c.Return(ctx, a.all()...)
}

// Succeed forgets the failures of this account at this prefix. The other counters
// get back this attempt alone: else an attacker with an account could sign in to
// buy attempts at other accounts, and a victim who signs in would give the
// attacker attempts.
func (a Attempt) Succeed(ctx context.Context, c Counters) error {
	if err := c.Return(ctx, a.others...); err != nil {
		return err
	}
	if err := c.Clear(ctx, a.pair.Key); err != nil {
		return err
	}
	return c.Mark(ctx, a.known, knownFor)
}

// accountHash stands for a username in the throttle.
func accountHash(username string) string { return hash(Fold(username)) }

// hash keeps what was typed out of keys and logs. The parts cannot run into each
// other: each but the last is a hash itself, of one length.
func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
