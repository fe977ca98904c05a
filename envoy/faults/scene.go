package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/envoy/faults/load"
	"github.com/coatcheck/coatcheck/envoy/faults/stage"
)

// What the servers promise, and how far off a run may be before it fails: the machine is
// not the one of production.
const (
	worstAnswer = 180 * time.Millisecond
	p99Answer   = 160 * time.Millisecond
	downAnswer  = 20 * time.Millisecond
	tenTimes    = 10
)

// A setting is what a scene is played in.
type setting struct {
	stage     stage.Options
	near      bool // the near cache is on
	rate      int
	coatcheck string                      // the binary
	clock     *clockworker                // the one whose clock can be set
	ahead     [replicaCount]time.Duration // by which the replicas' clocks are ahead from the start
	// apart is by how much the clocks of servers and of Redis may differ. Zero: as usual.
	apart time.Duration
	// proxied, if it is not nil, stands before a replica: it returns the address that is asked.
	proxied func(address string) (front string, end func(), err error)
}

// name is how a log names it.
func (s setting) name() string {
	return strings.Join(append([]string{string(s.stage.Kind)}, s.parts()...), ", ")
}

// parts are what it has beyond the kind.
func (s setting) parts() (parts []string) {
	if s.stage.TLS {
		parts = append(parts, "TLS")
	}
	if s.stage.ACL {
		parts = append(parts, "ACL")
	}
	if s.near {
		parts = append(parts, "near")
	}
	if s.ahead != [replicaCount]time.Duration{} {
		parts = append(parts, fmt.Sprintf("clocks %v", s.ahead))
	}
	return parts
}

// lease is near_cache.lease.
const lease = time.Second

// idle is the servers' idle timeout. Where clocks move by a minute, it is the default.
func (s setting) idle() time.Duration {
	if s.stage.Clock {
		return 30 * time.Minute
	}
	return 20 * time.Second
}

func (s setting) rules() history.Rules {
	r := history.Rules{Idle: s.idle(), Step: min(s.idle()/10, time.Minute), Slack: 300 * time.Millisecond, Budget: tenTimes * worstAnswer}
	if s.apart > 0 {
		r.Slack = s.apart
	}
	if s.near {
		r.Stale = lease
	}
	return r
}

// environment is how a replica is configured beside Redis.
func (s setting) environment() []string {
	env := []string{"COATCHECK_SESSION_IDLE_TIMEOUT=" + s.idle().String()}
	if s.near {
		env = append(env, "COATCHECK_NEAR_CACHE_ENABLED=true", "COATCHECK_NEAR_CACHE_LEASE="+lease.String())
	}
	return env
}

// A scene is a stage with two replicas of Coatcheck on it, under load.
type scene struct {
	setting  setting
	dir      string
	stage    *stage.Stage
	replicas []*replica
	ends     []func()
	history  *history.History
	load     *load.Load
	first    []usage // before its first fault
	// reign is the number of elections after the last fault, and usurped says that there
	// was one that no fault had made.
	reign   int
	usurped bool
}

const replicaCount = 2

// raise puts a scene up.
func raise(ctx context.Context, set setting) (_ *scene, err error) {
	s := &scene{setting: set, history: history.New(set.rules())}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", set.name(), err), s.close())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "coatcheck-faults-"); err != nil {
		return nil, err
	}
	if s.stage, err = stage.Up(ctx, set.stage); err != nil {
		return nil, err
	}
	addresses, err := s.startReplicas()
	if err != nil {
		return nil, err
	}
	if s.load, err = load.Start(ctx, s.loadConfig(addresses)); err != nil {
		return nil, err
	}
	for i, r := range s.replicas {
		r.leaves, r.joins = func() { s.load.Leave(i) }, func() { s.load.Join(i) }
	}
	return s, nil
}

func (s *scene) loadConfig(addresses []string) load.Config {
	rules := s.setting.rules()
	c := load.Config{
		Replicas: addresses, AdminPolicy: stage.AdminPolicy, History: s.history, Client: s.stage.Config(), Cluster: s.setting.stage.Kind == stage.Cluster,
		Rate: s.setting.rate, Changes: 25, Sessions: 80, Seed: uint64(s.setting.stage.Seed),
		Idle: rules.Idle, Step: rules.Step, Slack: rules.Slack, Steady: s.setting.stage.Clock,
	}
	c.WaitReplicas = replicasOf[s.setting.stage.Kind]
	return c
}

// replicasOf are the replicas of a master. A revocation waits for all of them, as
// docs/operations.md says: a failover by hand can forget what only one has confirmed.
var replicasOf = map[stage.Kind]int{stage.Sentinel: 2, stage.Cluster: 1}

// startReplicas returns the addresses to which checks are sent. The stage knows the replicas
// before one of them connects.
func (s *scene) startReplicas() ([]string, error) {
	var servers []stage.Server
	for i := range replicaCount {
		r, err := newReplica(s.dir, s.setting.coatcheck, i, append(s.stage.Environ(i), s.setting.environment()...))
		if err != nil {
			return nil, err
		}
		r.clock = s.setting.clock
		if err := r.SetClock(s.setting.ahead[i]); err != nil {
			return nil, err
		}
		s.replicas, servers = append(s.replicas, r), append(servers, r)
	}
	s.stage.Servers = servers
	var addresses []string
	for _, r := range s.replicas {
		if err := r.Start(); err != nil {
			return nil, err
		}
		address, err := s.front(r.checks)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}

// front is the address that is asked in place of a replica's.
func (s *scene) front(address string) (string, error) {
	if s.setting.proxied == nil {
		return address, nil
	}
	front, end, err := s.setting.proxied(address)
	if err != nil {
		return "", err
	}
	s.ends = append(s.ends, end)
	return front, nil
}

// close ends all of it.
func (s *scene) close() error {
	var errs []error
	if s.load != nil {
		errs = append(errs, s.load.Stop())
	}
	for _, end := range s.ends {
		end()
	}
	for _, r := range s.replicas {
		if r.process != nil { // a fault may have left it stopped
			_ = r.Kill()
		}
	}
	if s.stage != nil {
		errs = append(errs, s.stage.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// usages are those of the replicas.
func (s *scene) usages() ([]usage, error) {
	var all []usage
	for _, r := range s.replicas {
		u, err := r.usage()
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}
