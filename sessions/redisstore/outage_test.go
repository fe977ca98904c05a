package redisstore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// checking is the configuration of the authorization side, with timeouts that two
// busy cores keep.
func checking(addrs ...string) redisstore.ClientConfig {
	c := hasty(addrs...)
	c.ReadTimeout, c.WriteTimeout, c.PoolTimeout, c.DialTimeout = 10*time.Second, 10*time.Second, 10*time.Second, 10*time.Second
	return c
}

// hasty is the same with timeouts as in production, for tests in which they pass.
func hasty(addrs ...string) redisstore.ClientConfig {
	return redisstore.ClientConfig{
		UniversalOptions: redis.UniversalOptions{Addrs: addrs, Password: redistest.Password},
		BreakerFailures:  10,
	}
}

// An outage is a way to take Redis away, and to give it back.
type outage struct {
	take, give func(*redistest.Server) error
	poolSize   int           // 0: as in production
	silence    time.Duration // how long a call waits for an answer; 0: as where nothing is wrong
	back       error         // what becomes of a session
}

var outages = map[string]outage{
	"killed":                      {kill, (*redistest.Server).Restart, 0, 0, sessions.ErrNotFound},
	"killed with few connections": {kill, (*redistest.Server).Restart, 2, 0, sessions.ErrNotFound},
	"paused":                      {(*redistest.Server).Pause, (*redistest.Server).Resume, 0, time.Second, nil},
}

func kill(s *redistest.Server) error { s.Kill(); return nil }

// TestOutage takes Redis away under load: soon calls are refused, and when Redis
// is back so is service.
func TestOutage(t *testing.T) {
	for name, o := range outages {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			config := checking(server.Addr)
			config.PoolSize = o.poolSize
			if o.silence > 0 {
				config.ReadTimeout, config.WriteTimeout, config.DialTimeout, config.PoolTimeout = o.silence, o.silence, o.silence, 5*o.silence
			}
			m := newManager(t, connect(t, config), sessions.Config{})
			l := startLoad(t, m, 16, enough, logins(t, m, 8)...)
			time.Sleep(200 * time.Millisecond)
			taken := time.Now()
			if err := o.take(server); err != nil {
				t.Fatal(err)
			}
			if bad := failed(t, l.between(time.Time{}, taken)); len(bad) > 0 {
				t.Errorf("before: %v", bad[0].err)
			}
			l.await(t, taken, "refused", func(calls []checked) bool { return refused(calls) > 0 })
			o.judgeOpen(t, l, taken)
			given := time.Now()
			if err := o.give(server); err != nil {
				t.Fatal(err)
			}
			o.judgeRecovery(t, l, given)
		})
	}
}

// refused counts calls that were not made.
func refused(calls []checked) (n int) {
	for _, c := range calls {
		if errors.Is(c.err, redisstore.ErrBreakerOpen) {
			n++
		}
	}
	return n
}

// judgeOpen looks at a second without Redis: no call succeeds, and of those that
// end most were not made.
func (o outage) judgeOpen(t *testing.T, l *load, taken time.Time) {
	t.Helper()
	opened := time.Now()
	time.Sleep(time.Second)
	calls := l.between(opened, time.Now())
	p50, p99, most := quantiles(calls)
	t.Logf("open after %v; then half of the calls took at most %v, 99 of 100 %v, all %v", opened.Sub(taken), p50, p99, most)
	if n := len(failed(t, calls)); n != len(calls) {
		t.Errorf("%d calls succeeded without Redis", len(calls)-n)
	}
	if n := refused(calls); 2*n <= len(calls) {
		t.Errorf("%d of %d calls were refused", n, len(calls))
	}
}

// judgeRecovery waits for a second in which Redis answers every call. It usually
// begins within one after Redis is back.
func (o outage) judgeRecovery(t *testing.T, l *load, given time.Time) {
	t.Helper()
	var last time.Time
	l.await(t, given, "back", func(calls []checked) bool {
		last = given
		for _, c := range calls {
			if !errors.Is(c.err, o.back) {
				last = c.end
			}
		}
		return len(calls) > 0 && calls[len(calls)-1].end.Sub(last) > time.Second
	})
	t.Logf("the last call failed %v after Redis was back", last.Sub(given))
	if last.Sub(given) > 40*time.Second {
		t.Errorf("the last call failed %v after Redis was back", last.Sub(given))
	}
}
