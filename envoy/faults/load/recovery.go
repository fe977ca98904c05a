package load

import (
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
)

// A place is a replica and a part of Redis: they recover on their own.
type place struct{ replica, shard int }

// A recovery watches when a place began to allow again. It is down after some refusals in a
// row, and up after some allows in a row, so that neither a single lucky check nor a single
// late one counts.
type recovery struct {
	down    bool
	refused int
	allowed int
	since   time.Duration // when the first allow in a row returned
	up      time.Duration // when it allowed again for good; zero: it was never down
}

// inARow are so many answers of a kind that its kind is believed.
const inARow = 4

func (r *recovery) see(end time.Duration, v history.Verdict) {
	switch v {
	case history.Allowed:
		if r.allowed++; r.allowed == 1 {
			r.since = end
		}
		if r.allowed >= inARow {
			r.refused = 0
			if r.down {
				r.down, r.up = false, r.since
			}
		}
	case history.Unavailable, history.Failed:
		r.allowed = 0
		if r.refused++; r.refused >= inARow {
			r.down = true
		}
	}
}

const slots = 16384

// shardOf is the third of a Cluster's slots in which a key lies.
func shardOf(key string) int { return int(crc16(key)) % slots * 3 / slots }

// crc16 is the checksum of Redis Cluster (XMODEM).
func crc16(text string) (crc uint16) {
	for i := range len(text) {
		crc ^= uint16(text[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}
