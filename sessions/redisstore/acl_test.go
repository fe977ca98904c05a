package redisstore_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// The users of the document's ACL lines.
const (
	checkUser  = "coatcheck-check"
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
	// counters have the rights of the store that as returned last.
	counters *redisstore.Counters
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
	for range 400 { // a master waits a little before it serves
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
	rig.counters = redisstore.NewCounters(client)
	return redisstore.New(client, redisstore.Config{WaitReplicas: 1, WaitTimeout: time.Millisecond})
}

// create makes a session with the administrator's rights.
func (rig *aclRig) create() sessions.ID {
	rig.Helper()
	id, _, err := newManager(rig, rig.admin, sessions.Config{}).Create(rig.Context(), sessions.New{UserID: "42"})
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
	return errors.Join(diagnosed, ended, touched, unless(unknown, sessions.ErrNotFound), m.SyncClock(rig.Context()))
}

// manage does what login and the session manager do.
func (rig *aclRig) manage(store *redisstore.Store) error {
	rig.Helper()
	m, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		rig.Fatal(err)
	}
	ctx, id := rig.Context(), rig.create()
	_, _, created := m.Create(ctx, sessions.New{UserID: "42"})
	_, inspected := m.Inspect(ctx, id.Key())
	added := m.Add(ctx, id.Key(), map[string]string{"cart": "3"})
	_, _, listed := m.List(ctx, "42")
	_, resolved := m.Resolve(ctx, id.Key().Handle(), "")
	revoked := m.Revoke(ctx, id.Key())
	// A listing that is not tidied is no error of Revoke, so it is looked at.
	var tidied error
	if rig.admin.ZScore(ctx, "user-sessions:42", id.Key().Hash()).Err() == nil {
		tidied = errors.New("what was revoked is still listed")
	}
	_, all := m.RevokeUser(ctx, "42")
	c := redisstore.Counter{Key: "throttle:{login}:a", Unless: "throttle:{login}:b", Free: 1, First: time.Second, Longest: time.Minute}
	_, counted := rig.counters.Count(ctx, c)
	throttled := errors.Join(counted, rig.counters.Return(ctx, c), rig.counters.Mark(ctx, c.Unless, time.Minute), rig.counters.Clear(ctx, c.Key))
	return errors.Join(rig.check(store), created, inspected, added, listed, resolved, tidied, throttled,
		unless(revoked, redisstore.ErrNotReplicated), unless(all, redisstore.ErrNotReplicated))
}

// TestRights applies the document's ACL lines: each side can do its work.
// Without any one of the rights it cannot, so that none is there for nothing.
func TestRights(t *testing.T) {
	rig := newACLRig(t, false)
	for user, work := range map[string]func(*redisstore.Store) error{checkUser: rig.check, manageUser: rig.manage} {
		rules := aclRules(t, user)
		if err := work(rig.as(rules)); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		for i, rule := range rules {
			if !strings.HasPrefix(rule, "+") && !strings.HasPrefix(rule, "~") {
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
	const more = "+cluster|slots"
	if !strings.Contains(document(t), "`"+more) {
		t.Errorf("the document does not add %s", more)
	}
	rig := newACLRig(t, true)
	for user, work := range map[string]func(*redisstore.Store) error{checkUser: rig.check, manageUser: rig.manage} {
		rules := aclRules(t, user)
		if err := work(rig.as(append(slices.Clone(rules), more))); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		if err := work(rig.as(rules)); err == nil {
			t.Errorf("%s does not need %s", user, more)
		}
	}
}

// TestCheckCannotWrite: whoever takes over the authorization side makes no
// session, changes none and learns of none.
func TestCheckCannotWrite(t *testing.T) {
	rig := newACLRig(t, false)
	store := rig.as(aclRules(t, checkUser))
	m, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id := rig.create()
	for what, do := range map[string]func() error{
		"create": func() error { _, _, err := m.Create(t.Context(), sessions.New{UserID: "1"}); return err },
		"add":    func() error { return store.Add(t.Context(), id.Key(), map[string]string{"a": "1"}) },
		"delete": func() error { _, err := store.Delete(t.Context(), "42", id.Key()); return err },
		"list":   func() error { _, _, err := m.List(t.Context(), "42"); return err },
		"count": func() error {
			_, err := rig.counters.Count(t.Context(), redisstore.Counter{Key: "throttle:{login}:a", Free: 1, First: time.Second, Longest: time.Minute})
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
