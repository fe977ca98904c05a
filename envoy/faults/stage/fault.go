package stage

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

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

	Loss  bool // Redis itself may lose acknowledged writes: asynchronous failover, split brain, emptied
	Down  bool // a replica of Coatcheck, which Stage.Drawn is told of, ends or stands still: calls to it may fail
	Still bool // that replica lives and stands still, so that it answers late itself
	Part  bool // Redis answers some checks meanwhile: none of it is known to be down
	Load  Load // what clients do until heal
	TLS   bool // needs Options.TLS
	Apart bool // needs Servers whose clocks can be set
	Clock bool // needs Options.Clock; the clock moves by a minute, so that sessions of less may end

	For       time.Duration // from Inject to heal
	Bound     time.Duration // to the first allow, after heal, or, where FromStart, after Inject
	FromStart bool
	Why       string // Bound is another one than usual

	// Inject begins it. All that it draws comes from r. heal ends it, once, and returns when
	// the cause is gone: it does not wait for Coatcheck, nor for what Settle waits. Where err
	// is not nil all is as before.
	Inject func(ctx context.Context, s *Stage, r *rand.Rand) (heal func() error, err error)
}

// Fits reports whether the fault can happen on such a stage.
func (f Fault) Fits(o Options) bool {
	return slices.Contains(f.On, o.Kind) && (o.TLS || !f.TLS) && (o.Clock || !f.Clock)
}

// usual are the bounds that a fault has unless it says why not: for a single server that was
// away for a moment, for any that was away for longer, and for a master that gets a
// successor.
func (f Fault) usual() []time.Duration {
	switch {
	case f.FromStart && slices.Contains(f.On, Sentinel):
		return []time.Duration{time.Second, failover}
	case f.FromStart:
		return []time.Duration{time.Second, takeover}
	case f.For <= 200*time.Millisecond:
		return []time.Duration{500 * time.Millisecond}
	}
	return []time.Duration{time.Second}
}

// Faults is the list, in the order of the page.
func Faults() []Fault {
	return slices.Concat(processes, refusals, network, credentials, handshakes(), clocks(), reloading, replicas, watchedFaults(), shardFaults())
}

// each is a table with what all of it have in common.
func each(table []Fault, set func(*Fault)) []Fault {
	faults := slices.Clone(table)
	for i := range faults {
		set(&faults[i])
	}
	return faults
}
