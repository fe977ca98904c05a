package redisstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/internal/lane"
)

// ErrNotReplicated is [sessions.ErrNotReplicated]: a revocation stands on the master, and
// fewer replicas than [Config.WaitReplicas] acknowledged it in time.
var ErrNotReplicated = sessions.ErrNotReplicated

// Config says how careful revocations are, and who counts. The zero Config is
// ready.
type Config struct {
	// WaitReplicas is how many replicas must acknowledge a revocation.
	WaitReplicas int
	// WaitTimeout bounds the wait for them, give or take a tenth of a second, which is how
	// exact Redis is about it. Zero: 50 ms. The client's read timeout does not bound it.
	WaitTimeout time.Duration
	// Metrics is where the store's metrics and those of its client are registered.
	// Nil: nowhere. Each store needs one of its own; New panics where another's are.
	Metrics prometheus.Registerer
	// Logger gets a line where the store meets a record that another program wrote
	// without an expiry or without an entry in its user's list, at most one an hour of
	// each. Nil: nothing is logged.
	Logger *slog.Logger
}

// A Store implements [sessions.Store]. It is safe for concurrent use.
type Store struct {
	client  redis.UniversalClient // go-redis's own, whose type tells its kind
	nodes   *nodes
	roads   *roads // nil: touches go by the client
	config  Config
	metrics *metrics
	notices *notice.Board
	// sentinels makes clients of the Sentinels; nil: there are none.
	sentinels func() *sentinels
	held      atomic.Int64 // until when what is missing is ErrEmptied, in Unix nanoseconds; 0: never
	// These are since and time.Sleep, but for tests.
	since func(time.Time) time.Duration
	sleep func(time.Duration)
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
	notices, err := notice.NewBoard(config.Logger, config.Metrics, notice.EndlessRecord, notice.UnlistedRecord, notice.NearCacheOff)
	if err != nil {
		panic(err)
	}
	return &Store{client: client, nodes: nodes, roads: nodes.roads, config: config, metrics: newMetrics(config.Metrics, nodes), notices: notices, sentinels: nodes.sentinels, since: since, sleep: time.Sleep}
}

// Touch sends what it needs at once, and asks nothing else, for any answer: by the lane
// to the node, and where that cannot tell, by go-redis.
func (s *Store) Touch(ctx context.Context, key sessions.Key, until time.Time, names []string) (record sessions.Record, left time.Duration, err error) {
	ctx, call := s.metrics.touch.begin(ctx)
	defer call.done(&err)
	road := s.roads.to(ctx, key)
	if road == nil {
		record, left, err = s.touch(ctx, key, until, names)
		return record, left, s.missing(err)
	}
	record, left, err = road.touch(ctx, call.start, key, until, names)
	if !errors.Is(err, lane.ErrAgain) {
		return record, left, s.missing(err)
	}
	if record, left, err = s.touch(ctx, key, until, names); err == nil || errors.Is(err, sessions.ErrNotFound) {
		road.worked(call.start)
	}
	return record, left, s.missing(err)
}

// touch is Touch by go-redis: one pipeline. A pipeline is no transaction: that the key
// was there at the end of it, as PTTL tells, says that nothing was deleted in between.
func (s *Store) touch(ctx context.Context, key sessions.Key, until time.Time, names []string) (_ sessions.Record, left time.Duration, err error) {
	p := s.client.Pipeline()
	_ = p.Process(ctx, redis.NewIntCmd(ctx, "pexpireat", string(key), until.UnixMilli(), "gt"))
	got := p.HMGet(ctx, string(key), names...)
	ttl := pttl(ctx, p, string(key))
	// Its error is the one of the first command that failed, or of the way to Redis:
	// go-redis gives a refused handshake to no command.
	if _, err := p.Exec(ctx); err != nil {
		return nil, 0, failure(err)
	}
	if ttl.Val() == noKey {
		return nil, 0, sessions.ErrNotFound
	}
	record, err := recordOf(names, got.Val())
	return record, lane.Left(ttl.Val()), err
}

// noKey is what PTTL says where there is no key.
const noKey = -2

// pttl asks in milliseconds: go-redis's own PTTL makes seconds of some answers.
func pttl(ctx context.Context, p redis.Pipeliner, key string) *redis.IntCmd {
	cmd := redis.NewIntCmd(ctx, "pttl", key)
	_ = p.Process(ctx, cmd)
	return cmd
}

// Read sends one pipeline for all keys.
func (s *Store) Read(ctx context.Context, names []string, keys ...sessions.Key) (_ []sessions.Entry, err error) {
	ctx, call := s.metrics.read.begin(ctx)
	defer call.done(&err)
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
		// empty.
		ttls[i] = pttl(ctx, p, string(key))
	}
	// A key of another type is a fact about one record, and no error of the others.
	if _, err := p.Exec(ctx); err != nil && !errors.Is(failure(err), sessions.ErrBroken) {
		return nil, err
	}
	entries := make([]sessions.Entry, len(keys))
	for i := range keys {
		if err := ttls[i].Err(); err != nil {
			return nil, err
		}
		entry, err := entryOf(names, gots[i], ttls[i].Val())
		if err != nil {
			return nil, err
		}
		if entries[i] = entry; entry.TTL < 0 && len(entry.Record) > 0 {
			s.notices.Say(notice.EndlessRecord, slog.String("session", keys[i].Handle()))
		}
	}
	return entries, nil
}

// entryOf makes an Entry of the replies to HMGET or HGETALL and to PTTL.
func entryOf(names []string, got redis.Cmder, ttl int64) (sessions.Entry, error) {
	if ttl == noKey {
		return sessions.Entry{Err: sessions.ErrNotFound}, nil
	}
	if err := failure(got.Err()); errors.Is(err, sessions.ErrBroken) {
		return sessions.Entry{Err: err}, nil
	} else if err != nil {
		return sessions.Entry{}, err
	}
	entry := sessions.Entry{TTL: lane.Left(ttl)}
	var err error
	switch got := got.(type) {
	case *redis.SliceCmd:
		entry.Record, err = recordOf(names, got.Val())
	case *redis.MapStringStringCmd:
		entry.Record = got.Val()
	}
	return entry, err
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
	ctx, call := s.metrics.add.begin(ctx)
	defer call.done(&err)
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

// Expire sends PEXPIREAT with LT: the node that holds the record decides by its own
// clock whether the time has come.
func (s *Store) Expire(ctx context.Context, key sessions.Key, at time.Time) (err error) {
	ctx, call := s.metrics.expire.begin(ctx)
	defer call.done(&err)
	return s.client.Process(ctx, redis.NewIntCmd(ctx, "pexpireat", string(key), at.UnixMilli(), "lt"))
}

// errFewTimes says that too few masters of a Cluster have given their time for the
// middle one to be right even if some are wrong.
var errFewTimes = errors.New("less than half of the Cluster's masters tell their time")

// Now sends TIME. On a Cluster it asks all masters, and returns the middle one of
// their times (the earlier of two), so that a node with a wrong clock, or one whose
// breaker is open, does not decide for all.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	ctx, call := s.metrics.now.begin(ctx)
	defer call.done(&err)
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return s.client.Time(ctx).Result()
	}
	var mu sync.Mutex
	var times []time.Time
	asked := 0
	err = cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		now, err := master.Time(ctx).Result()
		mu.Lock()
		defer mu.Unlock()
		if asked++; err == nil {
			times = append(times, now)
		}
		return err
	})
	switch {
	case len(times) == 0:
		return now, err
	case 2*len(times) < asked:
		return now, errFewTimes
	}
	slices.SortFunc(times, time.Time.Compare)
	return times[(len(times)-1)/2], nil
}

// pairs flattens a map for HSET, in any order.
func pairs(m map[string]string) []any {
	args := make([]any, 0, 2*len(m))
	for name, value := range m {
		args = append(args, name, value)
	}
	return args
}

// errValues is no answer about a record: with fields of another question in it, it would be
// another record.
var errValues = errors.New("redis: HMGET is answered with more or fewer values than it asked for")

// recordOf joins the names asked for with what HMGET replied, nil for a field
// that is not there.
func recordOf(names []string, values []any) (sessions.Record, error) {
	if len(values) != len(names) {
		return nil, errValues
	}
	record := make(sessions.Record, len(names))
	for i, value := range values {
		if text, ok := value.(string); ok {
			record[names[i]] = text
		}
	}
	return record, nil
}

// failure tells a key of another type, which is a fact about the record, from
// an error of Redis or on the way to it.
func failure(err error) error {
	if err != nil && redis.HasErrorPrefix(err, "WRONGTYPE") {
		return fmt.Errorf("%w: it is no hash", sessions.ErrBroken)
	}
	return err
}
