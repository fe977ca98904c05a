package redisstore

import (
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/internal/secretfile"
)

// nodes are the servers that a client speaks to: one, or the nodes of a Cluster
// as they come and go. It is safe for concurrent use.
type nodes struct {
	failures int // a breaker's limit; 0: no breakers
	known    *secretfile.Set
	roads    *roads        // nil: touches go by go-redis
	opened   atomic.Uint64 // how often breakers have opened
	// sentinels makes clients of the Sentinels, and latest asks them for the master; nil: there
	// are none.
	sentinels func() *sentinels
	latest    *latest

	mu       sync.Mutex
	list     []*node
	timeouts uint64 // calls that no connection was free for
}

// A node is not kept from the garbage collector, which takes it some time after
// it has left the Cluster.
type node struct {
	client   weak.Pointer[redis.Client]
	breaker  *breaker    // nil: none
	asked    atomic.Bool // for the map of a Cluster
	timeouts uint32      // as last seen
}

// add takes a new client of one node in.
func (n *nodes) add(client *redis.Client) {
	added := &node{client: weak.Make(client)}
	// The breaker is the outer hook: it repeats errors in its own.
	if n.failures > 0 {
		added.breaker = &breaker{limit: int32(n.failures), opened: &n.opened, door: door{database: client.Options().DB > 0}}
		client.AddHook(added.breaker)
	}
	if n.known != nil { // it is a client of ours
		client.AddHook(hideSecrets{n.known})
		client.AddHook(sound{})
		client.AddHook(&knock{secrets: hideSecrets{n.known}})
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, added)
}

// all are the nodes there are, and those that have left not long ago.
func (n *nodes) all() []*node {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.list), func(node *node) bool { return node.client.Value() == nil })
}

// nodeStats are sums over all nodes.
type nodeStats struct {
	idle, used   uint32 // connections
	open         int    // nodes whose breaker is open
	poolTimeouts uint64 // since the start
}

// openedBy are the causes that have opened the breakers that are open, each once.
func (n *nodes) openedBy() (causes []Cause) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, node := range n.list {
		if node.breaker == nil || node.client.Value() == nil {
			continue
		}
		if cause := node.breaker.openedBy(); cause != "" && !slices.Contains(causes, cause) {
			causes = append(causes, cause)
		}
	}
	return causes
}

func (n *nodes) stats() (sum nodeStats) {
	if n.roads != nil {
		sum.idle, sum.used = n.roads.stats()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = slices.DeleteFunc(n.list, func(node *node) bool {
		client := node.client.Value()
		if client == nil {
			return true
		}
		pool := client.PoolStats()
		sum.idle += pool.IdleConns
		sum.used += pool.TotalConns - min(pool.IdleConns, pool.TotalConns)
		n.timeouts += uint64(pool.Timeouts - node.timeouts)
		node.timeouts = pool.Timeouts
		if node.breaker != nil && !node.breaker.closed() {
			sum.open++
		}
		return false
	})
	sum.poolTimeouts = n.timeouts
	return sum
}
