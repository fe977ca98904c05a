package redisstore_test

import (
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestSentinel kills the master, and the Sentinel process that the client may be
// asking, under load: checks are errors until another master is found, and then
// find every session.
func TestSentinel(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 1, nil)
	config := checking(set.Addrs...)
	config.MasterName, config.SentinelPassword = redistest.MasterName, redistest.Password
	m := newManager(t, connect(t, config), sessions.Config{})
	ids := logins(t, m, 8)
	replicated(t, set.Master, set.Replicas...)
	l := startLoad(t, m, 8, checkTimeout, ids...)
	time.Sleep(200 * time.Millisecond)
	killed := time.Now()
	set.Master.Kill()
	set.Processes[0].Kill()
	time.Sleep(redistest.DownAfter / 2)
	served := untilServed(t, m, killed, ids...)
	bad := failed(t, l.end())
	p50, _, most := quantiles(bad)
	t.Logf("Sentinel: served %v after the master was killed (down-after %v); %d checks failed, half of them within %v, all within %v",
		served, redistest.DownAfter, len(bad), p50, most)
	if most > heldUp {
		t.Errorf("a check took %v", most)
	}
	if _, _, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"}); err != nil {
		t.Errorf("a login after the failover: %v", err)
	}
}
