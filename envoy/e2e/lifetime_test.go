package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestIdleTimeout: use keeps a session past its idle timeout, and nothing else
// does.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	config := sessions.Config{IdleTimeout: 2 * time.Second, IdleStep: 200 * time.Millisecond}
	s := start(t, rig.Options{Patient: true, Arguments: []string{"--session-idle-timeout", "2s", "--session-idle-step", "200ms"}})
	m := manager(t, s, config)
	used, _ := login(t, m, ada)
	unused, _ := login(t, m, ada)
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(200 * time.Millisecond) {
		send(t, s, "GET /x", "Cookie: "+used).is(t, 200)
		send(t, s, "GET /public", "Cookie: "+unused).is(t, 200) // asks for no session, so slides none
	}
	send(t, s, "GET /x", "Cookie: "+unused).is(t, 401)
	time.Sleep(3 * time.Second)
	send(t, s, "GET /x", "Cookie: "+used).is(t, 401)
}

// TestAbsoluteTimeout: use does not keep a session past its absolute timeout.
func TestAbsoluteTimeout(t *testing.T) {
	t.Parallel()
	s := start(t, rig.Options{Patient: true})
	begin := time.Now()
	live, key := login(t, manager(t, s, sessions.Config{AbsoluteTimeout: 4 * time.Second}), ada)
	admitted, refused := 0, 0
	for time.Since(begin) < 6*time.Second {
		before := time.Since(begin)
		switch got := send(t, s, "GET /x", "Cookie: "+live); {
		case got.status == 200 && before < 5*time.Second:
			admitted++
		case got.status == 401 && time.Since(begin) > 3*time.Second:
			refused++
		default:
			t.Fatalf("status %d after %v of 4s", got.status, time.Since(begin))
		}
		time.Sleep(100 * time.Millisecond)
	}
	if admitted == 0 || refused == 0 {
		t.Errorf("%d requests admitted and %d refused", admitted, refused)
	}
	redis := s.Redis.Client()
	defer redis.Close()
	if redis.Exists(t.Context(), string(key)).Val() != 0 {
		t.Error("the record is still there")
	}
}

// TestRevoke: after the command has returned no request is admitted.
func TestRevoke(t *testing.T) {
	t.Parallel()
	s := start(t, rig.Options{Patient: true})
	m := manager(t, s, sessions.Config{})
	for range 20 {
		live, _ := login(t, m, ada)
		send(t, s, "GET /x", "Cookie: "+live).is(t, 200)
		_, id, _ := strings.Cut(live, "=")
		if out, err := s.Command(id, "session", "revoke", "--stdin"); err != nil {
			t.Fatal(out, err)
		}
		send(t, s, "GET /x", "Cookie: "+live).is(t, 401)
	}
}
