package load

import (
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
)

// Figures are what clients got from the checks of a phase. Those of sessions that must be
// alive are counted apart, too.
type Figures struct {
	Checks    int
	Verdicts  map[history.Verdict]int
	Alive     map[history.Verdict]int // of sessions that must be alive
	Unsent    int                     // checks that were due while too many were under way
	GivenUp   int
	Latency   Latency // without the machine's lag
	WithLag   Latency
	KnownDown Latency // of 503s a second and more after the phase began
	RevokeAll Latency // of revocations of all sessions of a user that were confirmed
	Lag       time.Duration
	begin     time.Duration
}

func newFigures(begin time.Duration) *Figures {
	return &Figures{Verdicts: make(map[history.Verdict]int), Alive: make(map[history.Verdict]int), begin: begin}
}

func (f *Figures) add(begin, end, lag time.Duration, v history.Verdict, alive bool) {
	f.Checks++
	f.Verdicts[v]++
	if alive {
		f.Alive[v]++
	}
	net := max(0, end-begin-lag)
	f.Latency.add(net)
	f.WithLag.add(end - begin)
	if v == history.Unavailable && begin > f.begin+time.Second {
		f.KnownDown.add(net)
	}
}

// A Latency is a distribution of times: exact to an eighth of a millisecond up to a second.
type Latency struct {
	buckets [8000]uint32
	n       int
	worst   time.Duration
}

const bucket = time.Millisecond / 8

func (l *Latency) add(d time.Duration) {
	l.buckets[min(int(d/bucket), len(l.buckets)-1)]++
	l.n++
	l.worst = max(l.worst, d)
}

// Len is how many there are.
func (l *Latency) Len() int { return l.n }

// Worst is the longest; zero if there are none.
func (l *Latency) Worst() time.Duration { return l.worst }

// Quantile is the time that so many of one have not exceeded.
func (l *Latency) Quantile(q float64) time.Duration {
	rest := int(q * float64(l.n))
	for i, count := range l.buckets {
		if rest -= int(count); rest < 0 {
			if i == len(l.buckets)-1 {
				return l.worst
			}
			return min(time.Duration(i+1)*bucket, l.worst)
		}
	}
	return l.worst
}
