package stage

import (
	"slices"
	"time"
)

// A conduct is what a proxy does with connections. The zero conduct passes all on at once.
type conduct struct {
	// Bytes that are on their way. Held ones arrive after the healing, as TCP would send them
	// again. Where some were dropped, the connection is reset at the healing: its rest would
	// be read as an answer to another question.
	holdUp, holdDown bool
	dropUp, dropDown bool

	delay  time.Duration // one way
	upOnly bool          // toward the server alone
	jitter time.Duration // at most so much more, drawn for each piece
	rate   int           // bytes a second; 0: no limit
}

// cut holds what both sides say, as a network does whose cable is out.
var cut = conduct{holdUp: true, holdDown: true}

// late reports how long a piece takes, and how much longer it may.
func (c conduct) late(up bool) (delay, jitter time.Duration) {
	if c.upOnly && !up {
		return 0, 0
	}
	return c.delay, c.jitter
}

func (c conduct) holds(up bool) bool { return up && c.holdUp || !up && c.holdDown }
func (c conduct) drops(up bool) bool { return up && c.dropUp || !up && c.dropDown }

// A source is which process has opened a connection.
type source string

// coatcheck is all replicas of Coatcheck; [replica] is one of them.
const coatcheck source = "coatcheck"

// A rule has a proxy conduct itself so toward some sources.
type rule struct {
	conduct
	from    []source // empty: all
	oldOnly bool     // new connections are passed on

	made uint64 // when, in changes of the proxy's
}

func (r *rule) about(l *link) bool {
	if r.oldOnly && l.made >= r.made {
		return false
	}
	return len(r.from) == 0 || slices.ContainsFunc(r.from, l.isFrom)
}
