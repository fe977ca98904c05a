package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// accountsKey is a sorted set of what was last seen of the accounts. A member
	// is a user ID, its score the digest of the account, or 0 while the sessions of
	// the account are being ended. The member with the empty name, which no user
	// has, stands for the users file in force.
	accountsKey = "login-accounts"
	// liveAccountsPrefix and the digest of a users file name a mark: it is there
	// while a login works by that file.
	liveAccountsPrefix = accountsKey + ":file:"

	fileMember = ""

	accountsPerScript = 1000
	accountsPerPage   = 10_000
)

// writeAccounts writes ARGV[2...], pairs of a user ID and a digest, or of a user
// ID and an empty text for an account to be forgotten, unless another users file
// than ARGV[1] is in force: 1 if it did. No shebang line, as with add.
const writeAccounts = `
if tonumber(redis.call('ZSCORE', KEYS[1], '') or -1) ~= tonumber(ARGV[1]) then return 0 end
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('ZREM', KEYS[1], ARGV[i])
  else
    redis.call('ZADD', KEYS[1], ARGV[i + 1], ARGV[i])
  end
end
return 1`

// Accounts keeps what was last seen of the accounts of a users file, for
// sessions/login: user IDs and digests, no hash and no name. A digest is below
// 2^53, since the score of a sorted set is a double. It needs neither SCAN nor
// HGETALL, and one key a command. It is safe for concurrent use.
type Accounts struct{ client redis.UniversalClient }

// NewAccounts returns Accounts on client, which stays the caller's to close. It
// sends nothing.
func NewAccounts(client redis.UniversalClient) *Accounts { return &Accounts{client} }

// Claim puts a users file, named by its digest, in force: [Accounts.Write] of
// any other file writes nothing from then on.
func (a *Accounts) Claim(ctx context.Context, file uint64) error {
	return explained(a.client.ZAdd(ctx, accountsKey, redis.Z{Score: float64(file), Member: fileMember}).Err())
}

// Live marks, for so long, that a login works by this file.
func (a *Accounts) Live(ctx context.Context, file uint64, life time.Duration) error {
	cmd := redis.NewCmd(ctx, "eval", mark, 1, liveKey(file), life.Milliseconds())
	return explained(a.client.Process(ctx, cmd))
}

// InForce returns the digest of the file in force, 0 where there is none, and
// whether a login works by it.
func (a *Accounts) InForce(ctx context.Context) (file uint64, live bool, err error) {
	file, _, err = a.One(ctx, fileMember)
	if err != nil || file == 0 {
		return 0, false, err
	}
	n, err := a.client.Exists(ctx, liveKey(file)).Result()
	return file, n == 1, explained(err)
}

// One returns the digest of one account, and whether it is there.
func (a *Accounts) One(ctx context.Context, userID string) (digest uint64, found bool, err error) {
	score, err := a.client.ZScore(ctx, accountsKey, userID).Result()
	if errors.Is(err, redis.Nil) {
		return 0, false, nil
	}
	return digestOf(score), err == nil, explained(err)
}

// All returns the digest of every account, by user ID.
func (a *Accounts) All(ctx context.Context) (map[string]uint64, error) {
	all := make(map[string]uint64)
	for start := int64(0); ; start += accountsPerPage {
		page, err := a.client.ZRangeWithScores(ctx, accountsKey, start, start+accountsPerPage-1).Result()
		if err != nil {
			return nil, explained(err)
		}
		for _, entry := range page {
			if id, ok := entry.Member.(string); ok && id != fileMember {
				all[id] = digestOf(entry.Score)
			}
		}
		if len(page) < accountsPerPage {
			return all, nil
		}
	}
}

// digestOf is the digest that a score is. A score that is none, which is not ours, is 0: the
// sessions of the account are ended, and its digest is written anew. Go would make
// another number of it on each kind of processor.
func digestOf(score float64) uint64 {
	if score >= 0 && score < 1<<53 && score == math.Trunc(score) {
		return uint64(score)
	}
	return 0
}

// Write sets digests and forgets accounts, as long as file is in force; it
// reports whether it was to the end.
func (a *Accounts) Write(ctx context.Context, file uint64, digests map[string]uint64, forget []string) (bool, error) {
	pairs := make([]any, 0, 2*(len(digests)+len(forget)))
	for id, digest := range digests {
		pairs = append(pairs, id, strconv.FormatUint(digest, 10))
	}
	for _, id := range forget {
		pairs = append(pairs, id, "")
	}
	for len(pairs) > 0 {
		n := min(len(pairs), 2*accountsPerScript)
		args := append([]any{"eval", writeAccounts, 1, accountsKey, strconv.FormatUint(file, 10)}, pairs[:n]...)
		cmd := redis.NewCmd(ctx, args...)
		_ = a.client.Process(ctx, cmd)
		if written, err := cmd.Int(); err != nil || written == 0 {
			return false, explained(err)
		}
		pairs = pairs[n:]
	}
	return true, nil
}

func liveKey(file uint64) string { return liveAccountsPrefix + strconv.FormatUint(file, 10) }

// explained adds the cure to a right that is missing. Of a script Redis says
// "The user executing the script can't ...".
func explained(err error) error {
	if err != nil && (Forbidden(err) || strings.Contains(err.Error(), "The user executing the script can't")) {
		return fmt.Errorf("%w (a login with a users file needs ~%s* and +zscore, as docs/sessions.md has it)", err, accountsKey)
	}
	return err
}
