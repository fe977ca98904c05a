package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// failover is the bound after which a master that Sentinels watch has a successor, of which
// Coatcheck knows.
const failover = DownAfter + 2*time.Second

// watchedFaults are what happens to a master that Sentinels watch, and to these.
func watchedFaults() []Fault {
	return each(sentinelFaults, func(f *Fault) {
		f.On = []Kind{Sentinel}
	})
}

var sentinelFaults = []Fault{
	{
		Name: "se-kill", Rows: []string{"F7"}, Loss: true, FromStart: true,
		What: "The master is killed; a replica takes its place, and it comes back as a replica.",
		For:  5 * time.Second, Bound: failover, Inject: masterKilled,
	},
	{
		Name: "se-stop", Rows: []string{"F7", "F9"}, Loss: true, FromStart: true,
		What: "The master stands still for 5 s (SIGSTOP), and comes back believing that it is the master.",
		For:  5 * time.Second, Bound: failover + time.Second, Inject: onMaster(stopped),
		Why: "a silent master keeps its connections, so that the Sentinels find it down up to a second later than one whose port refuses",
	},
	{
		Name: "se-manual", Rows: []string{"F7"}, Loss: true, FromStart: true,
		What: "An operator has the Sentinels change the master (SENTINEL FAILOVER); for a moment the old one takes writes, too, and a replica confirms them.",
		For:  2 * time.Second, Bound: failover, Inject: byHand,
	},
	{
		Name: "se-pause", Rows: []string{"F3", "F7"}, FromStart: true,
		What: "An operator pauses writes on the master before the Sentinels change it (CLIENT PAUSE WRITE, SENTINEL FAILOVER), as docs/operations.md asks for: nothing may be lost.",
		For:  2 * time.Second, Bound: failover, Inject: pausedByHand,
	},
	{
		Name: "se-partition", Rows: []string{"F9"}, Loss: true,
		What: "The master and one replica of Coatcheck are parted from all the rest for 5 s: there are two masters.",
		For:  5 * time.Second, Bound: time.Second, Inject: parted,
	},
	{
		Name: "se-isolate", Rows: []string{"F7", "F9"}, Loss: true, FromStart: true,
		What: "The master alone is parted from all the rest, and comes back after 5 s.",
		For:  5 * time.Second, Bound: failover + time.Second, Inject: isolated,
		Why: "a silent master keeps its connections, so that the Sentinels find it down up to a second later than one whose port refuses",
	},
	{
		Name: "se-replication", Rows: []string{"F9"},
		What: "The master is parted from its replicas, and no process else.",
		For:  2 * time.Second, Bound: time.Second, Inject: unreplicated,
	},
	{
		Name: "se-sentinels", Rows: []string{"F8"},
		What: "All Sentinels are killed, and started again after 2 s; Redis is well.",
		For:  2 * time.Second, Bound: time.Second, Inject: sentinelsKilled,
	},
	{
		Name: "se-sentinels-stop", Rows: []string{"F8"},
		What: "All Sentinels stand still, connections of Coatcheck's are ended, and Redis is well.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: sentinelsStopped,
	},
	{
		Name: "se-blind", Rows: []string{"F7", "F8"}, Loss: true, FromStart: true,
		What: "One Sentinel is parted from Redis and from the others, and names a master for ever that is killed then.",
		For:  5 * time.Second, Bound: failover, Inject: oneBlind,
	},
	{
		Name: "se-rolling", Rows: []string{"F8"},
		What: "One Sentinel after the other is killed and started again.",
		For:  time.Second, Bound: time.Second, Inject: sentinelsRolling,
	},
	{
		Name: "se-lag", Rows: []string{"F7", "F9"}, Loss: true, FromStart: true,
		What: "The replicas get nothing of the master for a second, and then it is killed.",
		For:  5 * time.Second, Bound: time.Second + failover, Inject: laggingKilled,
		Why: "the master is killed a second after the fault begins",
	},
	{
		Name: "se-replicas", Rows: []string{"F7"},
		What: "Both replicas are killed, and started again after 1.5 s.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: replicasKilled,
	},
	{
		Name: "se-bounce", Rows: []string{"F2", "F7"}, Loss: true, FromStart: true,
		What: "The master is killed, and up again with its data after 0.2 s: the Sentinels may change it.",
		For:  200 * time.Millisecond, Bound: failover + time.Second, Inject: onMaster(killed),
		Why: "it is back before most Sentinels find it down; those that count from an answer some time old may change it all the same, a second later",
	},
	{
		Name: "se-restart-coat", Rows: []string{"F1", "F7"}, Loss: true, Down: true, FromStart: true,
		What: "The master is killed, and a replica of Coatcheck starts again during the failover.",
		For:  5 * time.Second, Bound: failover, Inject: killedWhileStarting,
	},
	{
		Name: "se-late", Rows: []string{"F6", "F7"}, Loss: true, FromStart: true,
		What: "The master is killed while all Sentinels but one are away, and these come back after 2 s.",
		For:  6 * time.Second, Bound: 2*time.Second + failover + time.Second, Inject: lateQuorum,
		Why: "for two seconds there are too few Sentinels to agree, and those that come back count anew",
	},
	{
		Name: "se-stale", Rows: []string{"F6", "F7"}, Loss: true, FromStart: true,
		What: "The master is killed, and comes back after the failover as the master that it was, until the Sentinels see it.",
		For:  5 * time.Second, Bound: failover, Inject: onMaster(killed),
	},
}

// masterKilled starts the old master again as a replica of the new one, as the charts do
// that ask the Sentinels first.
func masterKilled(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	return func() error { return s.returns(n) }, n.kill()
}

// returns starts a node as what it is to the Sentinels.
func (s *Stage) returns(n *node) error {
	ctx, cancel := arranging()
	defer cancel()
	master, err := s.watched(ctx)
	if err != nil || master == n {
		return n.start()
	}
	n.lines = nil
	return n.start(follow(master))
}

func byHand(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	before, err := s.watched(ctx)
	if err != nil {
		return nil, err
	}
	watch := s.sentinels[r.IntN(len(s.sentinels))]
	// NOGOODSLAVE: a replica that was not seen for a moment.
	if err := eventually(ctx, func() error { return watch.failOver(ctx) }); err != nil {
		return nil, err
	}
	return func() error {
		ctx, cancel := arranging()
		defer cancel()
		return eventually(ctx, func() error {
			if now, err := s.watchedBy(ctx, watch); err == nil && now != before {
				return nil
			}
			time.Sleep(time.Second)
			_ = watch.failOver(ctx) // it has given up; else it says INPROG
			return errors.New("stage: the master is the same")
		})
	}, nil
}

// pausedByHand is byHand of a master that takes no write any more. The pause outlasts the
// 8 s after which Sentinels make the old master a replica.
func pausedByHand(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	if _, err := n.do(ctx, "client", "pause", 10_000, "write"); err != nil {
		return nil, err
	}
	heal, err := byHand(ctx, s, r)
	if err != nil {
		_, unpaused := n.do(ctx, "client", "unpause")
		return nil, errors.Join(err, unpaused)
	}
	return heal, nil
}

func (w *sentinel) failOver(ctx context.Context) error {
	client := w.client()
	defer func() { _ = client.Close() }()
	return client.Failover(ctx, redistest.MasterName).Err()
}

// part has the proxies before a node cut what comes from these sources.
func (n *node) part(u *undoing, from ...source) error {
	for _, p := range n.doors() {
		undo, err := p.add(rule{conduct: cut, from: from})
		u.add(undo)
		if err != nil {
			return err
		}
	}
	return nil
}

// but is every process of Redis apart from a node, and all replicas of Coatcheck but some.
func (s *Stage) but(n *node, side ...source) []source {
	var all []source
	for _, other := range s.nodes {
		if other != n {
			all = append(all, other.name)
		}
	}
	for _, watch := range s.sentinels {
		all = append(all, watch.name)
	}
	if len(side) == 0 {
		return append(all, coatcheck)
	}
	for i := range s.Servers {
		if name := replica(i); name != side[0] {
			all = append(all, name)
		}
	}
	return all
}

// parted puts a master and one replica of Coatcheck on one side, and all the rest on the
// other.
func parted(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	var u undoing
	with := replica(r.IntN(max(1, len(s.Servers))))
	return u.or(s.partFrom(n, &u, with))
}

// partFrom cuts between the node's side and the other.
func (s *Stage) partFrom(n *node, u *undoing, side ...source) error {
	if err := n.part(u, s.but(n, side...)...); err != nil {
		return err
	}
	near := append([]source{n.name}, side...)
	for _, other := range s.nodes {
		if other == n {
			continue
		}
		if err := other.part(u, near...); err != nil {
			return err
		}
	}
	for _, watch := range s.sentinels {
		undo, err := watch.proxy.add(rule{conduct: cut, from: near})
		u.add(undo)
		if err != nil {
			return err
		}
	}
	return nil
}

func isolated(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	var u undoing
	return u.or(s.partFrom(n, &u))
}

func unreplicated(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	var u undoing
	return u.or(s.unreplicate(n, &u))
}

// unreplicate parts a master from its replicas.
func (s *Stage) unreplicate(n *node, u *undoing) error {
	var others []source
	for _, other := range s.nodes {
		if other != n {
			others = append(others, other.name)
		}
	}
	undo, err := n.proxy.add(rule{conduct: cut, from: others})
	u.add(undo)
	return err
}

func (s *Stage) startSentinels() error {
	var errs []error
	for _, watch := range s.sentinels {
		errs = append(errs, watch.start())
	}
	return errors.Join(errs...)
}

func sentinelsKilled(_ context.Context, s *Stage, _ *rand.Rand) (func() error, error) {
	var u undoing
	u.add(s.startSentinels)
	for _, watch := range s.sentinels {
		if err := watch.kill(); err != nil {
			return u.or(err)
		}
	}
	return u.or(nil)
}

func sentinelsStopped(ctx context.Context, s *Stage, _ *rand.Rand) (func() error, error) {
	var u undoing
	for _, watch := range s.sentinels {
		u.add(watch.server.Resume)
		if err := watch.server.Pause(); err != nil {
			return u.or(err)
		}
	}
	s.endConnections(ctx)
	return u.or(nil)
}

func sentinelsRolling(_ context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	var u undoing
	u.add(s.startSentinels)
	for _, i := range r.Perm(len(s.sentinels)) {
		watch := s.sentinels[i]
		if err := watch.kill(); err != nil {
			return u.or(err)
		}
		time.Sleep(200 * time.Millisecond)
		if err := watch.start(); err != nil {
			return u.or(err)
		}
	}
	return u.or(nil)
}

// oneBlind parts a Sentinel from all but its clients, and kills the master.
func oneBlind(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	var u undoing
	blind := s.sentinels[r.IntN(len(s.sentinels))]
	if err := s.blind(blind, &u); err != nil {
		return u.or(err)
	}
	heal, err := masterKilled(ctx, s, r)
	u.add(heal)
	return u.or(err)
}

// blind cuts between a Sentinel and every process of Redis.
func (s *Stage) blind(blind *sentinel, u *undoing) error {
	var others []source
	for _, n := range s.nodes {
		others = append(others, n.name)
		if err := n.part(u, blind.name); err != nil {
			return err
		}
	}
	for _, watch := range s.sentinels {
		if watch == blind {
			continue
		}
		others = append(others, watch.name)
		undo, err := watch.proxy.add(rule{conduct: cut, from: []source{blind.name}})
		u.add(undo)
		if err != nil {
			return err
		}
	}
	undo, err := blind.proxy.add(rule{conduct: cut, from: others})
	u.add(undo)
	return err
}

func laggingKilled(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	var u undoing
	u.add(func() error { return s.returns(n) })
	if err := s.unreplicate(n, &u); err != nil {
		return u.or(err)
	}
	time.Sleep(time.Second)
	return u.or(n.kill())
}

func replicasKilled(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	var u undoing
	for _, other := range s.nodes {
		if other == n {
			continue
		}
		u.add(func() error { return s.returns(other) })
		if err := other.kill(); err != nil {
			return u.or(err)
		}
	}
	return u.or(nil)
}

func killedWhileStarting(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	server, err := s.drawServer(r)
	if err != nil {
		return nil, err
	}
	var u undoing
	heal, err := masterKilled(ctx, s, r)
	u.add(heal)
	if err != nil {
		return u.or(err)
	}
	time.Sleep(between(r, 100*time.Millisecond, 800*time.Millisecond))
	if err := server.Stop(); err != nil {
		return u.or(fmt.Errorf("ending a replica: %w", err))
	}
	return u.or(server.Start())
}

func lateQuorum(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	var u undoing
	u.add(func() error { return s.returns(n) })
	u.add(s.startSentinels)
	present := r.IntN(len(s.sentinels))
	for i, watch := range s.sentinels {
		if i == present {
			continue
		}
		if err := watch.kill(); err != nil {
			return u.or(err)
		}
	}
	if err := n.kill(); err != nil {
		return u.or(err)
	}
	time.Sleep(2 * time.Second)
	return u.or(s.startSentinels())
}
