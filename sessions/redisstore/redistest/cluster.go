package redistest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// NodeTimeout is how long a Cluster's master must be silent before a replica
// takes its place.
const NodeTimeout = 2 * time.Second

const slots = 16384

// A Cluster is three masters, each with as many replicas. Its shards serve on
// when one of them is down.
type Cluster struct {
	Masters  []*Server
	Replicas []*Server // those of the first master, of the second, and so on
}

// ClusterOptions say what a Cluster has beyond the usual.
type ClusterOptions struct {
	Replicas int      // of each of the three masters
	TLS      *TLS     // all of it speaks TLS
	Args     []string // of every node
	Clocks   bool     // each node has a clock that [Server.SetClock] sets
}

// StartCluster runs a Cluster until the test ends, with so many replicas for each
// of three masters.
func StartCluster(t testing.TB, replicas int, tls *TLS) *Cluster {
	t.Helper()
	return startCluster(t, ClusterOptions{Replicas: replicas, TLS: tls})
}

// StartClusterWithClocks runs one without replicas whose clocks [Server.SetClock] sets.
func StartClusterWithClocks(t testing.TB) *Cluster {
	t.Helper()
	return startCluster(t, ClusterOptions{Clocks: true})
}

func startCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	c, err := NewCluster(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// NewCluster runs a Cluster until Close. It returns when every node serves and knows of
// every other.
func NewCluster(o ClusterOptions) (*Cluster, error) {
	c := new(Cluster)
	if err := c.start(o); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(o ClusterOptions) error {
	args := append([]string{
		"--cluster-node-timeout", strconv.FormatInt(NodeTimeout.Milliseconds(), 10), "--cluster-require-full-coverage", "no",
		"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
		// A replica is listed only once something was replicated.
		"--repl-ping-replica-period", "1",
	}, o.Args...)
	if o.TLS != nil {
		args = append(args, "--tls-cluster", "yes", "--tls-replication", "yes")
	}
	for i := range 3 * (1 + o.Replicas) {
		s, err := NewWith(Options{TLS: o.TLS, Cluster: true, Clock: o.Clocks, Args: args})
		switch {
		case err != nil:
			return err
		case i < 3:
			c.Masters = append(c.Masters, s)
		default:
			c.Replicas = append(c.Replicas, s)
		}
	}
	return c.join(o.Replicas)
}

// Servers are all nodes, the masters first.
func (c *Cluster) Servers() []*Server { return append(slices.Clone(c.Masters), c.Replicas...) }

// Close ends all nodes.
func (c *Cluster) Close() {
	for _, s := range c.Servers() {
		s.Close()
	}
}

// Addrs are the addresses of the masters.
func (c *Cluster) Addrs() []string {
	var addrs []string
	for _, s := range c.Masters {
		addrs = append(addrs, s.Addr)
	}
	return addrs
}

// TLSAddrs are the addresses of the masters, with TLS.
func (c *Cluster) TLSAddrs() []string {
	var addrs []string
	for _, s := range c.Masters {
		addrs = append(addrs, s.TLSAddr)
	}
	return addrs
}

// Owner returns the master that has a slot, as it was at the start.
func (c *Cluster) Owner(slot int) int { return slot * len(c.Masters) / slots }

// Move gives a slot without keys to another master. Its epoch is the latest then, or what
// the former owner still says of the slot would take it back.
func (c *Cluster) Move(t testing.TB, slot, to int) {
	t.Helper()
	clients := make([]*redis.Client, len(c.Masters))
	for i, s := range c.Masters {
		clients[i] = s.Client()
		defer func() { _ = clients[i].Close() }()
	}
	id, err := clients[to].Do(t.Context(), "cluster", "myid").Text()
	if err != nil {
		t.Fatal(err)
	}
	if err := clients[to].Do(t.Context(), "cluster", "bumpepoch").Err(); err != nil {
		t.Fatal(err)
	}
	clients[0], clients[to] = clients[to], clients[0] // the new owner first
	for _, client := range clients {
		if err := client.Do(t.Context(), "cluster", "setslot", slot, "node", id).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// join gives the masters their slots, and every node its place.
func (c *Cluster) join(replicas int) error {
	ctx := context.Background()
	nodes := c.Servers()
	clients := make([]*redis.Client, len(nodes))
	for i, s := range nodes {
		clients[i] = s.Client()
		defer func() { _ = clients[i].Close() }()
		if err := clients[i].Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return err
		}
	}
	for i := range c.Masters {
		first := (i*slots + len(c.Masters) - 1) / len(c.Masters)
		last := ((i+1)*slots+len(c.Masters)-1)/len(c.Masters) - 1
		if err := clients[i].ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			return err
		}
	}
	for _, s := range nodes[1:] {
		if err := meet(ctx, clients[0], s); err != nil {
			return err
		}
	}
	if err := wait(func() error { return known(ctx, clients) }); err != nil {
		return err
	}
	for i := range c.Replicas {
		id, err := clients[i/replicas].Do(ctx, "cluster", "myid").Text()
		if err != nil {
			return err
		}
		if err := clients[len(c.Masters)+i].ClusterReplicate(ctx, id).Err(); err != nil {
			return err
		}
	}
	return wait(func() error { return serving(ctx, clients, len(c.Masters), replicas) })
}

// meet introduces s by the port of the protocol that the Cluster speaks.
func meet(ctx context.Context, client *redis.Client, s *Server) error {
	port, bus := portOf(s.Addr), ""
	for i, arg := range s.args {
		switch arg {
		case "--cluster-port":
			bus = s.args[i+1]
		case "--tls-cluster":
			port = portOf(s.TLSAddr)
		}
	}
	return client.Do(ctx, "cluster", "meet", "127.0.0.1", port, bus).Err()
}

// known: every node has heard of every other.
func known(ctx context.Context, clients []*redis.Client) error {
	for _, client := range clients {
		nodes := client.ClusterNodes(ctx).Val()
		if n := strings.Count(nodes, " connected"); n != len(clients) || strings.Contains(nodes, "handshake") {
			return fmt.Errorf("a node is connected to %d of %d", n, len(clients))
		}
	}
	return nil
}

// serving: every node knows of every slot and every replica, and these are in
// step with their masters.
func serving(ctx context.Context, clients []*redis.Client, masters, replicas int) error {
	for i, client := range clients {
		if !strings.Contains(client.ClusterInfo(ctx).Val(), "cluster_state:ok") {
			return errors.New("a node does not serve")
		}
		shards, err := client.Do(ctx, "cluster", "slots").Slice()
		if err != nil || len(shards) != masters {
			return errors.Join(fmt.Errorf("a node knows %d shards", len(shards)), err)
		}
		for _, shard := range shards { // first slot, last slot, nodes
			if nodes, ok := shard.([]any); !ok || len(nodes) != 2+1+replicas {
				return errors.New("a node does not know all replicas")
			}
		}
		if i >= masters {
			if err := inStep(ctx, client); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) inStep() error {
	client := s.Client()
	defer func() { _ = client.Close() }()
	return inStep(context.Background(), client)
}

// inStep: a replica has its master's data.
func inStep(ctx context.Context, client *redis.Client) error {
	if !strings.Contains(client.Info(ctx, "replication").Val(), "master_link_status:up") {
		return errors.New("a replica is not in step")
	}
	return nil
}

// wait tries until there is no error any more.
func wait(try func() error) error {
	var err error
	for range 1200 {
		if err = try(); err == nil {
			return nil
		}
		time.Sleep(25 * time.Millisecond)
	}
	return err
}
