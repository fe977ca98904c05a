package userfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// otherHash is adaHash with another salt, as of another password.
var otherHash = strings.Replace(adaHash, "c29tZXNhbHQ", "c29tZXNhbHU", 1)

// An accountsRig is a Redis with sessions of users, and logins that are started
// and stopped.
type accountsRig struct {
	*testing.T
	redis    *redistest.Server
	client   *redis.Client
	sessions *sessions.Manager
	log      lockedBuffer
}

func newAccountsRig(t *testing.T) *accountsRig {
	t.Helper()
	r := &accountsRig{T: t, redis: redistest.Start(t)}
	r.client = r.redis.Client()
	t.Cleanup(func() { _ = r.client.Close() })
	var err error
	if r.sessions, err = sessions.NewManager(redisstore.New(r.client, redisstore.Config{}), sessions.Config{}); err != nil {
		t.Fatal(err)
	}
	return r
}

// users is a users file with an entry for each ID, "id", "id roles" or "id roles
// hash".
func users(entries ...string) string {
	var text strings.Builder
	for _, entry := range entries {
		words := append(strings.Fields(entry), "staff", adaHash)
		if len(words) > 3 {
			words = append(words[:len(words)-2], adaHash)
		}
		fmt.Fprintf(&text, "- {id: %q, username: \"user %s\", roles: [%s], password_hash: '%s'}\n", words[0], words[0], words[1], words[2])
	}
	return text.String()
}

// A replica is one login with its users file.
type replica struct {
	*userfile.Accounts
	file *userfile.File
	path string
}

// start starts a login with these users. It settles nothing yet.
func (r *accountsRig) start(text string, change ...func(*userfile.AccountsConfig)) replica {
	r.Helper()
	path := userFile(r.T, text)
	c := userfile.AccountsConfig{
		File: openUserFile(r.T, path), Store: redisstore.NewAccounts(r.client), Sessions: r.sessions,
		Logger: slog.New(slog.NewJSONHandler(&r.log, nil)),
	}
	for _, change := range change {
		change(&c)
	}
	a, err := userfile.NewAccounts(c)
	if err != nil {
		r.Fatal(err)
	}
	return replica{a, c.File, path}
}

// reload has a replica take up other users.
func (r *accountsRig) reload(p replica, text string) {
	r.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	reports := make(chan error, 10)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.file.Watch(ctx, 30*time.Millisecond, nil, func(err error) { reports <- err })
	}()
	writeFile(r.T, p.path, text)
	if err := <-reports; err != nil {
		r.Fatal(err)
	}
	cancel()
	<-ended
}

func (r *accountsRig) settles(p replica, want error) {
	r.Helper()
	if err := p.Settle(r.Context()); !errors.Is(err, want) || want == nil && err != nil {
		r.Fatalf("settling: %v, want %v", err, want)
	}
}

func (r *accountsRig) create(userID string) sessions.ID {
	r.Helper()
	id, _, err := r.sessions.Create(r.Context(), sessions.NewSession{UserID: userID})
	if err != nil {
		r.Fatal(err)
	}
	return id
}

// live wants the sessions of these users to live, and no other of those asked.
func (r *accountsRig) live(ids map[string]sessions.ID, want ...string) {
	r.Helper()
	for user, id := range ids {
		_, err := r.sessions.Touch(r.Context(), id)
		if wanted := strings.Contains(" "+strings.Join(want, " ")+" ", " "+user+" "); wanted != (err == nil) {
			r.Errorf("the session of %s: %v, should live: %v", user, err, wanted)
		}
	}
}

func (r *accountsRig) createAll(users ...string) map[string]sessions.ID {
	r.Helper()
	ids := make(map[string]sessions.ID)
	for _, user := range users {
		ids[user] = r.create(user)
	}
	return ids
}

// TestClosedAccounts: at a reload, and at a start with a file that changed
// meanwhile, the sessions end of accounts that are gone or have another hash,
// other roles or attributes, and of no others.
func TestClosedAccounts(t *testing.T) {
	before := users("gone", "hash", "roles", "same", "renamed", "order a,b", "attributes")
	after := users("hash staff "+otherHash, "roles admin", "same", "order b,a", "new") +
		"- {id: renamed, username: grace, roles: [staff], password_hash: '" + adaHash + "'}\n" +
		"- {id: attributes, username: x, roles: [staff], attributes: {tenant: acme}, password_hash: '" + adaHash + "'}\n"
	for name, restart := range map[string]bool{"reload": false, "restart": true} {
		t.Run(name, func(t *testing.T) {
			r := newAccountsRig(t)
			p := r.start(before)
			r.settles(p, nil)
			ids := r.createAll("gone", "hash", "roles", "same", "renamed", "order", "attributes", "elsewhere", "new")
			r.settles(p, nil)
			r.live(ids, "gone", "hash", "roles", "same", "renamed", "order", "attributes", "elsewhere", "new")
			if restart {
				p = r.start(after)
			} else {
				r.reload(p, after)
			}
			r.settles(p, nil)
			r.live(ids, "same", "renamed", "order", "elsewhere", "new")
			again := r.createAll("hash", "roles", "attributes")
			r.settles(p, nil)
			r.live(again, "hash", "roles", "attributes")
			for _, id := range []string{`"user_id":"gone","sessions":1,"why":"account closed"`, `"user_id":"hash","sessions":1,"why":"account changed"`} {
				if !strings.Contains(r.log.String(), id) {
					t.Errorf("%s is not in the log:\n%s", id, r.log.String())
				}
			}
		})
	}
}

// TestNothingSecretIsSeen: neither a hash nor a name stands in Redis.
func TestNothingSecretIsSeen(t *testing.T) {
	r := newAccountsRig(t)
	r.settles(r.start(users("42", "43")), nil)
	text := ""
	for _, key := range r.client.Keys(t.Context(), "*").Val() {
		text += key + " " + fmt.Sprint(r.client.ZRangeWithScores(t.Context(), key, 0, -1).Val(), r.client.HGetAll(t.Context(), key).Val())
	}
	if !strings.Contains(text, "login-accounts") || !strings.Contains(text, " 42}") {
		t.Errorf("nothing was written: %s", text)
	}
	for _, secret := range []string{"argon2", "c29t", "user 4", "staff"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in Redis: %s", secret, text)
		}
	}
}

// TestTooManyClosed: a file that lacks more than half of the accounts ends
// nothing, says which command does it, and new accounts of it sign in.
func TestTooManyClosed(t *testing.T) {
	r := newAccountsRig(t)
	r.settles(r.start(users("a", "b", "c", "d")), nil)
	ids := r.createAll("a", "b", "c", "d")
	p := r.start(users("d staff "+otherHash, "new"))
	r.settles(p, userfile.ErrManyClosed)
	r.settles(p, userfile.ErrManyClosed)
	r.live(ids, "a", "b", "c", "d")
	if n := strings.Count(r.log.String(), "coatcheck session revoke --closed"); n != 1 {
		t.Errorf("the command is named %d times:\n%s", n, r.log.String())
	}
	account, err := p.file.Find(t.Context(), "user new")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Confirm(t.Context(), account); err != nil {
		t.Errorf("a new account: %v", err)
	}
	// The command is another process.
	n, err := r.start(users("d staff "+otherHash, "new")).Force(t.Context())
	if err != nil || n != 4 {
		t.Errorf("forced: %d, %v", n, err)
	}
	r.live(ids)
	r.settles(p, nil)
	half := r.start(users("d staff " + otherHash))
	r.settles(half, nil) // half is not more than half
}

// TestRedisAwayAtReload: it is tried until it is done.
func TestRedisAwayAtReload(t *testing.T) {
	t.Parallel()
	r := newAccountsRig(t)
	p := r.start(users("a", "b"))
	r.settles(p, nil)
	ids := r.createAll("a", "b")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	r.redis.Pause()
	go func() { defer close(ended); p.Run(ctx, nil) }()
	r.reload(p, users("a"))
	time.Sleep(200 * time.Millisecond)
	r.redis.Resume()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if _, err := r.sessions.Touch(t.Context(), ids["b"]); errors.Is(err, sessions.ErrNotFound) {
			break
		}
	}
	cancel()
	<-ended
	r.live(ids, "a")
}

// A dyingStore is an AccountStore and a Revoker of a process that ends after so
// many steps.
type dyingStore struct {
	userfile.AccountStore
	*sessions.Manager
	left atomic.Int64
}

var errDied = errors.New("the process ended")

func (d *dyingStore) Write(ctx context.Context, file uint64, digests map[string]uint64, forget []string) (bool, error) {
	if d.left.Add(-1) < 0 {
		return false, errDied
	}
	return d.AccountStore.Write(ctx, file, digests, forget)
}

func (d *dyingStore) Claim(ctx context.Context, file uint64) error {
	if d.left.Add(-1) < 0 {
		return errDied
	}
	return d.AccountStore.Claim(ctx, file)
}

func (d *dyingStore) RevokeUser(ctx context.Context, userID string) (int, error) {
	if d.left.Add(-1) < 0 {
		return 0, errDied
	}
	return d.Manager.RevokeUser(ctx, userID)
}

// TestEndBetweenSteps: a process may end after any of the steps, and the next one
// ends the sessions.
func TestEndBetweenSteps(t *testing.T) {
	r := newAccountsRig(t)
	for steps := int64(0); steps < 12; steps++ {
		r.client.FlushAll(t.Context())
		r.settles(r.start(users("gone", "changed", "same")), nil)
		ids := r.createAll("gone", "changed", "same")
		after := users("changed admin", "same", "new")
		dying := &dyingStore{AccountStore: redisstore.NewAccounts(r.client), Manager: r.sessions}
		dying.left.Store(steps)
		err := r.start(after, func(c *userfile.AccountsConfig) { c.Store, c.Sessions = dying, dying }).Settle(t.Context())
		finished := err == nil
		r.settles(r.start(after), nil)
		r.live(ids, "same")
		again := r.createAll("changed", "same")
		r.settles(r.start(after), nil)
		r.live(again, "changed", "same")
		if finished {
			return
		}
	}
	t.Error("12 steps were not enough")
}

// TestTwoReplicas: a login by the older file neither writes nor signs in an
// account that the newer one has closed or changed, and takes over when the
// newer one is gone. Two with the same file do each other no harm.
func TestTwoReplicas(t *testing.T) {
	r := newAccountsRig(t)
	older := r.start(users("a", "b", "c"))
	r.settles(older, nil)
	account := func(p replica, name string) passwords.Account {
		t.Helper()
		a, err := p.file.Find(t.Context(), "user "+name)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	newer := r.start(users("a", "b admin"))
	ids := r.createAll("a", "b", "c")
	r.settles(newer, nil)
	r.live(ids, "a")
	r.settles(older, userfile.ErrOtherFile)
	for name, want := range map[string]error{"a": nil, "b": userfile.ErrOtherFile, "c": userfile.ErrOtherFile} {
		if err := older.Confirm(t.Context(), account(older, name)); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("the older one signs in %s: %v, want %v", name, err, want)
		}
	}
	if err := newer.Confirm(t.Context(), account(newer, "b")); err != nil {
		t.Errorf("the newer one: %v", err)
	}
	twin := r.start(users("a", "b admin"))
	ids = r.createAll("a", "b")
	r.settles(twin, nil)
	r.settles(newer, nil)
	r.live(ids, "a", "b")
	// The older one, started anew, takes its file up; the newer one waits for it.
	again := r.start(users("a", "b", "c"))
	r.settles(again, nil)
	r.settles(newer, userfile.ErrOtherFile)
	closed := r.create("c")
	for _, key := range r.client.Keys(t.Context(), "login-accounts:file:*").Val() {
		if ttl := r.client.PTTL(t.Context(), key).Val(); ttl < 30*time.Second || ttl > 2*time.Minute {
			t.Errorf("%s lives for %v", key, ttl)
		}
		r.client.Del(t.Context(), key) // as if the time were over
	}
	r.settles(newer, nil)
	r.live(map[string]sessions.ID{"c": closed})
}

// TestRedisLost: a Redis that comes back empty keeps no user from signing in.
func TestRedisLost(t *testing.T) {
	r := newAccountsRig(t)
	p := r.start(users("a"))
	r.settles(p, nil)
	r.client.FlushAll(t.Context())
	a, err := p.file.Find(t.Context(), "user a")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Confirm(t.Context(), a); err != nil {
		t.Error(err)
	}
}

// TestManyAccounts: more than fit into one script or one page.
func TestManyAccounts(t *testing.T) {
	t.Parallel()
	r := newAccountsRig(t)
	n := 3_000 // at most half of them may go at once
	if os.Getenv("COATCHECK_FULL") != "" {
		n = 10_500
	}
	entries := make([]string, n)
	for i := range entries {
		entries[i] = fmt.Sprint("u", i)
	}
	last := entries[n-1]
	r.settles(r.start(users(entries...)), nil)
	ids := r.createAll("u0", last, "u7")
	begin := time.Now()
	r.settles(r.start(users(entries[1300:]...)), nil)
	t.Logf("closing 1,300 of %d took %v", n, time.Since(begin))
	r.live(ids, last)
}

// A lockedBuffer is a log that is written and read at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
