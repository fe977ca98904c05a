package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestIdleTimeout: use keeps a session past its idle timeout, and a request to a
// public route does not.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	const idle, step = 4 * time.Second, 400 * time.Millisecond
	s := start(t, rig.Options{Patient: true, Arguments: []string{"--session-idle-timeout", idle.String(), "--session-idle-step", step.String()}})
	m := manager(t, s, sessions.Config{IdleTimeout: idle, IdleStep: step})
	used, key := login(t, m, ada)
	unused, _ := login(t, m, ada)
	for begin := time.Now(); time.Since(begin) < 2*idle; time.Sleep(step / 2) {
		send(t, s, "GET /x", "Cookie: "+used).is(t, 200)
		send(t, s, "GET /public", "Cookie: "+unused).is(t, 200) // asks for no session, so slides none
	}
	send(t, s, "GET /x", "Cookie: "+unused).is(t, 401)
	redis := s.Redis.Client()
	defer redis.Close()
	waitFor(t, "0", func() string { return fmt.Sprint(redis.Exists(t.Context(), string(key)).Val()) })
	send(t, s, "GET /x", "Cookie: "+used).is(t, 401)
}

// TestAbsoluteTimeout: use does not keep a session past its absolute timeout.
func TestAbsoluteTimeout(t *testing.T) {
	t.Parallel()
	const absolute = 4 * time.Second
	s := start(t, rig.Options{Patient: true})
	m := manager(t, s, sessions.Config{AbsoluteTimeout: absolute})
	before := time.Now() // it is made between these two
	live, key := login(t, m, ada)
	after := time.Now()
	admitted, refused := 0, 0
	for refused < 10 {
		asked := time.Since(after)
		switch got := send(t, s, "GET /x", "Cookie: "+live); {
		case got.status == 200 && asked < absolute+2*time.Second: // half of a round trip may be long
			admitted++
		case got.status == 401 && time.Since(before) > absolute-2*time.Second:
			refused++
		default:
			t.Fatalf("status %d after %v of %v", got.status, asked, absolute)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if admitted == 0 {
		t.Error("no request was admitted")
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
