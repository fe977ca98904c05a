package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	// askLimit is how long nodes have to answer, and askWait how long the others have
	// once one has answered.
	askLimit = 250 * time.Millisecond
	askWait  = 50 * time.Millisecond
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
	looked  atomic.Int64           // when last, in Unix nanoseconds
	held    atomic.Pointer[string] // masters of the map that go-redis has
	mu      sync.Mutex             // nodes are asked once at a time
}

// asking marks the context of the question to one node.
type asking struct{}

func (*mapper) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m *mapper) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
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
	now := time.Now().UnixNano()
	if now-m.looked.Load() < int64(lookPause) || !m.looking.CompareAndSwap(false, true) {
		return
	}
	m.looked.Store(now)
	go func() {
		defer m.looking.Store(false)
		slots, err := m.ask(context.Background())
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
		held := masters(slots)
		m.held.Store(&held)
		question.SetVal(slots)
		return nil
	}
}

func (mapperNode) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ask asks all nodes for the map, and returns the one on which most agree of those that
// answer soon. It is an error if none answers.
func (m *mapper) ask(ctx context.Context) ([]redis.ClusterSlot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	nodes := m.nodes.all()
	answers := make(chan mapAnswer, len(nodes))
	for _, node := range nodes {
		go func() { answers <- node.tellMap(ctx) }()
	}
	err := errors.New("redis: no node of the Cluster is known")
	votes := vote{of: make(map[string]tally)}
	var soon <-chan time.Time // nil: none has answered
	for range nodes {
		select {
		case answer := <-answers:
			if answer.err != nil {
				err = answer.err
				continue
			}
			votes.count(answer)
			if soon == nil {
				soon = time.After(askWait)
			}
		case <-soon:
			return votes.agreed, nil
		}
	}
	if soon != nil {
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
func (n *node) tellMap(ctx context.Context) (a mapAnswer) {
	client := n.client.Value()
	if client == nil {
		return mapAnswer{err: redis.ErrClosed}
	}
	if !n.asked.CompareAndSwap(false, true) {
		return mapAnswer{err: errAsked}
	}
	defer n.asked.Store(false)
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, asking{}, true), askLimit)
	defer cancel()
	a.addr = client.Options().Addr
	a.slots, a.err = client.ClusterSlots(ctx).Result()
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
