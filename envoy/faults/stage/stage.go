// Package stage is Redis as production has it, on one machine, and what goes wrong with
// it: a single server, Sentinels or a Cluster, of real processes on loopback addresses,
// with a proxy before each, and the list of faults.
//
//	s, err := stage.Up(ctx, stage.Options{Kind: stage.Sentinel, Seed: 1})
//	defer s.Close()
//	// start each replica of Coatcheck with s.Environ(replica), and set s.Servers
//	for _, fault := range stage.Faults() {
//		heal, err := fault.Inject(ctx, s, random)
//		time.Sleep(fault.For)
//		err = heal()
//	}
package stage

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A Kind is how Redis is deployed.
type Kind string

// The kinds that Coatcheck speaks to.
const (
	Single   Kind = "single"   // one server, which writes each command to the disk before it answers
	Sentinel Kind = "sentinel" // a master, two replicas, three Sentinels
	Cluster  Kind = "cluster"  // three masters, each with a replica
)

// Options say what is put up.
type Options struct {
	Kind  Kind
	TLS   bool   // all of it speaks TLS, among one another, too
	ACL   bool   // Coatcheck is a Redis user with the rights of docs/sessions.md, and not the default user
	Redis string // the server program; empty: the variable REDIS_SERVER, and what redistest finds
	Seed  int64  // of what the proxies draw
}

// A Server is a replica of Coatcheck.
type Server interface {
	Pid() int
	Stop() error  // SIGTERM, and waits for the end
	Kill() error  // SIGKILL, and waits for the end
	Start() error // again, at the same address
}

// A Stage is one Redis, up. Its methods are not safe for concurrent use.
type Stage struct {
	Servers []Server // the replicas of Coatcheck, which the caller sets before the first fault
}

// Up puts a Redis up until Close. Whatever ran when it failed has ended.
func Up(context.Context, Options) (*Stage, error) { return nil, errors.New("stage: not yet") }

// Close ends every process and every proxy, and removes all files.
func (s *Stage) Close() error { return nil }

// Environ is how a replica of Coatcheck reaches Redis, by the proxies: COATCHECK_REDIS_*.
func (s *Stage) Environ(replica int) []string { _ = replica; return nil }

// Config is the way past the proxies, as a user with every right, for what arranges and judges.
func (s *Stage) Config() redisstore.ClientConfig { return redisstore.ClientConfig{} }

// A Load is what clients do in a fault beside their even load.
type Load string

// The loads that a fault asks for.
const (
	Even    Load = ""        // nothing beside
	Herd    Load = "herd"    // hundreds of checks at once, again and again
	Cancels Load = "cancels" // most checks are given up by the client after some milliseconds
)

// A Fault is one thing that goes wrong, and what may come of it.
type Fault struct {
	Name string
	Rows []string // of the fault table: F2
	On   []Kind
	What string // one sentence for the page

	Loss bool // Redis itself may lose acknowledged writes: asynchronous failover, split brain, emptied
	Down bool // a replica of Coatcheck ends or stands still meanwhile: calls to it may fail
	Load Load // what clients do until heal
	TLS  bool // needs Options.TLS

	For       time.Duration // from Inject to heal
	Bound     time.Duration // to the first allow, after heal, or, where FromStart, after Inject
	FromStart bool

	// Inject begins it. All that it draws comes from r. heal ends it, and returns when the
	// cause is gone: it does not wait for Coatcheck. Where err is not nil all is as before.
	Inject func(ctx context.Context, s *Stage, r *rand.Rand) (heal func() error, err error)
}

// Faults is the list, in the order of the page.
func Faults() []Fault { return nil }
