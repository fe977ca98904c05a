package lane

import "time"

const (
	// places is how many sessions' ends a lane remembers, in 16 bytes each. A session is
	// asked about again in its step, or PEXPIREAT is sent in vain.
	places = 1 << 15
	// writes is how often a lane sends PEXPIREAT at least, if it sends at all. A replica
	// refuses it, and so does a master that min-replicas-to-write has stopped: reads
	// alone would go on from a node that was demoted, for ever.
	writes = time.Second
	// spare is how much clocks may drift within a step.
	spare = 20 * time.Millisecond
)

// slid remembers which ends are set, as answers have shown. It keeps a place for each
// sum of a key, and the newer of two that share one. Two keys with the same sum of 64
// bits are told apart by no more than their ends.
//
// That an end is still there is seen from each answer: Redis' clock at its PTTL, and the
// PTTL, are the end. Redis' clock is known from the answers in which PEXPIREAT has moved
// the end, which is the asked-for one then.
type slid struct {
	places []place
	clock  time.Duration // of Redis, in Unix time, when the lane's shows zero
	read   bool          // the clock is known
	wrote  time.Duration // when PEXPIREAT was last accepted, by the lane's clock
}

type place struct {
	sum   uint64
	until int64 // in milliseconds
}

func (s *slid) at(sum uint64) *place {
	if s.places == nil {
		s.places = make([]place, places)
	}
	return &s.places[sum%places]
}

// known reports whether an earlier answer has shown that the record lasts until then.
func (s *slid) known(sum uint64, until time.Time) bool {
	p := s.at(sum)
	return p.sum == sum && p.until >= until.UnixMilli()
}

// due reports whether PEXPIREAT must be sent for any key.
func (s *slid) due(now time.Duration) bool { return now-s.wrote >= writes }

// note learns from an answer. It returns false where a known end is no longer there.
func (s *slid) note(c *call, sent, received time.Duration) bool {
	p := s.at(c.sum)
	if c.slides {
		s.wrote = received
	}
	if c.ttl < 0 {
		s.forget(p, c)
		return true
	}
	// What Redis' clock showed when the lane's showed zero, if the record ends when it was
	// asked to; earlier, if it ends later.
	clock := time.Duration(c.until.UnixMilli())*time.Millisecond - Left(c.ttl) - sent
	fits := s.read && clock <= s.clock+received-sent+spare || !s.read && c.moved
	if c.moved || !s.read {
		s.clock, s.read = clock, true
	}
	switch {
	case fits && c.slides:
		*p = place{c.sum, c.until.UnixMilli()}
	case !fits:
		s.forget(p, c)
	}
	return fits || c.slides
}

func (s *slid) forget(p *place, c *call) {
	if p.sum == c.sum {
		*p = place{}
	}
}
