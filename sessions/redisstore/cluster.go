package redisstore

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// stateInterval is how old a client's map of a Cluster may get.
	stateInterval = 5 * time.Second
	// reloadPause is how far apart faults make the client ask for another.
	reloadPause = 200 * time.Millisecond
)

// A reloader is a hook that asks for a new map of the Cluster when a node does
// not answer. go-redis itself does so when a node sends it elsewhere, which a
// dead one never does: it would go on asking it until the map is a minute old.
type reloader struct {
	cluster *redis.ClusterClient
	last    atomic.Int64 // time of the last reload, in Unix nanoseconds
}

func (*reloader) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *reloader) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		r.look(ctx, err)
		return err
	}
}

func (r *reloader) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if err != nil { // the first of several nodes' errors
			for _, cmd := range cmds {
				r.look(ctx, cmd.Err())
			}
		}
		return err
	}
}

// look reloads after an error that may mean a dead node. It does not wait.
func (r *reloader) look(ctx context.Context, err error) {
	if o := outcomeOf(err); o != unanswered && o != late && !errors.Is(err, ErrBreakerOpen) && !redis.IsClusterDownError(err) {
		return
	}
	last, now := r.last.Load(), time.Now().UnixNano()
	if now-last >= int64(reloadPause) && r.last.CompareAndSwap(last, now) {
		r.cluster.ReloadState(ctx)
	}
}
