package redisstore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestBlindSentinel has a client listen to a Sentinel that reaches no server of Redis, and no
// other Sentinel: it names the first master for ever, dead or not. The client follows the
// others, to the second master and from there to the third, also while the second lives on
// and knows of no revocation.
func TestBlindSentinel(t *testing.T) {
	t.Parallel()
	r := newBlindRig(t)
	id := logins(t, r.manager, 1)[0]
	replicated(t, r.set.Master, r.set.Replicas...)
	killed := time.Now()
	r.set.Master.Kill()
	second := r.follows(r.set.Master.Addr)
	served := untilServed(t, r.manager, killed, id)
	t.Logf("served %v after the kill (down-after %v)", served, redistest.DownAfter)
	if served > heldUp {
		t.Errorf("served %v after the kill", served)
	}
	// For good, and by a lane, which dials by itself.
	for range 200 {
		if _, err := check(r.manager, id, enough); err != nil {
			t.Fatalf("a check by the second master: %v", err)
		}
	}

	r.keepsItsRole(second)
	third := r.failOver(second)
	if err := r.do(third, "del", string(id.Key())); err != nil {
		t.Fatal(err)
	}
	revoked := time.Now()
	for {
		_, err := check(r.manager, id, enough)
		if errors.Is(err, sessions.ErrNotFound) {
			break
		}
		if time.Since(revoked) > heldUp {
			t.Fatalf("%v after a revocation by the third master a check says: %v", heldUp, err)
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("the third master was asked %v after a revocation", time.Since(revoked).Round(time.Millisecond))
	if err := r.do(second, "hget", string(id.Key()), "user_id"); err != nil {
		t.Errorf("the second master does not have the session any more, so that this shows nothing: %v", err)
	}
}

// TestBlindSentinelAlone: where most Sentinels do not answer, the word of one that is blind
// does not count for more than it does to go-redis, which calls of a Redis that is well go by.
func TestBlindSentinelAlone(t *testing.T) {
	t.Parallel()
	r := newBlindRig(t)
	id := logins(t, r.manager, 1)[0]
	replicated(t, r.set.Master, r.set.Replicas...)
	r.set.Master.Kill()
	second := r.follows(r.set.Master.Addr)
	untilServed(t, r.manager, time.Now(), id)
	if err := r.set.Master.Restart(); err != nil { // with what it knew, as a master for a moment
		t.Fatal(err)
	}
	r.alone(func() {
		time.Sleep(time.Second) // the answer of before is forgotten
		if _, err := check(r.manager, id, enough); err != nil {
			t.Errorf("a check while the Sentinels are silent: %v", err)
		}
		if err := r.do(second, "del", string(id.Key())); err != nil {
			t.Error(err)
		}
		if _, err := check(r.manager, id, enough); !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("a check by another master than the Sentinels have named: %v", err)
		}
	})
}

// TestFormerMasterLives: the master has a successor, lives on, and knows of no revocation.
// Once the client has dialled the successor, no connection of before answers any more.
func TestFormerMasterLives(t *testing.T) {
	t.Parallel()
	r := newBlindRig(t)
	id := logins(t, r.manager, 1)[0]
	replicated(t, r.set.Master, r.set.Replicas...)
	r.together(id)
	r.keepsItsRole(r.set.Master)
	second := r.failOver(r.set.Master)
	for begun := time.Now(); r.clients(second) == 0; {
		if time.Since(begun) > heldUp {
			t.Fatal("the successor is never dialled")
		}
		r.endsOne(r.set.Master)
		r.together(id)
	}
	if err := r.do(second, "del", string(id.Key())); err != nil {
		t.Fatal(err)
	}
	if err := r.do(r.set.Master, "hget", string(id.Key()), "user_id"); err != nil {
		t.Fatalf("the former master does not have the session any more, so that this shows nothing: %v", err)
	}
	for i, err := range r.together(id) {
		if !errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("check %d by the former master: %v", i, err)
		}
	}
}

// together has more checks at once than there are connections.
func (r *blindRig) together(id sessions.ID) []error {
	errs := make([]error, 60)
	var checks sync.WaitGroup
	for i := range errs {
		checks.Go(func() { _, errs[i] = check(r.manager, id, enough) })
	}
	checks.Wait()
	return errs
}

// ours are the client's connections.
func (r *blindRig) ours(s *redistest.Server) (ids []string) {
	client := s.Client()
	defer func() { _ = client.Close() }()
	list, err := client.Do(r.Context(), "client", "list", "type", "normal").Text()
	if err != nil {
		r.Fatal(err)
	}
	for line := range strings.Lines(list) {
		if strings.Contains(line, " name="+ourName+" ") {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			ids = append(ids, id)
		}
	}
	return ids
}

func (r *blindRig) clients(s *redistest.Server) int { return len(r.ours(s)) }

// endsOne has a server end one connection.
func (r *blindRig) endsOne(s *redistest.Server) {
	if ids := r.ours(s); len(ids) > 0 {
		_ = r.do(s, "client", "kill", "id", ids[0])
	}
}

// A blindRig is a set of Sentinels and a client that listens to another one.
type blindRig struct {
	*testing.T
	set     *redistest.Sentinels
	manager *sessions.Manager
}

// ourName is that of the client's connections.
const ourName = "client-of-a-blind-sentinel"

func newBlindRig(t *testing.T) *blindRig {
	t.Helper()
	r := &blindRig{T: t, set: redistest.StartSentinels(t, 2, nil)}
	_, port, _ := strings.Cut(r.set.Master.Addr, ":")
	blind := redistest.StartWith(t, redistest.Options{Sentinel: []string{
		"sentinel monitor " + redistest.MasterName + " 127.0.0.1 " + port + " 2",
		"sentinel auth-pass " + redistest.MasterName + " wrong", // it hears nothing, and nothing hears of it
	}})
	config := hasty(append([]string{blind.Addr}, r.set.Addrs...)...)
	config.MasterName, config.SentinelPassword, config.ClientName = redistest.MasterName, redistest.Password, ourName
	client := connect(t, config)
	r.alone(func() {
		for client.Ping(t.Context()).Err() != nil {
			time.Sleep(10 * time.Millisecond)
		}
	})
	r.manager = newManager(t, client, sessions.Config{MaxPerUser: -1})
	return r
}

// alone does something while none of the set's Sentinels answers.
func (r *blindRig) alone(do func()) {
	r.Helper()
	for _, s := range r.set.Processes {
		if err := s.Pause(); err != nil {
			r.Fatal(err)
		}
	}
	do()
	for _, s := range r.set.Processes {
		if err := s.Resume(); err != nil {
			r.Fatal(err)
		}
	}
}

// follows waits until all Sentinels of the set name another master, which it returns.
func (r *blindRig) follows(former string) *redistest.Server {
	r.Helper()
	var named []string
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(10 * time.Millisecond) {
		named = nil
		for _, s := range r.set.Processes {
			addr, err := r.set.MasterOf(r.Context(), s)
			if err != nil {
				r.Fatal(err)
			}
			named = append(named, addr)
		}
		if named[0] != former && !slices.ContainsFunc(named, func(addr string) bool { return addr != named[0] }) {
			return r.at(named[0])
		}
	}
	r.Fatalf("the Sentinels name %v", named)
	return nil
}

func (r *blindRig) at(addr string) *redistest.Server {
	i := slices.IndexFunc(r.set.Servers(), func(s *redistest.Server) bool { return s.Addr == addr })
	if i < 0 {
		r.Fatalf("there is no server at %s", addr)
	}
	return r.set.Servers()[i]
}

// keepsItsRole has a master refuse to become a replica.
func (r *blindRig) keepsItsRole(s *redistest.Server) {
	r.Helper()
	if err := r.do(s, "acl", "setuser", "default", "-replicaof", "-slaveof"); err != nil {
		r.Fatal(err)
	}
}

// failOver has the Sentinels change the master, and returns the new one.
func (r *blindRig) failOver(former *redistest.Server) *redistest.Server {
	r.Helper()
	client := redis.NewSentinelClient(&redis.Options{Addr: r.set.Processes[0].Addr, Password: redistest.Password})
	defer func() { _ = client.Close() }()
	var err error
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(100 * time.Millisecond) {
		if err = client.Failover(r.Context(), redistest.MasterName).Err(); err == nil {
			return r.follows(former.Addr)
		}
	}
	r.Fatal(err)
	return nil
}

func (r *blindRig) do(s *redistest.Server, command ...any) error {
	client := s.Client()
	defer func() { _ = client.Close() }()
	return client.Do(context.WithoutCancel(r.Context()), command...).Err()
}
