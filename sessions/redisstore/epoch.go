package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// stateEpoch is the field of the hash coatcheck:state whose value says that a master still
// has the data that it had: it is random, set once, and goes with the data. On a Cluster a
// master that does not hold coatcheck:state has a hash coatcheck:state:{N} of its own, whose
// N is the smallest one that belongs to a slot of that master. Where slots move, the hash
// moves with its slot.
const stateEpoch = "epoch"

// maxEpochKeys bounds the N that are tried. A master goes without only if it has fewer than
// about ten slots.
const maxEpochKeys = 8192

// beginEpoch sets the epoch ARGV[2] unless there is one. It needs only rights that a login
// has had for its settings; no shebang line, as with add.
const beginEpoch = `
if redis.call('HMGET', KEYS[1], ARGV[1])[1] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1`

// Epochs returns the epoch of each master, by the key that has it, empty where there is
// none, and those of other keys that the caller knows. It leaves out what could not be read;
// the error says why. An epoch that is gone or another one says that the master has lost
// its data: Redis was emptied or started without it, or it is another Redis.
func (s *State) Epochs(ctx context.Context, known ...string) (map[string]string, error) {
	keys, err := s.epochKeys(ctx)
	errs := []error{err}
	epochs := make(map[string]string, len(keys))
	for _, key := range append(keys, known...) {
		if _, ok := epochs[key]; ok {
			continue
		}
		values, err := s.client.HMGet(ctx, key, stateEpoch).Result()
		if err != nil || len(values) != 1 {
			errs = append(errs, err)
			continue
		}
		epochs[key], _ = values[0].(string)
	}
	return epochs, errors.Join(errs...)
}

// BeginEpoch gives an epoch to each master that has none. Login and the session commands
// do; checks only read.
func (s *State) BeginEpoch(ctx context.Context) error {
	keys, err := s.epochKeys(ctx)
	errs := []error{err}
	for _, key := range keys {
		errs = append(errs, s.client.Eval(ctx, beginEpoch, []string{key}, stateEpoch, rand.Text()).Err())
	}
	return errors.Join(errs...)
}

// epochKeys are a key for each master, the same for every client that knows of the same
// masters.
func (s *State) epochKeys(ctx context.Context) (keys []string, err error) {
	client, _ := unwrap(s.client)
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		return []string{stateKey}, nil
	}
	without, err := mastersOf(ctx, client)
	key := stateKey
	for n := 0; err == nil && len(without) > 0 && n < maxEpochKeys; n++ {
		var master *redis.Client
		if master, err = cluster.MasterForKey(ctx, key); err != nil {
			break
		}
		if i := slices.Index(without, redis.Cmdable(master)); i >= 0 {
			keys, without = append(keys, key), slices.Delete(without, i, i+1)
		}
		key = fmt.Sprintf("%s:{%d}", stateKey, n)
	}
	return keys, err
}

// ErrEmptied says that a session is missing in a Redis that has lost its sessions, so that
// it may have been valid: see [Store.HoldMissing].
var ErrEmptied = errors.New("redis has lost its sessions, and this one is missing")

// HoldMissing has Touch return [ErrEmptied] until then, in place of sessions.ErrNotFound:
// checks answer that they cannot tell, and send no user to log in again. A zero time ends
// it.
func (s *Store) HoldMissing(until time.Time) {
	if until.IsZero() {
		s.held.Store(0)
		return
	}
	s.held.Store(until.UnixNano())
}

// Missing is [ErrEmptied] in place of sessions.ErrNotFound while missing sessions are held,
// and else err: for what a program has read without Touch.
func (s *Store) Missing(err error) error { return s.missing(err) }

// missing is the error of a touch, where it is none while missing sessions are held.
func (s *Store) missing(err error) error {
	if end := s.held.Load(); end != 0 && errors.Is(err, sessions.ErrNotFound) && time.Now().UnixNano() < end {
		return ErrEmptied
	}
	return err
}
