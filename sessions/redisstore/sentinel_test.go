package redisstore_test

import (
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
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
	client := connect(t, config)
	store := redisstore.New(client, redisstore.Config{})
	if away := store.SentinelsAway(t.Context()); len(away) > 0 {
		t.Errorf("of Sentinels that are there, %v are away", away)
	}
	m := newManager(t, client, sessions.Config{})
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
	if away := store.SentinelsAway(t.Context()); len(away) != 1 || away[0] != set.Addrs[0] {
		t.Errorf("%v is dead, and away are %v", set.Addrs[0], away)
	}
}
