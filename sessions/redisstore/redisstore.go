package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// indexPrefix begins the name of the sorted set that lists a user's sessions.
const indexPrefix = "user-sessions:"

// ErrNotReplicated says that a revocation stands on the master, and that fewer
// replicas than asked for acknowledged it in time: a failover now could lose it.
var ErrNotReplicated = errors.New("revoked, but not acknowledged by enough replicas")

// Config says how careful revocations are, and who counts. The zero Config is
// ready.
type Config struct {
	// WaitReplicas is how many replicas must acknowledge a revocation.
	WaitReplicas int
	// WaitTimeout bounds the wait for them. Zero: 50 ms. It must lie below the
	// client's read timeout.
	WaitTimeout time.Duration
	// Metrics is where the store's metrics and those of its client are registered.
	// Nil: nowhere. Each store needs one of its own; New panics where another's are.
	Metrics prometheus.Registerer
}

// A Store implements [sessions.Store]. It is safe for concurrent use.
type Store struct {
	client  redis.UniversalClient // go-redis's own, whose type tells its kind
	config  Config
	metrics *metrics
}

var _ sessions.Store = (*Store)(nil)

// New returns a Store on client, which stays the caller's to close. It sends
// nothing. The metrics know of a breaker only if client is a [Client].
func New(client redis.UniversalClient, config Config) *Store {
	if config.WaitTimeout == 0 {
		config.WaitTimeout = 50 * time.Millisecond
	}
	config.WaitTimeout = max(config.WaitTimeout, time.Millisecond) // WAIT takes 0 for ever
	client, nodes := unwrap(client)
	return &Store{client: client, config: config, metrics: newMetrics(config.Metrics, nodes)}
}

// Create writes the listing first and the record second, each in a transaction
// with its expiry. They are two because a Cluster may keep them apart.
func (s *Store) Create(ctx context.Context, c sessions.Creation) (err error) {
	defer s.metrics.create.done(time.Now(), &err)
	index := indexPrefix + c.UserID
	_, err = s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.ZRemRangeByScore(ctx, index, "-inf", millis(c.Now))
		p.ZAdd(ctx, index, redis.Z{Score: float64(c.Absolute.UnixMilli()), Member: c.Key.Hash()})
		// NX for a new set, GT for one that has to live longer.
		p.Do(ctx, "PEXPIREAT", index, c.Absolute.UnixMilli(), "NX")
		p.Do(ctx, "PEXPIREAT", index, c.Absolute.UnixMilli(), "GT")
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing the session: %w", err)
	}
	_, err = s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, string(c.Key), pairs(c.Record))
		p.PExpireAt(ctx, string(c.Key), c.Expiry)
		return nil
	})
	if err == nil {
		s.metrics.created.Inc()
	}
	return err
}

// Touch sends one pipeline, and an EXISTS where that read nothing.
func (s *Store) Touch(ctx context.Context, key sessions.Key, until time.Time, names []string) (_ sessions.Record, err error) {
	defer s.metrics.touch.done(time.Now(), &err)
	p := s.client.Pipeline()
	slid := redis.NewIntCmd(ctx, "pexpireat", string(key), until.UnixMilli(), "gt")
	_ = p.Process(ctx, slid)
	got := p.HMGet(ctx, string(key), names...)
	// The error of a pipeline is that of its first failed command; each has its own.
	_, _ = p.Exec(ctx)
	if err := slid.Err(); err != nil {
		return nil, err
	}
	if err := failure(got.Err()); err != nil {
		return nil, err
	}
	if record := recordOf(names, got.Val()); len(record) > 0 {
		return record, nil
	}
	// Even if it slid: a pipeline is no transaction, and the record may have been
	// deleted in between.
	return nil, s.missing(ctx, key)
}

// missing is ErrNotFound, or ErrBroken for a hash without any field asked for.
func (s *Store) missing(ctx context.Context, key sessions.Key) error {
	n, err := s.client.Exists(ctx, string(key)).Result()
	switch {
	case err != nil:
		return err
	case n == 0:
		return sessions.ErrNotFound
	}
	return fmt.Errorf("%w: it has none of the layout's fields", sessions.ErrBroken)
}

// Read sends one pipeline for all keys.
func (s *Store) Read(ctx context.Context, names []string, keys ...sessions.Key) (_ []sessions.Entry, err error) {
	defer s.metrics.read.done(time.Now(), &err)
	p := s.client.Pipeline()
	ttls := make([]*redis.IntCmd, len(keys))
	gots := make([]redis.Cmder, len(keys))
	for i, key := range keys {
		if names == nil {
			gots[i] = p.HGetAll(ctx, string(key))
		} else {
			gots[i] = p.HMGet(ctx, string(key), names...)
		}
		// Behind the fields, so that a record deleted in between is missing and not
		// empty. go-redis rounds its own PTTL to seconds or less.
		ttls[i] = redis.NewIntCmd(ctx, "pttl", string(key))
		_ = p.Process(ctx, ttls[i])
	}
	_, _ = p.Exec(ctx)
	entries := make([]sessions.Entry, len(keys))
	for i := range keys {
		if err := ttls[i].Err(); err != nil {
			return nil, err
		}
		entry, err := entryOf(names, gots[i], ttls[i].Val())
		if err != nil {
			return nil, err
		}
		entries[i] = entry
	}
	return entries, nil
}

// entryOf makes an Entry of the replies to HMGET or HGETALL and to PTTL, which
// is -2 where there is no key.
func entryOf(names []string, got redis.Cmder, ttl int64) (sessions.Entry, error) {
	if ttl == -2 {
		return sessions.Entry{Err: sessions.ErrNotFound}, nil
	}
	if err := failure(got.Err()); errors.Is(err, sessions.ErrBroken) {
		return sessions.Entry{Err: err}, nil
	} else if err != nil {
		return sessions.Entry{}, err
	}
	entry := sessions.Entry{TTL: time.Duration(ttl) * time.Millisecond}
	switch got := got.(type) {
	case *redis.SliceCmd:
		entry.Record = recordOf(names, got.Val())
	case *redis.MapStringStringCmd:
		entry.Record = got.Val()
	}
	return entry, nil
}

// add adds ARGV's names and values to the hash KEYS[1]: 1, 0 where there is
// no such key, -1 where a name is taken. It has no shebang line: Redis refuses
// scripts with one when its memory is full, even where they would write nothing.
const add = `
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for i = 1, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then return -1 end
end
for i = 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1`

// once is a command that go-redis must not send again after a lost reply: the
// second answer would say that the fields, our own, exist already.
type once struct{ *redis.Cmd }

func (once) NoRetry() bool { return true }

// Add runs a script on one key. It is sent once; after an error it is unknown
// whether it ran.
func (s *Store) Add(ctx context.Context, key sessions.Key, fields map[string]string) (err error) {
	defer s.metrics.add.done(time.Now(), &err)
	args := append([]any{"eval", add, 1, string(key)}, pairs(fields)...)
	cmd := redis.NewCmd(ctx, args...)
	_ = s.client.Process(ctx, once{cmd})
	n, err := cmd.Int()
	switch {
	case failure(err) != nil:
		return failure(err)
	case n == 0:
		return sessions.ErrNotFound
	case n < 0:
		return sessions.ErrFieldExists
	}
	return nil
}

// Expire sends PEXPIREAT with a time long past, for which the right to expire
// is enough.
func (s *Store) Expire(ctx context.Context, key sessions.Key) (err error) {
	defer s.metrics.expire.done(time.Now(), &err)
	return s.client.PExpireAt(ctx, string(key), time.UnixMilli(1)).Err()
}

// Delete removes the records, waits for replicas if configured so, and then
// clears the listing, whose failure changes nothing: it is advisory.
func (s *Store) Delete(ctx context.Context, userID string, keys ...sessions.Key) (n int, err error) {
	defer s.metrics.remove.done(time.Now(), &err)
	n, err = s.deleteRecords(ctx, keys)
	s.metrics.revoked.Add(float64(n))
	if userID != "" && len(keys) > 0 && (err == nil || errors.Is(err, ErrNotReplicated)) {
		members := make([]any, len(keys))
		for i, key := range keys {
			members[i] = key.Hash()
		}
		s.client.ZRem(ctx, indexPrefix+userID, members...)
	}
	return n, err
}

// UserKeys reads the listing and prunes it.
func (s *Store) UserKeys(ctx context.Context, userID string, now time.Time) (_ []sessions.Key, err error) {
	defer s.metrics.list.done(time.Now(), &err)
	index := indexPrefix + userID
	var members *redis.StringSliceCmd
	_, err = s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.ZRemRangeByScore(ctx, index, "-inf", millis(now))
		members = p.ZRange(ctx, index, 0, -1)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var keys []sessions.Key
	for _, member := range members.Val() {
		// Others may write the listing; what is no key is nobody's.
		if key, err := sessions.ParseKey(sessions.KeyPrefix + member); err == nil {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// Now sends TIME. On a Cluster go-redis asks any node, so one that is left alone
// does not speak for all.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	defer s.metrics.now.done(time.Now(), &err)
	for range 3 {
		now, err = s.client.Time(ctx).Result()
		if !errors.Is(err, ErrBreakerOpen) {
			break
		}
	}
	return now, err
}

func millis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// pairs flattens a map for HSET, in any order.
func pairs(m map[string]string) []any {
	args := make([]any, 0, 2*len(m))
	for name, value := range m {
		args = append(args, name, value)
	}
	return args
}

// recordOf joins the names asked for with what HMGET replied, nil for a field
// that is not there.
func recordOf(names []string, values []any) sessions.Record {
	record := make(sessions.Record, len(names))
	for i, value := range values {
		if text, ok := value.(string); ok {
			record[names[i]] = text
		}
	}
	return record
}

// failure tells a key of another type, which is a fact about the record, from
// an error of Redis or on the way to it.
func failure(err error) error {
	if err != nil && redis.HasErrorPrefix(err, "WRONGTYPE") {
		return fmt.Errorf("%w: it is no hash", sessions.ErrBroken)
	}
	return err
}
