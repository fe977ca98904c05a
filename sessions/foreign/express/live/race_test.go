package live_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestLogoutsRaceSlides: 200 logouts, each while checks slide the same session, leave no
// key behind, and revive none.
func TestLogoutsRaceSlides(t *testing.T) {
	for _, name := range []string{"own", "passport", "rolling"} {
		t.Run(name, func(t *testing.T) {
			v := theSite(t, name)
			a := v.apps[len(v.apps)-1]
			var raced int
			var keys []string
			for range 200 {
				key, between := v.race(t, a)
				keys = append(keys, key)
				if between {
					raced++
				}
			}
			time.Sleep(4 * time.Second) // a slide that fails is tried again for three
			if left := v.redis.Exists(t.Context(), keys...).Val(); left != 0 {
				t.Errorf("%d of 200 keys are left after their logouts", left)
			}
			if raced < 20 {
				t.Errorf("only %d of 200 logouts fell between two checks: the test would see no race", raced)
			}
			t.Logf("%d of 200 logouts fell between two checks", raced)
		})
	}
}

// race signs a user in and out while four clients send checks, of which each would
// slide. It returns the key, and whether the logout fell between checks.
func (v *site) race(t *testing.T, a *app) (string, bool) {
	p := v.signIn(t, a, ada)
	v.expire(t, p, 30*time.Second)
	var allowed, refused atomic.Int64
	begin := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			<-begin
			for range 4 {
				if v.ask(t, a, "GET /echo", p.cookie).status == http.StatusOK {
					allowed.Add(1)
				} else {
					refused.Add(1)
				}
				v.redis.PExpire(t.Context(), p.key, 30*time.Second) // so that the next would slide, too
			}
		})
	}
	close(begin)
	a.ask(t, "GET /logout", p.cookie).came(t, http.StatusFound)
	v.ask(t, a, "GET /echo", p.cookie).came(t, http.StatusUnauthorized) // at once
	clients.Wait()
	if v.redis.Exists(t.Context(), p.key).Val() != 0 {
		t.Error("a key is left after the logout")
	}
	return p.key, allowed.Load() > 0 && refused.Load() > 0
}
