package redisstore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// stateInterval is how old a client's map of the Cluster may get. For 200 ms after it
	// has loaded one go-redis loads no other, so that it is long.
	stateInterval = 30 * time.Second
	// lookPause is how far apart faults make the client look for another.
	lookPause = 50 * time.Millisecond
)

// A mapper keeps a client's map of its Cluster, which says the node of each slot. By
// itself go-redis asks one node at random, which may be dead or cut off from the others,
// and only when a node sends it elsewhere, which a dead one never does. So the mapper is
//
//   - a hook of the client, which looks for another map when a node does not answer, and
//   - a hook of each node, which asks all of them when go-redis asks one, and answers with
//     the map on which most masters agree, as these do among themselves: those on the wrong
//     side of a split are fewer.
type mapper struct {
	cluster *redis.ClusterClient
	nodes   *nodes
	looking atomic.Bool
	looked  atomic.Int64           // until when, in Unix nanoseconds
	held    atomic.Pointer[string] // masters of the map that go-redis has

	mu      sync.Mutex
	running *round // nil: none
	failed  *round // the last one, if no node answered
}

type (
	// asking marks the context of the question to one node.
	asking struct{}
	// calling marks the context of a caller's command, whose answer go-redis does not keep.
	calling struct{}
)

func (*mapper) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m *mapper) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if _, ok := cmd.(*redis.ClusterSlotsCmd); ok {
			ctx = context.WithValue(ctx, calling{}, true)
		}
		err := next(ctx, cmd)
		m.look(err)
		return err
	}
}

func (m *mapper) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err != nil { // the first of several nodes' errors
			for _, cmd := range cmds {
				m.look(cmd.Err())
			}
		}
		return err
	}
}

// look has go-redis load another map after an error that may mean a dead node, if there
// is another. It does not wait. To load one without need would keep go-redis from the next
// for 200 ms.
func (m *mapper) look(err error) {
	if o := outcomeOf(err); o != unanswered && o != late && !errors.Is(err, ErrBreakerOpen) && !redis.IsClusterDownError(err) {
		return
	}
	if time.Now().UnixNano()-m.looked.Load() < int64(lookPause) || !m.looking.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer m.looking.Store(false)
		slots, err := m.ask(context.Background())
		m.looked.Store(time.Now().UnixNano())
		if held := m.held.Load(); err != nil || held == nil || *held != masters(slots) {
			m.cluster.ReloadState(context.Background())
		}
	}()
}

// A mapperNode is the hook of each node.
type mapperNode struct{ *mapper }

func (m mapperNode) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		question, ok := cmd.(*redis.ClusterSlotsCmd)
		if !ok || ctx.Value(asking{}) != nil {
			return next(ctx, cmd)
		}
		slots, err := m.ask(ctx)
		if err != nil {
			question.SetErr(err)
			return err
		}
		if ctx.Value(calling{}) == nil {
			held := masters(slots)
			m.held.Store(&held)
		}
		question.SetVal(slots)
		return nil
	}
}

func (mapperNode) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
