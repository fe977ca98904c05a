package redisstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// A revocation is a change that replicas may have to acknowledge. WAIT speaks of the last
// change that was made on its own connection, and it has no key to be routed by; so on a
// Cluster the changes of each master go to it in one pipeline, with WAIT behind them.

// A group of keys is asked of one client.
type group struct {
	client redis.Cmdable
	keys   []sessions.Key
}

// byNode groups keys by the node that must be asked.
func (s *Store) byNode(ctx context.Context, keys []sessions.Key) ([]*group, error) {
	var groups []*group
	var errs []error
	at := make(map[redis.Cmdable]*group)
	for _, key := range keys {
		client, err := s.holder(ctx, string(key))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if at[client] == nil {
			at[client] = &group{client: client}
			groups = append(groups, at[client])
		}
		at[client].keys = append(at[client].keys, key)
	}
	return groups, errors.Join(errs...)
}

// holder is the client to ask for a change to key that replicas must acknowledge:
// on a Cluster the one of the key's master.
func (s *Store) holder(ctx context.Context, key string) (redis.Cmdable, error) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok || s.config.WaitReplicas == 0 {
		return s.client, nil
	}
	return cluster.MasterForKey(ctx, key)
}

// change has one node make changes, each to one key, and replicas acknowledge them if
// configured so. What the node says that another one has now, is changed there.
func (s *Store) change(ctx context.Context, client redis.Cmdable, changes []redis.Cmder) error {
	acknowledged, err := s.changeAt(ctx, client, changes, false)
	cluster, ok := s.client.(*redis.ClusterClient)
	if err != nil && ok {
		cluster.ReloadState(ctx) // a client of one node does not ask for it
	}
	if err == nil || !ok || !elsewhere(err) {
		return sessions.JoinRevocations(err, acknowledged)
	}
	return s.follow(ctx, cluster, changes, acknowledged)
}

// changeAt sends one pipeline. Where that went well, acknowledged says whether enough
// replicas have what it changed.
func (s *Store) changeAt(ctx context.Context, client redis.Cmdable, changes []redis.Cmder, asking bool) (acknowledged, err error) {
	if s.config.WaitReplicas > 0 {
		client = s.patient(client)
	}
	p := client.Pipeline()
	for _, cmd := range changes {
		if asking { // of a slot that is on its way, for the next command alone
			_ = p.Process(ctx, redis.NewStatusCmd(ctx, "asking"))
		}
		_ = p.Process(ctx, cmd)
	}
	if s.config.WaitReplicas == 0 {
		_, err := p.Exec(ctx)
		return nil, err
	}
	wait := redis.NewIntCmd(ctx, "wait", s.config.WaitReplicas, s.config.WaitTimeout.Milliseconds())
	_ = p.Process(ctx, onceInt{wait})
	_, err = p.Exec(ctx)
	if n := int(wait.Val()); n < s.config.WaitReplicas && wait.Err() == nil {
		acknowledged = fmt.Errorf("%w: %d of %d", ErrNotReplicated, n, s.config.WaitReplicas)
	}
	return acknowledged, err
}

// waitGrace is how late WAIT may answer: Redis looks at its timeout ten times a second (hz), and
// a revocation has more time than a check.
const waitGrace = time.Second

// patient is a client whose reads last as long as WAIT does. One of less patience would take
// replicas that do not answer for a Redis that does not.
func (s *Store) patient(client redis.Cmdable) redis.Cmdable {
	node, ok := client.(*redis.Client)
	if limit := s.config.WaitTimeout + waitGrace; ok && node.Options().ReadTimeout < limit {
		return node.WithTimeout(limit)
	}
	return client
}

// onceInt has go-redis send a pipeline once. After a lost reply it would send it again on
// another connection, where nothing is left to be changed, so that its WAIT would speak of
// nothing: as if replicas had acknowledged what may be on none.
type onceInt struct{ *redis.IntCmd }

func (onceInt) NoRetry() bool { return true }

// elsewhere reports whether a node says that another one has the key.
func elsewhere(err error) bool {
	_, moved := redis.IsMovedError(err)
	_, ask := redis.IsAskError(err)
	return moved || ask
}

// A target is where a node sends a change.
type target struct {
	addr string
	ask  bool
}

// follow makes those of the changes that are another node's. acknowledged is of the others.
func (s *Store) follow(ctx context.Context, cluster *redis.ClusterClient, changes []redis.Cmder, acknowledged error) error {
	var errs []error
	moved := make(map[target][]redis.Cmder)
	for _, cmd := range changes {
		err := cmd.Err()
		if addr, ok := redis.IsMovedError(err); ok {
			moved[target{addr, false}] = append(moved[target{addr, false}], cmd)
		} else if addr, ok := redis.IsAskError(err); ok {
			moved[target{addr, true}] = append(moved[target{addr, true}], cmd)
		} else if err != nil {
			errs = append(errs, err)
		} else {
			errs = append(errs, acknowledged)
		}
	}
	for to, cmds := range moved {
		client, err := nodeAt(ctx, cluster, to.addr)
		if err == nil {
			acknowledged, err = s.changeAt(ctx, client, cmds, to.ask)
			errs = append(errs, acknowledged)
		}
		errs = append(errs, err)
	}
	return sessions.JoinRevocations(errs...)
}

// errUnknownNode says that the client's map of the Cluster lacks a node.
var errUnknownNode = errors.New("the Cluster names a node that is not on the client's map of it yet")

// nodeAt is the client of the node with an address.
func nodeAt(ctx context.Context, cluster *redis.ClusterClient, addr string) (*redis.Client, error) {
	found := make(chan *redis.Client, 1)
	err := cluster.ForEachShard(ctx, func(_ context.Context, node *redis.Client) error {
		if node.Options().Addr == addr {
			select {
			case found <- node:
			default:
			}
		}
		return nil
	})
	select {
	case node := <-found:
		return node, nil
	default:
		return nil, errors.Join(errUnknownNode, err)
	}
}
