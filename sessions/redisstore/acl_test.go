package redisstore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
	"github.com/coatcheck/coatcheck/sessions/throttle"
)

// The users of the document's ACL lines.
const (
	checkUser  = "coatcheck-check"
	loginUser  = "coatcheck-login"
	manageUser = "coatcheck-manage"
)

// aclRules are the document's rules for a user.
func aclRules(t *testing.T, user string) []string {
	t.Helper()
	for line := range strings.Lines(block(t, "acl")) {
		if rules, ok := strings.CutPrefix(line, "user "+user+" "); ok {
			return strings.Fields(strings.Replace(rules, ">PASSWORD", ">pw", 1))
		}
	}
	t.Fatalf("no user %s", user)
	return nil
}

// An aclRig is a server with its administrator.
type aclRig struct {
	*testing.T
	server  *redistest.Server
	admin   *redis.Client
	cluster bool
	// counters and client have the rights of the store that as returned last.
	counters *redisstore.Counters
	client   redis.UniversalClient
}

func newACLRig(t *testing.T, cluster bool) *aclRig {
	t.Helper()
	rig := &aclRig{T: t, server: redistest.StartWith(t, redistest.Options{Cluster: cluster}), cluster: cluster}
	rig.admin = rig.server.Client()
	t.Cleanup(func() { _ = rig.admin.Close() })
	if !cluster {
		return rig
	}
	if err := rig.admin.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	for range 2400 { // a master waits a little before it serves
		if strings.Contains(rig.admin.ClusterInfo(t.Context()).Val(), "cluster_state:ok") {
			return rig
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("the cluster does not serve")
	return nil
}

// as gives these rules to a user and returns a store that logs in as it. There
// is no replica, so that WAIT is sent and never satisfied.
func (rig *aclRig) as(rules []string) *redisstore.Store {
	rig.Helper()
	args := []any{"acl", "setuser", "tried", "reset"}
	for _, rule := range rules {
		args = append(args, rule)
	}
	if err := rig.admin.Do(rig.Context(), args...).Err(); err != nil {
		rig.Fatal(err)
	}
	options := patient
	options.Addrs, options.Username, options.Password, options.IsClusterMode = []string{rig.server.Addr}, "tried", "pw", rig.cluster
	options.MaxRetries = -1
	client := connect(rig, redisstore.ClientConfig{UniversalOptions: options})
	rig.counters, rig.client = redisstore.NewCounters(client), client
	return redisstore.New(client, redisstore.Config{WaitReplicas: 1, WaitTimeout: time.Millisecond})
}

// create makes a session with the administrator's rights.
func (rig *aclRig) create() sessions.ID {
	rig.Helper()
	id, _, err := newManager(rig, rig.admin, sessions.Config{}).Create(rig.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		rig.Fatal(err)
	}
	return id
}

// unless forgives one error.
func unless(err, forgiven error) error {
	if errors.Is(err, forgiven) {
		return nil
	}
	return err
}

// check does what the authorization side does, and returns what it was denied.
func (rig *aclRig) check(store *redisstore.Store) error {
	rig.Helper()
	m, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		rig.Fatal(err)
	}
	warnings, diagnosed := store.Diagnose(rig.Context())
	if len(warnings) > 0 {
		diagnosed = errors.New(warnings[0])
	}
	ended := store.Expire(rig.Context(), sessions.NewID().Key(), time.Now())
	_, touched := m.Touch(rig.Context(), rig.create())
	_, unknown := m.Touch(rig.Context(), sessions.NewID())
	_, state := redisstore.NewState(rig.client).Read(rig.Context(), redisstore.StateSettings)
	_, epochs := redisstore.NewState(rig.client).Epochs(rig.Context())
	return errors.Join(diagnosed, ended, touched, state, epochs, unless(unknown, sessions.ErrNotFound), m.SyncClock(rig.Context()))
}

// keep makes sessions and ends them, as login and the session manager do. What
// is tidiness, and no error when it is denied, is looked at.
func (rig *aclRig) keep(store *redisstore.Store) error {
	rig.Helper()
	const index = "user-sessions:42"
	m := newManager(rig, rig.client, sessions.Config{}) // which waits for no replica
	ctx, id := rig.Context(), rig.create()
	_, waited := store.Delete(ctx, "", rig.create().Key())
	_, _, created := m.Create(ctx, sessions.NewSession{UserID: "42"})
	_, _, began := m.Create(ctx, sessions.NewSession{UserID: "42", Began: time.Now()})
	_, found := m.Lookup(ctx, id.Key())
	_, _, listed := m.List(ctx, "42")
	_, others := m.RevokeOthers(ctx, id.Key())
	revoked := m.Revoke(ctx, id.Key())
	var tidied error
	if rig.admin.ZScore(ctx, index, id.Key().Hash()).Err() == nil {
		tidied = errors.New("what was revoked is still listed")
	}
	var many []redis.Z
	for range 1000 {
		many = append(many, redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: sessions.NewID().Key().Hash()})
	}
	many[0].Score = 1 // due, and without a record
	rig.admin.ZAdd(ctx, index, many...)
	_, all := m.RevokeUser(ctx, "42")
	if rig.admin.ZScore(ctx, index, many[0].Member.(string)).Err() == nil {
		tidied = errors.New("what was long over is still listed")
	}
	rig.admin.Del(ctx, index)
	return errors.Join(unless(waited, redisstore.ErrNotReplicated), created, began, found, listed, tidied, others, revoked, all)
}

// login does what the login side does, which may check, too.
func (rig *aclRig) login(store *redisstore.Store) error {
	rig.Helper()
	ctx := rig.Context()
	c := throttle.Counter{Key: "throttle:{login}:a", Unless: "throttle:{login}:b", Free: 1, First: time.Second, Longest: time.Minute}
	_, counted := rig.counters.Count(ctx, c)
	throttled := errors.Join(counted, rig.counters.Return(ctx, c), rig.counters.Mark(ctx, c.Unless, time.Minute), rig.counters.Clear(ctx, c.Key))
	missing, tried := store.LoginRights(ctx, true)
	if len(missing) > 0 {
		tried = fmt.Errorf("missing are %v", missing)
	}
	return errors.Join(rig.check(store), rig.keep(store), throttled, rig.accounts(), rig.state(), tried)
}

// manage does what the session commands do.
func (rig *aclRig) manage(store *redisstore.Store) error {
	rig.Helper()
	m, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		rig.Fatal(err)
	}
	ctx, id := rig.Context(), rig.create()
	synced := m.SyncClock(ctx)
	_, inspected := m.Inspect(ctx, id.Key())
	added := m.Add(ctx, id.Key(), map[string]string{"cart": "3"})
	_, resolved := m.Resolve(ctx, id.Key().Handle(), "")
	_, verified := m.Verify(ctx, id.Key())
	_, counted := store.Keys(ctx)
	var scanned error
	for _, err := range m.Scan(ctx, nil) {
		scanned = errors.Join(scanned, err)
	}
	return errors.Join(synced, inspected, added, resolved, verified, counted, scanned, rig.keep(store), rig.accounts(), rig.state())
}

// state leaves what checks should know.
func (rig *aclRig) state() error {
	rig.Helper()
	state := redisstore.NewState(rig.client)
	written := state.Write(rig.Context(), redisstore.StateSettings, "{}")
	text, err := state.Read(rig.Context(), redisstore.StateSettings)
	if written == nil && err == nil && text != "{}" {
		err = fmt.Errorf("the state is %q", text)
	}
	return errors.Join(written, err, state.BeginEpoch(rig.Context()))
}

// accounts asks what was last seen of an account of the users file, as at a reload
// and by hand.
func (rig *aclRig) accounts() error {
	rig.Helper()
	return unless(rig.client.ZScore(rig.Context(), "login-accounts", "42").Err(), redis.Nil)
}

// works are what each of the users does.
func (rig *aclRig) works() map[string]func(*redisstore.Store) error {
	return map[string]func(*redisstore.Store) error{checkUser: rig.check, loginUser: rig.login, manageUser: rig.manage}
}

// TestRights applies the document's ACL lines: each user can do its work.
// Without any one of the rights it cannot, so that none is there for nothing.
func TestRights(t *testing.T) {
	t.Parallel()
	rig := newACLRig(t, false)
	for user, work := range rig.works() {
		rules := aclRules(t, user)
		if err := work(rig.as(rules)); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		for i, rule := range rules {
			if !strings.ContainsAny(rule[:1], "+~%") {
				continue
			}
			if err := work(rig.as(slices.Delete(slices.Clone(rules), i, i+1))); err == nil {
				t.Errorf("%s does not need %s", user, rule)
			}
		}
	}
}

// TestRightsOnCluster: the document's lines and what it adds to them.
func TestRightsOnCluster(t *testing.T) {
	t.Parallel()
	const more = "+cluster|slots" // +asking is for slots that move
	if !strings.Contains(document(t), "`"+more+" +asking`") {
		t.Errorf("the document does not add %s", more)
	}
	rig := newACLRig(t, true)
	for user, work := range rig.works() {
		rules := aclRules(t, user)
		if err := work(rig.as(append(slices.Clone(rules), more))); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		if err := work(rig.as(rules)); err == nil {
			t.Errorf("%s does not need %s", user, more)
		}
	}
}

// TestLoginCannotLook: the side that the internet talks to learns of no session
// whose user or key it has not been told, and of no field that it cannot name.
func TestLoginCannotLook(t *testing.T) {
	rig := newACLRig(t, false)
	store := rig.as(aclRules(t, loginUser))
	m, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id := rig.create()
	for what, do := range map[string]func() error{
		"resolve": func() error { _, err := m.Resolve(t.Context(), id.Key().Handle(), ""); return err },
		"inspect": func() error { _, err := m.Inspect(t.Context(), id.Key()); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%s: %v, want NOPERM", what, err)
		}
	}
	options := patient
	options.Addrs, options.Username, options.Password = []string{rig.server.Addr}, "tried", "pw"
	client := connect(t, redisstore.ClientConfig{UniversalOptions: options})
	for _, command := range []string{
		"scan 0", "keys *", "randomkey", "hgetall session:a", "hvals session:a", "hkeys session:a", "hscan session:a 0", "dump session:a",
		"hdel session:a roles", "persist session:a", "rename session:a session:b", "flushall", "config get *", "acl list", "monitor",
		"set other 1", "get throttle:{login}:a", "client list", "psubscribe *",
	} {
		if err := client.Do(t.Context(), words(command)...).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%s: %v, want NOPERM", command, err)
		}
	}
}

// words are a command's.
func words(command string) []any {
	var all []any
	for word := range strings.FieldsSeq(command) {
		all = append(all, word)
	}
	return all
}

// TestServiceRights: what the document gives services reads, and makes no session
// and changes none; what it warns of is so, since an ACL knows no fields.
func TestServiceRights(t *testing.T) {
	rig := newACLRig(t, false)
	const rights = "~session:* +hmget"
	if !strings.Contains(document(t), "`"+rights+"`") {
		t.Fatalf("the document does not give services %s", rights)
	}
	as := func(more ...string) redis.UniversalClient {
		rig.as(append(append([]string{"on", ">pw"}, strings.Fields(rights)...), more...))
		options := patient
		options.Addrs, options.Username, options.Password = []string{rig.server.Addr}, "tried", "pw"
		return connect(t, redisstore.ClientConfig{UniversalOptions: options})
	}
	key := string(rig.create().Key())
	if got, err := as().HMGet(t.Context(), key, "user_id").Result(); err != nil || got[0] != "42" {
		t.Errorf("reading: %v, %v", got, err)
	}
	for _, command := range []string{"hset " + key + " roles []", "hsetnx " + key + " a b", "del " + key, "pexpireat " + key + " 1", "hgetall " + key, "hmget user-sessions:42 a"} {
		if err := as().Do(t.Context(), words(command)...).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%s: %v, want NOPERM", command, err)
		}
	}
	if err := as("+hset").HSet(t.Context(), key, "user_id", "root", "roles", `["admin"]`).Err(); err != nil {
		t.Errorf("the document warns of HSET in vain: %v", err)
	}
}

// TestCheckCannotWrite: an attacker on the authorization side makes no
// session, changes none and learns of none.
func TestCheckCannotWrite(t *testing.T) {
	rig := newACLRig(t, false)
	store := rig.as(aclRules(t, checkUser))
	m, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id := rig.create()
	state := redisstore.NewState(rig.client)
	for what, do := range map[string]func() error{
		"epoch":  func() error { return state.BeginEpoch(t.Context()) },
		"state":  func() error { return state.Write(t.Context(), redisstore.StateSettings, "{}") },
		"create": func() error { _, _, err := m.Create(t.Context(), sessions.NewSession{UserID: "1"}); return err },
		"add":    func() error { return store.Add(t.Context(), id.Key(), map[string]string{"a": "1"}) },
		"delete": func() error { _, err := store.Delete(t.Context(), "42", id.Key()); return err },
		"list":   func() error { _, _, err := m.List(t.Context(), "42"); return err },
		"count": func() error {
			_, err := rig.counters.Count(t.Context(), throttle.Counter{Key: "throttle:{login}:a", Free: 1, First: time.Second, Longest: time.Minute})
			return err
		},
		"resolve": func() error { _, err := m.Resolve(t.Context(), id.Key().Handle(), ""); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%s: %v, want NOPERM", what, err)
		}
	}
	if _, err := m.Touch(t.Context(), id); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
