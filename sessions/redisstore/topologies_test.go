package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/nearcache"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
	"github.com/coatcheck/coatcheck/sessions/storetest"
)

// full is whether tests take their long form.
var full = os.Getenv("COATCHECK_FULL") != ""

// A deployment is a topology with the document's three users, each with a password in a
// file.
type deployment struct {
	*testing.T
	*redistest.Deployment
	dir string
}

func newDeployment(t *testing.T, topology redistest.Topology) *deployment {
	t.Helper()
	d := &deployment{T: t, Deployment: redistest.StartDeployment(t, topology, redistest.DeploymentOptions{Patience: 30 * time.Second}), dir: t.TempDir()}
	for _, user := range []string{checkUser, loginUser, manageUser} {
		d.allow(user, oldPassword)
		d.write(user, oldPassword)
	}
	return d
}

// allow lets a user in with these passwords and no others, on every server.
func (d *deployment) allow(user string, passwords ...string) {
	d.Helper()
	rules := d.rules(user)
	for _, password := range passwords {
		rules = append(rules, ">"+password)
	}
	if err := d.SetUser(user, append(rules, "<pw")...); err != nil {
		d.Fatal(err)
	}
}

var inDocument = regexp.MustCompile("With `near_cache.enabled`, add `([^`]+)` to the user of checks, [^;]*; on a Cluster also\n`([^`]+)`")

// rules are the document's line for a user, with what it adds for a Cluster and for the
// near cache.
func (d *deployment) rules(user string) []string {
	d.Helper()
	rules := aclRules(d.T, user)
	near := inDocument.FindStringSubmatch(document(d.T))
	if near == nil {
		d.Fatal("the document does not say what the near cache needs")
	}
	if user == checkUser {
		rules = append(rules, strings.Fields(near[1])...)
	}
	if d.Kind == redistest.InCluster {
		more := regexp.MustCompile("On a Cluster, add `([^`]+)` to all four").FindStringSubmatch(document(d.T))
		if more == nil {
			d.Fatal("the document does not say what a Cluster needs")
		}
		rules = append(rules, strings.Fields(more[1])...)
		if user == checkUser {
			rules = append(rules, strings.Fields(near[2])...)
		}
	}
	return rules
}

func (d *deployment) file(user string) string { return filepath.Join(d.dir, user) }

func (d *deployment) write(user, password string) {
	d.Helper()
	writePassword(d.T, d.file(user), password)
}

// as is a client of one of the users.
func (d *deployment) as(user string) *redisstore.Client {
	d.Helper()
	return connect(d.T, d.config(user, d.file(user)))
}

func (d *deployment) config(user, file string) redisstore.ClientConfig {
	config := redisstore.ClientConfig{UniversalOptions: patient, PasswordFile: file}
	d.Configure(&config.UniversalOptions)
	config.Username, config.Password = user, ""
	return config
}

// restless is a client of one of the users whose connections are new all the time.
func (d *deployment) restless(user string) *redisstore.Client {
	d.Helper()
	config := d.config(user, d.file(user))
	config.ConnMaxLifetime, config.ConnMaxLifetimeJitter = 60*time.Millisecond, 20*time.Millisecond
	return connect(d.T, config)
}

// store waits for every replica.
func (d *deployment) store(client *redisstore.Client) *redisstore.Store {
	return redisstore.New(client, redisstore.Config{WaitReplicas: d.Replicas(), WaitTimeout: 20 * time.Second})
}

func (d *deployment) manager(user string) *sessions.Manager {
	d.Helper()
	m, err := sessions.NewManager(d.store(d.as(user)), sessions.Config{MaxPerUser: -1})
	if err != nil {
		d.Fatal(err)
	}
	return m
}

// A near is a replica of Coatcheck with the near cache, as the user for checks.
type near struct {
	*nearcache.Sessions
	store sessions.Store // through the cache
}

const nearLease = time.Second

func (d *deployment) near(t *testing.T, user string) *near {
	t.Helper()
	store := d.store(d.as(user))
	cache, err := nearcache.New(nearcache.Config{Lease: nearLease})
	if err != nil {
		t.Fatal(err)
	}
	n := &near{store: cache.Store(store)}
	m, err := sessions.NewManager(n.store, sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	n.Sessions = cache.Sessions(m)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	running.Go(func() { store.Track(ctx, cache, nearLease) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return n
}

// warm waits until the replica answers for id by itself.
func (n *near) warm(t *testing.T, id sessions.ID) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		_, err := n.Touch(t.Context(), id)
		if _, hit, _ := n.Peek(id, nil); hit {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no hit within a minute: %v", err)
		}
	}
}

// TestTopologies runs the conformance suite, the near cache and the rotation of a password
// over the topologies, as the users of the document. The short form has the two with the
// most parts, and the suite over one of them.
func TestTopologies(t *testing.T) {
	t.Parallel()
	for _, topology := range redistest.Topologies() {
		if !full && (!topology.TLS || topology.Kind == redistest.Single) {
			continue
		}
		t.Run(topology.String(), func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, topology)
			if full || topology.Kind == redistest.InCluster {
				t.Run("conformance", d.conforms)
			}
			t.Run("near cache", d.nearCache)
			t.Run("rotation", d.rotates)
			t.Run("everywhere", d.everywhere)
		})
	}
}

// conforms: the user that may do all that the suite asks for is the operators'.
func (d *deployment) conforms(t *testing.T) {
	store := d.store(d.as(manageUser))
	newStore := func(*testing.T) sessions.Store { return store }
	storetest.Run(t, newStore)
	storetest.RunScanner(t, newStore)
	storetest.RunIndexer(t, newStore)
}

// nearCache: the suite holds through a cache, too, and a replica forgets what another user
// revokes.
func (d *deployment) nearCache(t *testing.T) {
	if full {
		if err := d.SetUser("near", append(d.rules(manageUser), append(d.rules(checkUser), ">"+oldPassword)...)...); err != nil {
			t.Fatal(err)
		}
		d.write("near", oldPassword)
		cached := d.near(t, "near")
		storetest.Run(t, func(*testing.T) sessions.Store { return cached.store })
	}
	login, operators := d.manager(loginUser), d.manager(manageUser)
	replica := d.near(t, checkUser)
	for range 8 { // over the masters
		id, _, err := login.Create(t.Context(), sessions.NewSession{UserID: "42"})
		if err != nil {
			t.Fatal(err)
		}
		replica.warm(t, id)
		if err := operators.Revoke(t.Context(), id.Key()); err != nil {
			t.Fatal(err)
		}
		revoked := time.Now()
		for {
			begun := time.Now()
			if _, err := replica.Touch(t.Context(), id); errors.Is(err, sessions.ErrNotFound) {
				break
			}
			if late := begun.Sub(revoked); late > nearLease {
				t.Fatalf("admitted %v after the revocation", late)
			}
		}
	}
}

// rotates changes the password of each user in three steps, on every server, while its
// connections are made anew: no call fails.
func (d *deployment) rotates(t *testing.T) {
	login := newManager(t, d.restless(loginUser), sessions.Config{MaxPerUser: -1})
	checks := newManager(t, d.restless(checkUser), sessions.Config{})
	ids := logins(t, login, 8)
	l := startLoad(t, checks, 4, enough, ids...)
	var made atomic.Int32
	ctx, stop := context.WithCancel(t.Context())
	var signing sync.WaitGroup
	signing.Go(func() {
		for ctx.Err() == nil {
			_, s, err := login.Create(t.Context(), sessions.NewSession{UserID: "7"})
			if err != nil {
				t.Errorf("a login: %v", err)
				return
			}
			if err := login.Revoke(t.Context(), s.Key); err != nil {
				t.Errorf("a revocation: %v", err)
			}
			made.Add(1)
			time.Sleep(20 * time.Millisecond)
		}
	})
	for _, user := range []string{checkUser, loginUser} {
		for _, step := range []func(){
			func() { d.allow(user, oldPassword, newPassword) },
			func() { d.write(user, newPassword) },
			func() { d.allow(user, newPassword) },
		} {
			step()
			l.turn(t)
			for before := made.Load(); made.Load() < before+2 && !t.Failed(); {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(100 * time.Millisecond) // connections are made anew
		}
	}
	stop()
	signing.Wait()
	if bad := failed(t, l.end()); len(bad) > 0 {
		t.Errorf("%d checks failed: %v", len(bad), bad[0].err)
	}
	if made.Load() == 0 {
		t.Error("no session was made")
	}
	// Those who come with the former password are refused.
	if err := os.WriteFile(d.file("former"), []byte(oldPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := newManager(t, connect(t, d.config(checkUser, d.file("former"))), sessions.Config{}).Touch(t.Context(), ids[0])
	if !redisstore.Refused(err) {
		t.Errorf("with the former password: %v", err)
	}
}

// everywhere signs a user out everywhere and measures until it is acknowledged, by every
// replica, and until no replica of Coatcheck admits a session.
func (d *deployment) everywhere(t *testing.T) {
	rounds := 3
	if full {
		rounds = 15
	}
	login := d.manager(loginUser)
	replicas := []*near{d.near(t, checkUser), d.near(t, checkUser)}
	plain := newManager(t, d.as(checkUser), sessions.Config{})
	var lines []string
	for _, n := range []int{1, 10, 50} {
		var acknowledged, admitted []time.Duration
		for range rounds {
			ids := logins(t, login, n)
			for _, r := range replicas {
				r.warm(t, ids[n-1])
			}
			start := time.Now()
			ended, err := login.RevokeUser(t.Context(), "42")
			if err != nil || ended < n {
				t.Fatalf("%d of %d ended: %v", ended, n, err)
			}
			done := time.Now()
			acknowledged = append(acknowledged, done.Sub(start))
			for _, id := range ids {
				if _, err := plain.Touch(t.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
					t.Fatalf("a check after the acknowledgement: %v", err)
				}
			}
			last := time.Duration(0)
			for _, r := range replicas {
				for {
					begun := time.Since(done)
					if _, err := r.Touch(t.Context(), ids[n-1]); err != nil {
						break
					}
					last = begun
				}
			}
			admitted = append(admitted, last)
		}
		slices.Sort(acknowledged)
		slices.Sort(admitted)
		lines = append(lines, fmt.Sprintf("%d sessions: %v (at most %v), near caches %v", n,
			acknowledged[rounds/2].Round(10*time.Microsecond), acknowledged[rounds-1].Round(10*time.Microsecond), admitted[rounds-1].Round(10*time.Microsecond)))
		if admitted[rounds-1] > nearLease {
			t.Errorf("%d sessions: admitted %v after the acknowledgement", n, admitted[rounds-1])
		}
	}
	t.Logf("signed out everywhere, %s, %d replicas of each master: %s", d.Topology, d.Replicas(), strings.Join(lines, "; "))
}

// TestSlotOnItsWay: while a slot of a Cluster moves, a node sends clients on for one command
// (ASK). The users of the document may follow, checks and revocations both.
func TestSlotOnItsWay(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, redistest.Topology{Kind: redistest.InCluster})
	login := d.manager(loginUser)
	id, s, err := login.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	looking := d.Servers[0].Client()
	defer looking.Close()
	slot := int(looking.ClusterKeySlot(t.Context(), string(s.Key)).Val())
	from := d.Cluster.Owner(slot)
	to := (from + 1) % 3
	d.migrate(slot, from, to, string(s.Key))
	checks := newManager(t, d.as(checkUser), sessions.Config{})
	for range 50 { // by go-redis, and by the lane to the node that sends it on
		if _, err := checks.Touch(t.Context(), id); err != nil {
			t.Fatalf("a check: %v", err)
		}
	}
	if err := login.Revoke(t.Context(), s.Key); err != nil {
		t.Errorf("a revocation: %v", err)
	}
	if _, err := checks.Touch(t.Context(), id); !errors.Is(err, sessions.ErrNotFound) {
		t.Errorf("afterwards: %v", err)
	}
}

// migrate moves a key of a slot that is on its way from one master to another.
func (d *deployment) migrate(slot, from, to int, key string) {
	d.Helper()
	source, target := d.Cluster.Masters[from].Client(), d.Cluster.Masters[to].Client()
	defer source.Close()
	defer target.Close()
	ctx := d.Context()
	sourceID, targetID := source.Do(ctx, "cluster", "myid").Val(), target.Do(ctx, "cluster", "myid").Val()
	_, port, _ := strings.Cut(d.Cluster.Masters[to].Addr, ":")
	if err := errors.Join(
		target.Do(ctx, "cluster", "setslot", slot, "importing", sourceID).Err(),
		source.Do(ctx, "cluster", "setslot", slot, "migrating", targetID).Err(),
		source.Do(ctx, "migrate", "127.0.0.1", port, key, 0, 5000, "auth", redistest.Password).Err(),
	); err != nil {
		d.Fatal(err)
	}
}
