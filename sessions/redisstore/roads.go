package redisstore

import (
	"context"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// roads are those to the nodes of a client. It is safe for concurrent use.
type roads struct {
	only    *road                // of a client that is no Cluster's
	cluster *redis.ClusterClient // nil: only
	off     atomic.Bool

	mu     sync.RWMutex
	nodes  map[weak.Pointer[redis.Client]]*road
	closed bool
	ending sync.WaitGroup // roads to nodes that have left the Cluster
}

// to is the road to the node that holds a key, or nil.
func (r *roads) to(ctx context.Context, key sessions.Key) *road {
	if r == nil || r.off.Load() {
		return nil
	}
	if r.cluster == nil {
		return r.only
	}
	node, err := r.cluster.MasterForKey(ctx, string(key))
	if err != nil {
		return nil
	}
	name := weak.Make(node)
	r.mu.RLock()
	found, closed := r.nodes[name], r.closed
	r.mu.RUnlock()
	if found != nil || closed {
		return found
	}
	return r.add(name, node)
}

// add makes the road to a node of a Cluster, and takes those away to nodes that have
// left it. It does not wait for them, since touches wait for it.
func (r *roads) add(name weak.Pointer[redis.Client], node *redis.Client) *road {
	r.mu.Lock()
	defer r.mu.Unlock()
	if found := r.nodes[name]; found != nil || r.closed {
		return found
	}
	for other, road := range r.nodes {
		if other.Value() == nil {
			r.ending.Go(road.close)
			delete(r.nodes, other)
		}
	}
	made := newRoad(simple(node))
	if r.nodes == nil {
		r.nodes = make(map[weak.Pointer[redis.Client]]*road)
	}
	r.nodes[name] = made
	return made
}

// all are those there are.
func (r *roads) all() []*road {
	if r.only != nil {
		return []*road{r.only}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*road, 0, len(r.nodes))
	for _, road := range r.nodes {
		all = append(all, road)
	}
	return all
}

// stats are how many connections are idle and used.
func (r *roads) stats() (idle, used uint32) {
	for _, road := range r.all() {
		i, u := road.stats()
		idle, used = idle+i, used+u
	}
	return idle, used
}

// close ends them. Later touches go by go-redis, which is closed, too.
func (r *roads) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for _, road := range r.all() {
		road.close()
	}
	r.ending.Wait()
}
