package redisstore_test

import (
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestRevocationRacesLogins revokes all sessions of a user while four logins are
// under way, round after round, on real servers. In the end no session lives that is
// not listed, no revocation that began after a login had returned missed it, and no
// login that began before one has a session.
func TestRevocationRacesLogins(t *testing.T) {
	t.Parallel()
	rounds := 100
	if os.Getenv("COATCHECK_FULL") != "" {
		rounds = 3000
	}
	for name, addrs := range map[string]func() (addrs []string, cluster bool){
		"single":  func() ([]string, bool) { return []string{redistest.Start(t).Addr}, false },
		"Cluster": func() ([]string, bool) { return redistest.StartCluster(t, 0, nil).Addrs(), true },
	} {
		t.Run(name, func(t *testing.T) {
			options := patient
			options.Addrs, options.IsClusterMode = addrs()
			race := &race{T: t, client: connect(t, redisstore.ClientConfig{UniversalOptions: options})}
			race.m = newManager(t, race.client, sessions.Config{})
			for range rounds {
				race.round()
			}
			t.Logf("%d rounds: %d logins were ended, %d sessions revoked, %d lived on", rounds, race.ended, race.revoked, race.lived)
		})
	}
}

type race struct {
	*testing.T
	client                redis.UniversalClient
	m                     *sessions.Manager
	ended, revoked, lived int
}

// A try is one login.
type try struct {
	began, made time.Time
	id          sessions.ID
	err         error
}

func (r *race) round() {
	user := sessions.NewID().Key().Handle()
	tries := make([]try, 4)
	var running sync.WaitGroup
	for i := range tries {
		running.Go(func() {
			time.Sleep(time.Duration(i) * 300 * time.Microsecond)
			t := &tries[i]
			t.began = time.Now()
			t.id, _, t.err = r.m.Create(r.Context(), sessions.NewSession{UserID: user, Began: t.began})
			t.made = time.Now()
		})
	}
	time.Sleep(500 * time.Microsecond)
	started := time.Now()
	n, err := r.m.RevokeUser(r.Context(), user)
	done := time.Now()
	running.Wait()
	if err != nil {
		r.Fatal(err)
	}
	r.revoked += n
	for _, t := range tries {
		if t.err != nil && !errors.Is(t.err, sessions.ErrEnded) && t.began.After(done) {
			r.Errorf("a login that began after the revocation: %v", t.err)
		}
		if t.err != nil {
			r.ended++
			continue
		}
		_, err := r.m.Touch(r.Context(), t.id)
		if err == nil {
			r.lived++
			r.survivor(user, t, started)
		} else if t.began.After(done) {
			r.Errorf("a session that began after the revocation: %v", err)
		}
	}
	again, err := r.m.RevokeUser(r.Context(), user)
	if err != nil {
		r.Fatal(err)
	}
	r.revoked += again
	for _, t := range tries {
		if t.err != nil {
			continue
		}
		if _, err := r.m.Touch(r.Context(), t.id); err == nil {
			r.Error("a session lives that the second revocation did not find")
		}
	}
}

// survivor is a session that lives after a revocation.
func (r *race) survivor(user string, t try, started time.Time) {
	if t.made.Before(started) || t.began.Before(started) {
		r.Errorf("a login that began %v before the revocation has a session", started.Sub(t.began))
	}
	if r.client.ZScore(r.Context(), "user-sessions:"+user, t.id.Key().Hash()).Err() != nil {
		r.Error("a session lives that is not listed")
	}
}
