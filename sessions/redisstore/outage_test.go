package redisstore_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// checking is the configuration of the authorization side, with timeouts as in
// production.
func checking(addrs ...string) redisstore.ClientConfig {
	return redisstore.ClientConfig{
		UniversalOptions: redis.UniversalOptions{Addrs: addrs, Password: redistest.Password},
		BreakerFailures:  10,
	}
}

// An outage is a way to take Redis away, and to give it back.
type outage struct {
	take, give func(*redistest.Server) error
	poolSize   int   // 0: as in production
	back       error // what becomes of a session
}

var outages = map[string]outage{
	"killed":                      {kill, (*redistest.Server).Restart, 0, sessions.ErrNotFound},
	"killed with few connections": {kill, (*redistest.Server).Restart, 2, sessions.ErrNotFound},
	"paused":                      {(*redistest.Server).Pause, (*redistest.Server).Resume, 0, nil},
}

func kill(s *redistest.Server) error { s.Kill(); return nil }

// TestOutage takes Redis away under load: calls end in time, soon they are
// refused in no time, and when Redis is back so is service.
func TestOutage(t *testing.T) {
	for name, o := range outages {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			config := checking(server.Addr)
			config.PoolSize = o.poolSize
			m := newManager(t, connect(t, config), sessions.Config{})
			l := startLoad(t, m, 50, logins(t, m, 8)...)
			time.Sleep(200 * time.Millisecond)
			taken := time.Now()
			if err := o.take(server); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			giving := time.Now()
			if err := o.give(server); err != nil {
				t.Fatal(err)
			}
			given := time.Now()
			time.Sleep(1200 * time.Millisecond)
			l.end()
			o.judge(t, l, taken, giving, given)
		})
	}
}

// judge looks at the calls before, during and after. No limit is tighter than
// ten times what is usual.
func (o outage) judge(t *testing.T, l *load, taken, giving, given time.Time) {
	t.Helper()
	if o.poolSize == 0 {
		if bad := failed(t, l.between(time.Time{}, taken)); len(bad) > 0 {
			t.Errorf("before: %v", bad[0].err)
		}
	}
	first, open, after := l.between(taken, taken.Add(time.Second)), l.between(taken.Add(time.Second), giving), l.between(given, time.Now())
	if n := len(failed(t, open)); n != len(open) {
		t.Errorf("%d calls succeeded without Redis", len(open)-n)
	}
	_, _, most := quantiles(slices.Concat(first, open, after))
	p50, p99, slowest := quantiles(open)
	t.Logf("in the first second all calls took at most %v; then half took at most %v, 99 of 100 %v, all %v", most, p50, p99, slowest)
	if most > 10*checkTimeout || p50 > 10*time.Millisecond {
		t.Errorf("a call took %v; half of those that should be refused took %v", most, p50)
	}
	var last time.Duration
	for _, c := range after {
		if !errors.Is(c.err, o.back) {
			last = c.end.Sub(given)
		}
	}
	t.Logf("the last call failed %v after Redis was back", last)
	if len(after) == 0 || last > time.Second {
		t.Errorf("%d calls afterwards, the last failed after %v", len(after), last)
	}
}
