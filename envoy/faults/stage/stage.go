// Package stage is Redis as production has it, on one machine, and what goes wrong with
// it: a single server, Sentinels or a Cluster, of real processes on loopback addresses,
// with a proxy before each, and the list of faults.
//
//	s, err := stage.Up(ctx, stage.Options{Kind: stage.Sentinel, Seed: 1})
//	defer s.Close()
//	// start each replica of Coatcheck with s.Environ(replica), and set s.Servers
//	for _, fault := range stage.Faults() {
//		if !fault.Fits(options) {
//			continue
//		}
//		heal, err := fault.Inject(ctx, s, random)
//		time.Sleep(fault.For)
//		err = heal()
//		err = s.Settle(ctx)
//	}
//
// Redis announces the proxies' addresses as its own, so that all go through them:
// Coatcheck, the replicas, the Sentinels, the nodes of a Cluster on their bus. Each
// process of Redis opens its connections from a loopback address of its own, so that a
// proxy can part any two of them; replicas of Coatcheck are told apart by who has the
// socket open. What arranges a fault and what judges goes past the proxies.
package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A Kind is how Redis is deployed.
type Kind string

// The kinds that Coatcheck speaks to. All write each command to the disk before they
// answer.
const (
	Single   Kind = "single"   // one server
	Sentinel Kind = "sentinel" // a master, two replicas, three Sentinels
	Cluster  Kind = "cluster"  // three masters, each with a replica
)

// How long a node must be silent before a replica takes its place.
const (
	DownAfter   = redistest.TLSDownAfter // by the Sentinels, with TLS or without
	NodeTimeout = redistest.NodeTimeout  // by the nodes of a Cluster
)

// Options say what is put up.
type Options struct {
	Kind  Kind
	TLS   bool   // all of it speaks TLS with certificates on both sides, among one another, too
	ACL   bool   // Coatcheck is a Redis user with the rights of docs/sessions.md, and not the default user
	Clock bool   // the clocks of Redis can be set; needs libfaketime, as redistest does
	Redis string // the server program; empty: the variable REDIS_SERVER, and what redistest finds
	Seed  int64  // of what the proxies draw

	Sessions int // that a single server holds from the start, beside those of the caller's
}

// A Server is a replica of Coatcheck.
type Server interface {
	Pid() int
	Stop() error  // SIGTERM, and waits for the end
	Kill() error  // SIGKILL, and waits for the end
	Start() error // again, at the same address
	// SetClock has its clock be so far ahead of this machine's from its next start on.
	SetClock(ahead time.Duration) error
}

// A Stage is one Redis, up. Its methods are not safe for concurrent use, but for Opened.
type Stage struct {
	Servers []Server    // the replicas of Coatcheck, which the caller sets before the first fault
	Drawn   func(i int) // if it is not nil, it is told which of Servers a fault is about to happen to

	o            Options
	dir          string
	random       *rand.Rand
	census       *census
	secrets      secrets
	certificates *certificates // nil: no TLS

	nodes     []*node
	sentinels []*sentinel
	seeds     []*proxy // of a Cluster: the first addresses that Coatcheck knows
	proxies   []*proxy // all of them
}

// Up puts a Redis up until Close. Where it fails, all that it had started has ended.
func Up(ctx context.Context, o Options) (*Stage, error) {
	dir, err := os.MkdirTemp("", "coatcheck-stage-")
	if err != nil {
		return nil, err
	}
	s := &Stage{o: o, dir: dir, random: rand.New(rand.NewPCG(uint64(o.Seed), 1))}
	s.census = &census{sources: make(map[string]source), servers: func() []Server { return s.Servers }}
	if err := s.up(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("stage: %w", err), s.Close())
	}
	return s, nil
}

func (s *Stage) up(ctx context.Context) error {
	if err := s.writeSecrets(); err != nil {
		return err
	}
	if err := replace(s.policies(), goodPolicies); err != nil {
		return err
	}
	if s.o.TLS {
		if err := s.writeCertificates(); err != nil {
			return err
		}
	}
	topologies := map[Kind]func(context.Context) error{Single: s.upSingle, Sentinel: s.upSentinel, Cluster: s.upCluster}
	up, ok := topologies[s.o.Kind]
	if !ok {
		return fmt.Errorf("no kind %q", s.o.Kind)
	}
	if err := up(ctx); err != nil {
		return err
	}
	return s.Settle(ctx)
}

func (s *Stage) upSingle(ctx context.Context) error {
	n, err := s.newNode("redis-0")
	if err != nil || s.o.Sessions == 0 {
		return err
	}
	return n.fill(ctx, s.o.Sessions)
}

// Close ends every process and every proxy, and removes all files. A fault that was not
// healed is over then; its heal must not be called any more.
func (s *Stage) Close() error {
	var errs []error
	for _, n := range s.nodes {
		if n.server != nil {
			n.server.Close()
		}
	}
	for _, watch := range s.sentinels {
		if watch.server != nil {
			watch.server.Close()
		}
	}
	for _, p := range s.proxies {
		errs = append(errs, p.close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// Settle waits until all is as it was put up, though the roles may have moved: every
// process runs, every master has its replicas, and these have its data. ctx bounds it, and
// a minute.
func (s *Stage) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	whole := map[Kind]func(context.Context) error{Single: s.wholeSingle, Sentinel: s.wholeSentinel, Cluster: s.wholeCluster}[s.o.Kind]
	var last error // that is no fault of ctx's
	for {
		err := whole(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stage: Redis is not whole again: %w", last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Stage) wholeSingle(ctx context.Context) error {
	master, err := s.nodes[0].isMaster(ctx)
	if err == nil && !master {
		err = errors.New("the server is a replica")
	}
	return err
}

// Environ is how a replica of Coatcheck reaches Redis, by the proxies, COATCHECK_REDIS_*, and
// the policies that it has.
func (s *Stage) Environ(int) []string {
	env := []string{"COATCHECK_REDIS_PASSWORD_FILE=" + s.secrets.file, "COATCHECK_POLICY_FILE=" + s.policies()}
	addresses := s.nodes[0].proxy.addr
	switch s.o.Kind {
	case Sentinel:
		addresses = s.sentinelAddresses()
		env = append(env, "COATCHECK_REDIS_MASTER_NAME="+redistest.MasterName,
			"COATCHECK_REDIS_SENTINEL_PASSWORD_FILE="+s.secrets.sentinels)
	case Cluster:
		addresses = s.seedAddresses()
		env = append(env, "COATCHECK_REDIS_CLUSTER=true")
	}
	if s.o.ACL {
		env = append(env, "COATCHECK_REDIS_USERNAME="+checks)
	}
	if s.o.TLS {
		at := s.certificates.client
		env = append(env, "COATCHECK_REDIS_TLS_ENABLED=true", "COATCHECK_REDIS_TLS_CA_FILE="+at.ca,
			"COATCHECK_REDIS_TLS_CERT_FILE="+at.cert, "COATCHECK_REDIS_TLS_KEY_FILE="+at.key)
	}
	return append(env, "COATCHECK_REDIS_ADDRESSES="+addresses)
}

// Config is the way past the proxies, as a user with every right, for what arranges and
// judges. It speaks no TLS.
func (s *Stage) Config() redisstore.ClientConfig {
	var c redisstore.ClientConfig
	switch s.o.Kind {
	case Single:
		c.Addrs = []string{s.nodes[0].server.Addr}
	case Sentinel:
		c.MasterName, c.SentinelPassword = redistest.MasterName, redistest.Password
		for _, watch := range s.sentinels {
			c.Addrs = append(c.Addrs, watch.server.Addr)
		}
	case Cluster:
		c.IsClusterMode = true
		for _, n := range s.nodes[:3] {
			c.Addrs = append(c.Addrs, n.server.Addr)
		}
	}
	c.Username, c.Password = admin, redistest.Password
	c.Dialer = s.past
	return c
}

// Opened is how many connections Coatcheck has opened so far. It is safe for concurrent
// use.
func (s *Stage) Opened() int64 {
	var sum int64
	for _, p := range s.proxies {
		sum += p.opened.Load()
	}
	return sum
}

// masters are those that clients ask now, in the order of the nodes.
func (s *Stage) masters(ctx context.Context) ([]*node, error) {
	if s.o.Kind == Sentinel {
		n, err := s.watched(ctx)
		return []*node{n}, err
	}
	var all []*node
	for _, n := range s.nodes {
		if !n.alive {
			continue
		}
		master, err := n.isMaster(ctx)
		if err != nil {
			return nil, err
		}
		if master {
			all = append(all, n)
		}
	}
	return all, nil
}

// drawMaster is one of them.
func (s *Stage) drawMaster(ctx context.Context, r *rand.Rand) (*node, error) {
	all, err := s.masters(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errors.New("stage: no master")
	}
	return all[r.IntN(len(all))], nil
}

// replicas are those of a master.
func (s *Stage) replicas(ctx context.Context, of *node) ([]*node, error) {
	var all []*node
	for _, n := range s.nodes {
		if n == of || !n.alive {
			continue
		}
		master, err := n.master(ctx)
		if err == nil && master == of.proxy.addr {
			all = append(all, n)
		}
	}
	return all, nil
}

// at is the node behind a proxy's address.
func (s *Stage) at(addr string) *node {
	i := slices.IndexFunc(s.nodes, func(n *node) bool { return n.proxy.addr == addr })
	if i < 0 {
		return nil
	}
	return s.nodes[i]
}
