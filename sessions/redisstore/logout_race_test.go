package redisstore_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestLogoutRacesSlides ends 200 sessions, each while checks of two processes slide it, a
// cache reads it, and a service adds fields to it. Once a logout is acknowledged, no check
// that begins finds the session; and in the end nothing is left: no key, not even one without
// its fields, and no entry in the listing.
func TestLogoutRacesSlides(t *testing.T) {
	t.Parallel()
	rounds := 200
	if os.Getenv("COATCHECK_FULL") != "" {
		rounds = 5000
	}
	for name, addrs := range map[string]func() (addrs []string, cluster bool){
		"single":  func() ([]string, bool) { return []string{redistest.Start(t).Addr}, false },
		"Cluster": func() ([]string, bool) { return redistest.StartCluster(t, 0, nil).Addrs(), true },
	} {
		t.Run(name, func(t *testing.T) {
			if name == "Cluster" && os.Getenv("COATCHECK_FULL") == "" {
				t.Skip("takes seconds: COATCHECK_FULL=1")
			}
			options := patient
			options.Addrs, options.IsClusterMode = addrs()
			config := sessions.Config{IdleTimeout: time.Minute, IdleStep: time.Millisecond, MaxPerUser: -1}
			r := &logoutRace{T: t, client: connect(t, redisstore.ClientConfig{UniversalOptions: options})}
			for range 2 {
				r.checks = append(r.checks, newManager(t, connect(t, redisstore.ClientConfig{UniversalOptions: options}), config))
			}
			r.logout = newManager(t, r.client, config)
			for range rounds {
				r.round()
			}
			t.Logf("%d logouts; %d checks found the session before, %d found it gone", rounds, r.found.Load(), r.gone.Load())
			if r.found.Load() < int64(rounds) || r.gone.Load() < int64(rounds) {
				t.Error("there was no race")
			}
		})
	}
}

type logoutRace struct {
	*testing.T
	client      redis.UniversalClient
	checks      []*sessions.Manager
	logout      *sessions.Manager
	found, gone atomic.Int64
}

func (r *logoutRace) round() {
	ctx := context.Background()
	id, s, err := r.logout.Create(ctx, sessions.NewSession{UserID: "racer"})
	if err != nil {
		r.Fatal(err)
	}
	found := r.found.Load()
	var acknowledged atomic.Bool
	over := make(chan struct{})
	var running sync.WaitGroup
	until := func(do func() error) {
		running.Go(func() {
			for last := false; !last; {
				select {
				case <-over:
					last = true // once more, afterwards
				default:
				}
				late := acknowledged.Load()
				err := do()
				switch {
				case err == nil && late:
					r.Error("a session was found after its logout")
				case err == nil:
					r.found.Add(1)
				case sessions.Absent(err):
					r.gone.Add(1)
				default:
					r.Error(err)
				}
			}
		})
	}
	for _, m := range r.checks {
		until(func() error { _, err := m.Touch(ctx, id); return err })
		until(func() error { _, _, err := m.Fetch(ctx, s.Key, sessions.Fetch{Slide: true}); return err })
	}
	until(func() error { _, _, err := r.checks[0].Fetch(ctx, s.Key, sessions.Fetch{}); return err })
	until(func() error {
		return r.checks[1].Add(ctx, s.Key, map[string]string{"f" + sessions.NewID().Key().Handle(): "x"})
	})
	for since := time.Now(); r.found.Load() == found; time.Sleep(time.Millisecond) {
		if time.Since(since) > time.Minute {
			r.Fatal("no check finds the session within a minute")
		}
	}
	if err := r.logout.Revoke(ctx, s.Key); err != nil {
		r.Errorf("a logout: %v", err)
	}
	acknowledged.Store(true)
	time.Sleep(500 * time.Microsecond)
	close(over)
	running.Wait()
	if n, err := r.client.Exists(ctx, string(s.Key)).Result(); err != nil || n != 0 {
		r.Errorf("the key is there: %d, %v", n, err)
	}
	if err := r.client.ZScore(ctx, "user-sessions:racer", s.Key.Hash()).Err(); !errors.Is(err, redis.Nil) {
		r.Errorf("the session is listed: %v", err)
	}
}
