package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// quorum is how many Sentinels must agree that the master is down.
const quorum = 2

// A sentinel is one process that watches the master.
type sentinel struct {
	name   source
	server *redistest.Server
	proxy  *proxy
	alive  bool
}

func (s *Stage) upSentinel(ctx context.Context) error {
	master, err := s.newNode("redis-0")
	if err != nil {
		return err
	}
	for _, name := range []source{"redis-1", "redis-2"} {
		if _, err := s.newNode(name, follow(master)); err != nil {
			return err
		}
	}
	for _, name := range []source{"sentinel-0", "sentinel-1", "sentinel-2"} {
		if err := s.newSentinel(name, master); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// follow is the line by which a server starts as a replica.
func follow(master *node) string { return "replicaof 127.0.0.1 " + portOf(master.proxy.addr) }

func (s *Stage) newSentinel(name source, master *node) error {
	watch := &sentinel{name: name}
	s.sentinels = append(s.sentinels, watch)
	if err := s.front(&watch.proxy); err != nil {
		return err
	}
	set := "sentinel %s " + redistest.MasterName + " %s"
	lines := []string{
		fmt.Sprintf(set, "monitor", fmt.Sprintf("127.0.0.1 %s %d", portOf(master.proxy.addr), quorum)),
		fmt.Sprintf(set, "auth-user", admin), fmt.Sprintf(set, "auth-pass", redistest.Password),
		fmt.Sprintf(set, "down-after-milliseconds", milliseconds(DownAfter)), fmt.Sprintf(set, "failover-timeout", "3000"),
		"sentinel announce-ip 127.0.0.1", "sentinel announce-port " + portOf(watch.proxy.addr),
		"bind-source-addr " + s.census.enroll(name),
	}
	if s.o.TLS {
		lines = append(lines, "tls-replication yes")
	}
	var err error
	if watch.server, err = redistest.NewWith(redistest.Options{Program: s.o.Redis, TLS: s.serverTLS(), Sentinel: lines}); err != nil {
		return err
	}
	watch.alive = true
	return watch.proxy.leadTo(s.port(watch.server))
}

func (w *sentinel) kill() error {
	if !w.alive {
		return nil
	}
	w.server.Kill()
	w.alive = false
	return w.proxy.change(func() { w.proxy.shut++ })
}

func (w *sentinel) start() error {
	if w.alive {
		return nil
	}
	if err := w.server.Restart(); err != nil {
		return err
	}
	w.alive = true
	return w.proxy.change(func() { w.proxy.shut-- })
}

func (w *sentinel) client() *redis.SentinelClient {
	return redis.NewSentinelClient(&redis.Options{
		Addr: w.server.Addr, Password: redistest.Password, Protocol: 2, PoolSize: 1, MaxRetries: -1, DialerRetries: 1,
		DialTimeout: time.Second, ReadTimeout: time.Second, ContextTimeoutEnabled: true, DisableIdentity: true,
	})
}

func (s *Stage) sentinelAddresses() string {
	var all []string
	for _, watch := range s.sentinels {
		all = append(all, watch.proxy.addr)
	}
	return strings.Join(all, ",")
}

// watched is the master in the eyes of most Sentinels.
func (s *Stage) watched(ctx context.Context) (*node, error) {
	votes := make(map[*node]int)
	var errs []error
	for _, watch := range s.sentinels {
		n, err := s.watchedBy(ctx, watch)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if votes[n]++; votes[n] >= quorum {
			return n, nil
		}
	}
	return nil, errors.Join(append(errs, errors.New("stage: the Sentinels do not agree on a master"))...)
}

func (s *Stage) watchedBy(ctx context.Context, watch *sentinel) (*node, error) {
	if !watch.alive {
		return nil, fmt.Errorf("%s is dead", watch.name)
	}
	client := watch.client()
	defer func() { _ = client.Close() }()
	pair, err := client.GetMasterAddrByName(ctx, redistest.MasterName).Result()
	if err != nil || len(pair) != 2 {
		return nil, fmt.Errorf("%s names no master: %w", watch.name, err)
	}
	n := s.at(net.JoinHostPort(pair[0], pair[1]))
	if n == nil {
		return nil, fmt.Errorf("%s names a master that does not exist: %v", watch.name, pair)
	}
	return n, nil
}

// wholeSentinel: all Sentinels know one another and the same master, and both replicas
// follow it.
func (s *Stage) wholeSentinel(ctx context.Context) error {
	master, err := s.watchedBy(ctx, s.sentinels[0])
	if err != nil {
		return err
	}
	if is, err := master.isMaster(ctx); err != nil || !is {
		return errors.Join(fmt.Errorf("%s is no master", master.name), err)
	}
	for _, n := range s.nodes {
		if err := n.follows(ctx, master); n != master && err != nil {
			return err
		}
	}
	for _, watch := range s.sentinels {
		if err := s.sees(ctx, watch, master); err != nil {
			return err
		}
	}
	return nil
}

// sees: the Sentinel finds all well.
func (s *Stage) sees(ctx context.Context, watch *sentinel, master *node) error {
	if n, err := s.watchedBy(ctx, watch); err != nil || n != master {
		return errors.Join(fmt.Errorf("%s watches another master", watch.name), err)
	}
	client := watch.client()
	defer func() { _ = client.Close() }()
	got, err := client.Master(ctx, redistest.MasterName).Result()
	if err != nil {
		return err
	}
	if got["flags"] != "master" || got["num-slaves"] != "2" || got["num-other-sentinels"] != "2" {
		return fmt.Errorf("%s sees a master that is %s, with %s replicas, and %s others", watch.name, got["flags"], got["num-slaves"], got["num-other-sentinels"])
	}
	replicas, err := client.Replicas(ctx, redistest.MasterName).Result()
	if err != nil {
		return err
	}
	for _, replica := range replicas {
		if replica["flags"] != "slave" {
			return fmt.Errorf("%s sees a replica that is %s", watch.name, replica["flags"])
		}
	}
	return nil
}

// follows: the node is a replica of this master, and has its data.
func (n *node) follows(ctx context.Context, master *node) error {
	if !n.alive {
		return fmt.Errorf("%s is dead", n.name)
	}
	of, err := n.master(ctx)
	if err != nil || of != master.proxy.addr {
		return errors.Join(fmt.Errorf("%s follows another master than %s", n.name, master.name), err)
	}
	link, err := n.info(ctx, "replication", "master_link_status")
	if err != nil || link != "up" {
		return errors.Join(fmt.Errorf("%s is not in step with %s", n.name, master.name), err)
	}
	return nil
}
