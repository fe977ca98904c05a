package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// slots is how many a Cluster has, and shards among how many masters they are.
const (
	slots  = 16384
	shards = 3
)

func (s *Stage) upCluster(ctx context.Context) error {
	for i := range 2 * shards {
		if _, err := s.newNode(source(fmt.Sprintf("redis-%d", i))); err != nil {
			return err
		}
	}
	for _, n := range s.nodes[:shards] {
		var seed *proxy
		if err := s.front(&seed); err != nil {
			return err
		}
		s.seeds = append(s.seeds, seed)
		n.fronts = append(n.fronts, seed)
		if err := seed.leadTo(s.port(n.server)); err != nil {
			return err
		}
	}
	return s.join(ctx)
}

// seedAddresses are proxies of their own, so that what Coatcheck was told at the start can
// vanish while the Cluster lives.
func (s *Stage) seedAddresses() string {
	var all []string
	for _, seed := range s.seeds {
		all = append(all, seed.addr)
	}
	return strings.Join(all, ",")
}

// join gives the masters their slots, introduces all to one another, and gives each master
// its replica.
func (s *Stage) join(ctx context.Context) error {
	for i, n := range s.nodes {
		if _, err := n.do(ctx, "cluster", "set-config-epoch", i+1); err != nil {
			return err
		}
	}
	for i, n := range s.nodes[:shards] {
		if _, err := n.do(ctx, "cluster", "addslotsrange", (i*slots+shards-1)/shards, ((i+1)*slots+shards-1)/shards-1); err != nil {
			return err
		}
	}
	for _, n := range s.nodes[1:] {
		if err := s.nodes[0].meet(ctx, n); err != nil {
			return err
		}
	}
	if err := eventually(ctx, func() error { return s.acquainted(ctx) }); err != nil {
		return err
	}
	for i, n := range s.nodes[shards:] {
		id, err := s.nodes[i].do(ctx, "cluster", "myid")
		if err != nil {
			return err
		}
		if _, err := n.do(ctx, "cluster", "replicate", id); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) meet(ctx context.Context, other *node) error {
	host, port, err := net.SplitHostPort(other.proxy.addr)
	if err != nil {
		return err
	}
	_, err = n.do(ctx, "cluster", "meet", host, port, portOf(other.bus.addr))
	return err
}

// acquainted: each node is connected to every other.
func (s *Stage) acquainted(ctx context.Context) error {
	for _, n := range s.nodes {
		reply, err := n.do(ctx, "cluster", "nodes")
		if err != nil {
			return err
		}
		text := fmt.Sprint(reply)
		if known := strings.Count(text, " connected"); known != len(s.nodes) || strings.Contains(text, "handshake") {
			return fmt.Errorf("%s is connected to %d of %d", n.name, known, len(s.nodes))
		}
		if strings.Contains(text, "fail") {
			return fmt.Errorf("%s believes that a node has failed", n.name)
		}
	}
	return nil
}

// wholeCluster: each node lives, sees all others well and every slot served, and each
// master has a replica with its data.
func (s *Stage) wholeCluster(ctx context.Context) error {
	for _, n := range s.nodes {
		if !n.alive {
			return fmt.Errorf("%s is dead", n.name)
		}
	}
	if err := s.acquainted(ctx); err != nil {
		return err
	}
	masters, err := s.masters(ctx)
	if err != nil || len(masters) != shards {
		return errors.Join(fmt.Errorf("%d masters", len(masters)), err)
	}
	for _, master := range masters {
		replicas, err := s.replicas(ctx, master)
		if err != nil || len(replicas) != 1 {
			return errors.Join(fmt.Errorf("%s has %d replicas", master.name, len(replicas)), err)
		}
		if err := replicas[0].follows(ctx, master); err != nil {
			return err
		}
	}
	for _, n := range s.nodes {
		if err := n.serves(ctx); err != nil {
			return err
		}
	}
	return nil
}

// serves: the node finds every slot served, each by a master with a replica.
func (n *node) serves(ctx context.Context) error {
	reply, err := n.do(ctx, "cluster", "info")
	if err != nil || !strings.Contains(fmt.Sprint(reply), "cluster_state:ok") {
		return errors.Join(fmt.Errorf("%s does not serve", n.name), err)
	}
	reply, err = n.do(ctx, "cluster", "slots")
	if err != nil {
		return err
	}
	ranges, _ := reply.([]any)
	covered := 0
	for _, one := range ranges { // first slot, last slot, the master, its replicas
		fields, ok := one.([]any)
		if !ok || len(fields) != 4 {
			return fmt.Errorf("%s does not know every replica", n.name)
		}
		first, last := fields[0].(int64), fields[1].(int64)
		covered += int(last - first + 1)
	}
	if covered != slots {
		return fmt.Errorf("%s knows %d slots", n.name, covered)
	}
	return nil
}
