package live_test

import (
	"net/http"
	"testing"
	"time"
)

// Applications whose sessions have an end that no use moves, or no end.
var (
	disableTouch = setting{
		name: "disable-touch", cookie: "connect.sid", prefix: "sess:", secrets: "keyboard cat",
		environment: []string{"DISABLE_TOUCH=1", "TTL=3600"},
		arguments:   append([]string{"--session-express-disable-touch", "true"}, userAtSessionUser...),
		programs:    []program{own("4", "7")},
	}
	disableTTL = setting{
		name: "disable-ttl", cookie: "connect.sid", prefix: "sess:", secrets: "keyboard cat",
		environment: []string{"DISABLE_TTL=1"},
		arguments:   append([]string{"--session-express-no-ttl", "accept"}, userAtSessionUser...),
		programs:    []program{own("5", "8")},
	}
)

func runs(t *testing.T, s setting) (*site, *app) {
	t.Helper()
	v, err := s.start()
	must(t, err)
	t.Cleanup(v.close)
	return v, v.apps[0]
}

// TestDisableTouch: where the application's use moves no end, neither does a check.
func TestDisableTouch(t *testing.T) {
	t.Parallel()
	v, a := runs(t, disableTouch)
	p := v.signIn(t, a, ada)
	v.expire(t, p, 30*time.Second)
	v.ask(t, a, "GET /echo", p.cookie).came(t, http.StatusOK)
	a.ask(t, "GET /me", p.cookie)
	time.Sleep(200 * time.Millisecond) // a slide would come behind the answer
	if left := v.ttl(t, p); left > 30*time.Second {
		t.Errorf("a session that no use prolongs has %v", left)
	}
}

// TestDisableTTL: sessions without an end authenticate where the operator says so, and
// get none.
func TestDisableTTL(t *testing.T) {
	t.Parallel()
	v, a := runs(t, disableTTL)
	p := v.signIn(t, a, ada)
	if left := v.ttl(t, p); left >= 0 {
		t.Fatalf("the application gives a session an end: %v", left)
	}
	v.ask(t, a, "GET /echo", p.cookie).came(t, http.StatusOK)
	time.Sleep(200 * time.Millisecond)
	if left := v.ttl(t, p); left >= 0 {
		t.Errorf("a check gave a session without an end %v", left)
	}
	v.ask(t, a, "GET /logout", p.cookie).came(t, http.StatusFound)
	v.ask(t, a, "GET /echo", p.cookie).came(t, http.StatusUnauthorized)
}
