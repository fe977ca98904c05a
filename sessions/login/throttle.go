package login

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// A Counter says how often something may be tried: Free times at once, then each
// time after a longer delay, from First doubling up to Longest. One attempt is
// forgotten each Longest. Where the key Unless is marked, the counter is left out.
type Counter = struct {
	Key     string
	Unless  string // may be empty
	Free    int
	First   time.Duration
	Longest time.Duration
}

// Counters keep the throttle where all replicas see it; redisstore has them. They
// are safe for concurrent use. Every error means that nothing is known, and
// becomes a 503.
type Counters interface {
	// Count counts one attempt with all of counters, or with none where one of them
	// has to wait, and returns how long. It is atomic over all of them.
	Count(ctx context.Context, counters ...Counter) (wait time.Duration, err error)
	// Return takes back an attempt that was counted.
	Return(ctx context.Context, counters ...Counter) error
	// Clear forgets every attempt of a counter.
	Clear(ctx context.Context, key string) error
	// Mark marks a key for so long.
	Mark(ctx context.Context, key string, life time.Duration) error
}

// The throttle's numbers; the package comment says why.
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

// tries are the counters of one attempt.
type tries struct {
	pair   Counter
	others []Counter
	known  string // key of the mark that the account has signed in from the prefix
}

func triesOf(username string, address netip.Addr) tries {
	account, prefix := accountHash(username), addressPrefix(address)
	both := hash(account, prefix)
	known := keyPrefix + "known:" + both
	t := tries{
		pair:   at(pairRule, "pair:"+both, ""),
		others: []Counter{at(accountRule, "account:"+account, known), at(prefixRule, "prefix:"+hash(prefix), "")},
		known:  known,
	}
	if site := addressSite(address); site != "" {
		t.others = append(t.others, at(siteRule, "site:"+hash(site), known))
	}
	return t
}

// at is the rule for one key.
func at(rule Counter, key, unless string) Counter {
	rule.Key, rule.Unless = keyPrefix+key, unless
	return rule
}

func (t tries) all() []Counter { return append([]Counter{t.pair}, t.others...) }

func (t tries) count(ctx context.Context, c Counters) (time.Duration, error) {
	return c.Count(ctx, t.all()...)
}

// giveBack makes the attempt none.
func (t tries) giveBack(ctx context.Context, c Counters) error {
	return c.Return(ctx, t.all()...)
}

// succeed forgets the failures of this account at this prefix, and this attempt
// alone with the others: a user of one's own must not buy attempts at other
// accounts, nor a victim who signs in attempts at theirs.
func (t tries) succeed(ctx context.Context, c Counters) error {
	if err := c.Return(ctx, t.others...); err != nil {
		return err
	}
	if err := c.Clear(ctx, t.pair.Key); err != nil {
		return err
	}
	return c.Mark(ctx, t.known, knownFor)
}

// accountHash stands for a username in the throttle.
func accountHash(username string) string { return hash(fold(username)) }

// hash keeps what was typed out of keys and logs. The parts cannot run into each
// other: each but the last is a hash itself, of one length.
func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// fold makes one of all spellings that some user source might take for the same
// name: letter case, width and ligatures, accents, blanks and what is invisible.
// Names that only look alike here share their counters, which harms nobody; an
// alias with counters of its own would give free attempts.
func fold(username string) string {
	bare := strip(norm.NFKD.String(username))
	// Fold swaps the cases of Cherokee; up and down again makes one of them.
	folded := strings.ToLower(strings.ToUpper(cases.Fold().String(bare)))
	return strip(norm.NFKD.String(folded))
}

func strip(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Mn, unicode.Cf, unicode.Cc, unicode.White_Space) {
			return -1
		}
		return r
	}, s)
}
