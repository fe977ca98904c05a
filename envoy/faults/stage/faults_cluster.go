package stage

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// takeover is the bound after which a Cluster's master has a successor, of which Coatcheck
// knows.
const takeover = NodeTimeout + 2*time.Second

// rejoining is the bound after which a master of a Cluster that was away serves again: for
// two seconds after a start, or a node timeout after a partition, it refuses by itself, in
// case a replica has taken its place (CLUSTER_WRITABLE_DELAY, CLUSTER_MAX_REJOIN_DELAY).
const rejoining = 2*time.Second + time.Second

// shardFaults are what happens to the nodes of a Cluster.
func shardFaults() []Fault {
	return each(clusterFaults, func(f *Fault) {
		f.On = []Kind{Cluster}
	})
}

var clusterFaults = []Fault{
	{
		Name: "cl-kill", Rows: []string{"F12"}, Loss: true, FromStart: true,
		What: "A master is killed; its replica takes its place, and it comes back as a replica.",
		For:  6 * time.Second, Bound: takeover, Inject: onMaster(killed),
	},
	{
		Name: "cl-stop", Rows: []string{"F9", "F12"}, Loss: true, FromStart: true,
		What: "A master stands still for 6 s (SIGSTOP), and comes back believing that it is the master.",
		For:  6 * time.Second, Bound: takeover, Inject: onMaster(stopped),
	},
	{
		Name: "cl-manual", Rows: []string{"F12"}, FromStart: true,
		What: "An operator has a replica take its master's place in order (CLUSTER FAILOVER).",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: succeeded(1),
	},
	{
		Name: "cl-double", Rows: []string{"F12"}, FromStart: true,
		What: "Two replicas take their masters' places in order, at the same time.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: succeeded(2),
	},
	{
		Name: "cl-takeover", Rows: []string{"F12"}, Loss: true, FromStart: true,
		What: "An operator has a replica take its master's place without asking (CLUSTER FAILOVER TAKEOVER).",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: succeeded(1, "takeover"),
	},
	{
		Name: "cl-bounce", Rows: []string{"F2"},
		What: "A master is killed, and up again with its data after 0.2 s. Redis itself refuses for two seconds after a start.",
		For:  200 * time.Millisecond, Bound: rejoining, Inject: onMaster(killed),
		Why: "Redis refuses by itself for two seconds after a start, in case a replica has taken its place",
	},
	{
		Name: "cl-shard", Rows: []string{"F11"},
		What: "A master and its replica are killed, and started again after 3 s: one shard is gone meanwhile.",
		For:  3 * time.Second, Bound: rejoining + NodeTimeout, Inject: shardKilled,
		Why: "Redis refuses by itself for two seconds after a start, in case a replica has taken its place; and the others must find it well first, which takes up to a node timeout",
	},
	{
		Name: "cl-replica-kill", Rows: []string{"F12"},
		What: "A replica is killed, and started again after 1.5 s.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: replicaKilled,
	},
	{
		Name: "cl-migrate", Rows: []string{"F10"},
		What: "Slots move from one master to another and back, with their keys.",
		For:  2 * time.Second, Bound: time.Second, Inject: migrates,
	},
	{
		Name: "cl-seeds", Rows: []string{"F1"},
		What: "The addresses that Coatcheck was told at its start are gone; the Cluster is well.",
		For:  2 * time.Second, Bound: time.Second, Inject: seedsGone,
	},
	{
		Name: "cl-partition", Rows: []string{"F9", "F12"}, Loss: true, FromStart: true,
		What: "A master is parted from all other nodes on the bus; Coatcheck reaches all of them.",
		For:  6 * time.Second, Bound: takeover, Inject: busParted,
	},
	{
		Name: "cl-minority", Rows: []string{"F9", "F12"}, Loss: true,
		What: "A master and one replica of Coatcheck are parted from all the rest for 6 s.",
		For:  6 * time.Second, Bound: rejoining + NodeTimeout, Inject: parted,
		Why: "a master that was cut off refuses for a node timeout after it hears the others again, and these must find it well first",
	},
	{
		Name: "cl-bus", Rows: []string{"F9"}, Loss: true,
		What: "No node reaches another on the bus for 4 s; Coatcheck reaches all of them.",
		For:  4 * time.Second, Bound: rejoining + NodeTimeout, Inject: busCut,
		Why: "a master that was cut off refuses for a node timeout after it hears the others again, and these must find it well first",
	},
	{
		Name: "cl-bus-one-way", Rows: []string{"F9"}, Loss: true,
		What: "What a master says on the bus is lost, and it hears all others.",
		For:  5 * time.Second, Bound: rejoining + NodeTimeout, Inject: busOneWay,
		Why: "a master that was cut off refuses for a node timeout after it hears the others again, and these must find it well first",
	},
}

// succeeded has the replicas of some masters, drawn, take their places. The healing waits
// until they have.
func succeeded(masters int, how ...any) injection {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
		all, err := s.masters(ctx)
		if err != nil {
			return nil, err
		}
		var heirs []*node
		for _, i := range r.Perm(len(all))[:min(masters, len(all))] {
			replicas, err := s.replicas(ctx, all[i])
			if err != nil || len(replicas) == 0 {
				return nil, errors.Join(errors.New("stage: a master has no replica"), err)
			}
			heirs = append(heirs, replicas[0])
		}
		for _, heir := range heirs {
			if _, err := heir.do(ctx, append([]any{"cluster", "failover"}, how...)...); err != nil {
				return nil, err
			}
		}
		return func() error { return haveSucceeded(heirs) }, nil
	}
}

func haveSucceeded(heirs []*node) error {
	ctx, cancel := arranging()
	defer cancel()
	return eventually(ctx, func() error {
		for _, heir := range heirs {
			if is, err := heir.isMaster(ctx); err != nil || !is {
				return errors.Join(errors.New("stage: no failover yet"), err)
			}
		}
		return nil
	})
}

func shardKilled(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	gone, err := s.replicas(ctx, n)
	if err != nil {
		return nil, err
	}
	var u undoing
	for _, one := range append(gone, n) { // the master comes back first, so that it is the one with all data
		if err := killed(ctx, one, &u); err != nil {
			return u.or(err)
		}
	}
	return u.or(nil)
}

func replicaKilled(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	all, err := s.replicas(ctx, n)
	if err != nil || len(all) == 0 {
		return nil, errors.Join(errors.New("stage: a master has no replica"), err)
	}
	var u undoing
	return u.or(killed(ctx, all[0], &u))
}

func seedsGone(_ context.Context, s *Stage, _ *rand.Rand) (func() error, error) {
	var u undoing
	for _, seed := range s.seeds {
		undo, err := seed.refuse()
		u.add(undo)
		if err != nil {
			return u.or(err)
		}
		seed.reset(coatcheck)
	}
	return u.or(nil)
}

func (s *Stage) names(but *node) []source {
	var all []source
	for _, n := range s.nodes {
		if n != but {
			all = append(all, n.name)
		}
	}
	return all
}

// busParted cuts the bus and the replication between a master and all other nodes.
func busParted(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	var u undoing
	if err := n.part(&u, s.names(n)...); err != nil {
		return u.or(err)
	}
	for _, other := range s.nodes {
		if other == n {
			continue
		}
		if err := other.part(&u, n.name); err != nil {
			return u.or(err)
		}
	}
	return u.or(nil)
}

func busCut(_ context.Context, s *Stage, _ *rand.Rand) (func() error, error) {
	var u undoing
	for _, n := range s.nodes {
		undo, err := n.bus.add(rule{conduct: cut})
		u.add(undo)
		if err != nil {
			return u.or(err)
		}
	}
	return u.or(nil)
}

// busOneWay holds what a master says: the questions that it asks, and the answers that it
// gives.
func busOneWay(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	var u undoing
	undo, err := n.bus.add(rule{conduct: conduct{holdDown: true}})
	u.add(undo)
	for _, other := range s.nodes {
		if err != nil {
			break
		}
		if other == n {
			continue
		}
		undo, err = other.bus.add(rule{conduct: conduct{holdUp: true}, from: []source{n.name}})
		u.add(undo)
	}
	return u.or(err)
}
