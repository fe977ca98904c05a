package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2" //nolint:depguard // which nodes are asked is no secret
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// askMost is how many nodes are asked at a time: the map of a large Cluster is long.
	askMost = 16
	// askLimit is how long nodes have to answer, and askWait how long the others have
	// once one has told a map.
	askLimit = 250 * time.Millisecond
	askWait  = 50 * time.Millisecond
)

// A round is one question to all nodes.
type round struct {
	nodes []*node
	done  chan struct{}
	slots []redis.ClusterSlot
	err   error
	until time.Time // for how long its error is repeated
}

// ask returns what all nodes say in the round that runs, or in one that it begins. After
// one without an answer, and while the next one runs, its error is repeated: the first
// calls of a client wait for the map, and no breaker spares its nodes yet.
func (m *mapper) ask(ctx context.Context) ([]redis.ClusterSlot, error) {
	r := m.join()
	select {
	case <-r.done:
		return r.slots, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// join returns the round to wait for, which is over if its error is to be repeated.
func (m *mapper) join() *round {
	m.mu.Lock()
	defer m.mu.Unlock()
	nodes := m.nodes.all()
	same := func(r *round) bool { return r != nil && slices.Equal(r.nodes, nodes) }
	switch {
	case same(m.failed) && (same(m.running) || time.Now().Before(m.failed.until)):
		return m.failed
	case same(m.running):
		return m.running
	}
	r := &round{nodes: nodes, done: make(chan struct{})}
	m.running = r
	go m.run(r)
	return r
}

func (m *mapper) run(r *round) {
	r.slots, r.err = agree(r.nodes)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running == r {
		m.running = nil
	}
	m.failed = nil
	if r.err != nil {
		m.failed, r.until = r, time.Now().Add(probeEvery)
	}
	close(r.done)
}

// agree asks nodes for the map, and returns the one on which most agree of those that
// answer soon. It is an error if none answers. Of many nodes it asks some, drawn anew each
// time.
func agree(nodes []*node) ([]redis.ClusterSlot, error) {
	if len(nodes) > askMost {
		nodes = slices.Clone(nodes)
		rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] }) //nolint:gosec // likewise
		nodes = nodes[:askMost]
	}
	answers := make(chan mapAnswer, len(nodes))
	for _, node := range nodes {
		go func() { answers <- node.tellMap() }()
	}
	err := errors.New("redis: no node of the Cluster is known")
	votes := vote{of: make(map[string]tally)}
	answered := false
	var soon <-chan time.Time // nil: none has told a map
	for range nodes {
		select {
		case answer := <-answers:
			if answer.err != nil {
				err = answer.err
				continue
			}
			answered = true
			votes.count(answer)
			if soon == nil && len(answer.slots) > 0 { // one without slots may have left
				soon = time.After(askWait)
			}
		case <-soon:
			return votes.agreed, nil
		}
	}
	if answered {
		err = nil
	}
	return votes.agreed, err
}

// A mapAnswer is what a node says of the Cluster.
type mapAnswer struct {
	addr  string // of the node
	slots []redis.ClusterSlot
	err   error
}

// byMaster reports whether the node is a master, by its own account.
func (a mapAnswer) byMaster() bool {
	return slices.ContainsFunc(a.slots, func(s redis.ClusterSlot) bool { return masterOf(s) == a.addr })
}

// errAsked says that a node has not answered the last question for the map yet.
var errAsked = errors.New("redis: a node of the Cluster hangs")

// tellMap asks one node, unless it still owes an answer: questions to one that hangs would
// take a connection each.
func (n *node) tellMap() (a mapAnswer) {
	client := n.client.Value()
	if client == nil {
		return mapAnswer{err: redis.ErrClosed}
	}
	if !n.asked.CompareAndSwap(false, true) {
		return mapAnswer{err: errAsked}
	}
	defer n.asked.Store(false)
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), asking{}, true), askLimit)
	defer cancel()
	a.addr = cmp.Or(client.NodeAddress(), client.Options().Addr) // as the others know it, where go-redis has replaced that
	a.slots, a.err = client.ClusterSlots(ctx).Result()           //nolint:staticcheck // the right that clients need anyway is cluster|slots
	return a
}

// A vote counts which nodes tell each map. One without slots is told by a node that has
// left the Cluster, and counts only where there is no other.
type vote struct {
	of     map[string]tally
	agreed []redis.ClusterSlot
	most   tally
}

// A tally is how many tell a map. One more master outweighs all replicas: on the wrong side
// of a split there may be more of these.
type tally struct{ masters, nodes int }

func (v *vote) count(a mapAnswer) {
	if len(a.slots) == 0 {
		return
	}
	name := masters(a.slots)
	t := v.of[name]
	if t.nodes++; a.byMaster() {
		t.masters++
	}
	v.of[name] = t
	if t.masters > v.most.masters || t.masters == v.most.masters && t.nodes > v.most.nodes {
		v.agreed, v.most = a.slots, t
	}
}

// masterOf is the address of the master of some slots, which the Cluster lists first.
func masterOf(slot redis.ClusterSlot) string {
	if len(slot.Nodes) == 0 {
		return ""
	}
	return slot.Nodes[0].Addr
}

// masters is a map in words, but for the replicas, which are not asked.
func masters(slots []redis.ClusterSlot) string {
	slots = slices.Clone(slots)
	slices.SortFunc(slots, func(a, b redis.ClusterSlot) int { return cmp.Compare(a.Start, b.Start) })
	var words strings.Builder
	for _, slot := range slots {
		fmt.Fprintf(&words, "%d-%d %s\n", slot.Start, slot.End, masterOf(slot))
	}
	return words.String()
}
