package load

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

const ms = time.Millisecond

// TestLagMeter: of a check's time, the stalls within it are lag, and a check is taken only
// when they are known.
func TestLagMeter(t *testing.T) {
	m := &lagMeter{}
	var lags []time.Duration
	take := func(begin, end time.Duration) {
		m.returned(returned{begin: begin, end: end, then: func(lag time.Duration) { lags = append(lags, lag) }})
	}
	m.awake(100*ms, 100*ms+tolerated) // not late
	take(90*ms, 103*ms)
	take(102*ms, 150*ms)
	take(110*ms, 115*ms)
	if len(lags) > 0 {
		t.Fatal("taken before the lag is known")
	}
	m.awake(105*ms, 125*ms) // 20 ms late
	if want := []time.Duration{0, 20 * ms, 5 * ms}; fmt.Sprint(lags) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", lags, want)
	}
	if total, worst := m.lag(); total != 20*ms || worst != 20*ms {
		t.Errorf("%v, at most %v", total, worst)
	}
}

// TestRecovery: a place is up again with the first of some allows in a row.
func TestRecovery(t *testing.T) {
	for name, c := range map[string]struct {
		answers string // o: ok; x: 503; one each millisecond
		down    bool
		up      time.Duration
	}{
		"never down":      {"ooxoooxxoooo", false, 0},
		"down":            {"ooooxxxx", true, 0},
		"back":            {"xxxxxxoooo", false, 6 * ms},
		"a lucky one":     {"xxxxoxxxoooo", false, 8 * ms},
		"a late one":      {"xxxxooooxooo", false, 4 * ms},
		"down once again": {"xxxxooooxxxxoooo", false, 12 * ms},
	} {
		var r recovery
		for i, a := range c.answers {
			r.see(time.Duration(i)*ms, map[rune]history.Verdict{'o': history.Allowed, 'x': history.Unavailable}[a])
		}
		if r.down != c.down || r.up != c.up {
			t.Errorf("%s: down %v, up at %v, want %v, %v", name, r.down, r.up, c.down, c.up)
		}
	}
}

func TestLatency(t *testing.T) {
	var l Latency
	if l.Quantile(.99) != 0 {
		t.Error("the quantile of nothing")
	}
	for i := 1; i <= 100; i++ {
		l.add(time.Duration(i) * ms)
	}
	l.add(3 * time.Second)
	if p50, p99, worst := l.Quantile(.5), l.Quantile(.99), l.Worst(); p50 < 50*ms || p50 > 52*ms || p99 < 99*ms || p99 > 101*ms || worst != 3*time.Second {
		t.Error(p50, p99, worst)
	}
	if all := l.Quantile(1); all != 3*time.Second {
		t.Error(all)
	}
}

// TestOver: a session that is over is asked for as long as it could live, were it back, and
// most often when it is over since a moment.
func TestOver(t *testing.T) {
	p := newPeople(1)
	const ended = 12 * 25 // in 25 s, more than an idle timeout and its step
	for range ended {
		v := new(visitor)
		p.signedIn(p.arrive(), v)
		p.end(v)
	}
	if len(p.all()) != ended {
		t.Errorf("%d of %d are known", len(p.all()), ended)
	}
	last := make(map[*visitor]bool)
	for _, v := range p.over[ended-justOver:] {
		last[v] = true
	}
	recent := 0
	for range 1000 {
		if last[p.asked(true)] {
			recent++
		}
	}
	if recent < 450 || recent > 750 {
		t.Errorf("%d of 1000 are for those that have just ended", recent)
	}
}

// TestShards: the slots are Redis's (the first two are of its documentation).
func TestShards(t *testing.T) {
	if crc := crc16("123456789"); crc != 0x31c3 {
		t.Errorf("%#x", crc)
	}
	seen := make(map[int]int)
	for range 300 {
		seen[shardOf(string(sessions.NewID().Key()))]++
	}
	if len(seen) != 3 {
		t.Error(seen)
	}
}

// TestMessages: each message can be read, holds the ID and asks for its route.
func TestMessages(t *testing.T) {
	all, err := newTemplates("admins")
	if err != nil {
		t.Fatal(err)
	}
	id := sessions.NewID().Reveal()
	for route := range all.cookie {
		for form := range forms {
			var r authv3.CheckRequest
			if err := proto.Unmarshal(all.cookie[route][form].with(id), &r); err != nil {
				t.Fatal(err)
			}
			want := request(history.Route(route), form, "admins", "theme=dark; "+sessions.DefaultCookieName+"="+id+"; lang=en")
			if !proto.Equal(&r, want) {
				t.Errorf("route %d, form %d: %v", route, form, &r)
			}
			asks := r.GetAttributes().GetContextExtensions()
			if history.Route(route) == history.Role && (asks["coatcheck.policy"] == "admins") != (form == raw) {
				t.Errorf("the route of a role asks in form %d for %v", form, asks)
			}
		}
	}
}

// TestUnconfirmed: an error that hides another one is not the word of Redis.
func TestUnconfirmed(t *testing.T) {
	few := fmt.Errorf("%w: 0 of 1", redisstore.ErrNotReplicated)
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"alone":          {few, true},
		"joined":         {errors.Join(nil, few), true},
		"twice":          {errors.Join(few, errors.Join(few)), true},
		"beside another": {errors.Join(few, redis.ErrClosed), false},
		"another":        {fmt.Errorf("x: %w", redis.ErrClosed), false},
	} {
		if got := unconfirmed(c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
