package redisstore_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestLoginRights: of the document's line for login each right is missed by its name,
// and no other; with all of them none is.
func TestLoginRights(t *testing.T) {
	t.Parallel()
	for _, cluster := range []bool{false, true} {
		rig := newACLRig(t, cluster)
		rules := aclRules(t, loginUser)
		if cluster {
			rules = append(rules, "+cluster|slots")
		}
		if missing, err := rig.as(rules).LoginRights(t.Context(), true); len(missing) > 0 || err != nil {
			t.Errorf("with all rights: %v, %v", missing, err)
		}
		for i, rule := range rules {
			if !strings.ContainsAny(rule[:1], "+~") || slices.Contains([]string{"+info", "+cluster|slots", "~coatcheck:state*"}, rule) {
				continue // Diagnose tells the first, go-redis the second; the third is no need
			}
			missing, err := rig.as(slices.Delete(slices.Clone(rules), i, i+1)).LoginRights(t.Context(), true)
			if !slices.Equal(missing, []string{rule}) || err != nil {
				t.Errorf("Cluster %v, without %s: %v, %v", cluster, rule, missing, err)
			}
		}
	}
}

// TestRightsOfServices: of the document's line for the session API each right is missed by its
// name where a use needs it, and with the line none is; the user of checks may read and touch.
func TestRightsOfServices(t *testing.T) {
	t.Parallel()
	all := redisstore.ServiceUses{Touch: true, Add: true, Revoke: true, List: true}
	for _, cluster := range []bool{false, true} {
		rig := newACLRig(t, cluster)
		rules := aclRules(t, "coatcheck-api")
		if cluster {
			rules = append(rules, "+cluster|slots")
		}
		if missing, err := rig.as(rules).ServiceRights(t.Context(), all); len(missing) > 0 || err != nil {
			t.Errorf("with all rights: %v, %v", missing, err)
		}
		for i, rule := range rules {
			if !strings.ContainsAny(rule[:1], "+~") || slices.Contains([]string{"+info", "+cluster|slots"}, rule) {
				continue // Diagnose tells the first, go-redis the second
			}
			missing, err := rig.as(slices.Delete(slices.Clone(rules), i, i+1)).ServiceRights(t.Context(), all)
			if !slices.Equal(missing, []string{rule}) || err != nil {
				t.Errorf("Cluster %v, without %s: %v, %v", cluster, rule, missing, err)
			}
		}
		if cluster {
			continue
		}
		checks := rig.as(aclRules(t, checkUser))
		for uses, want := range map[redisstore.ServiceUses]string{
			{}: "", {Touch: true}: "", {Add: true}: "+hset +exists +eval +hexists",
			{List: true}: "+eval +zadd +zcard +zrem +zrange +zrangebyscore +zscore ~user-sessions:*",
		} {
			if missing, err := checks.ServiceRights(t.Context(), uses); strings.Join(missing, " ") != want || err != nil {
				t.Errorf("%+v as checks: %v, %v; want %s", uses, missing, err, want)
			}
		}
	}
}

// TestLoginRightsOfChecks: a login that was given the user of checks hears all that it
// lacks.
func TestLoginRightsOfChecks(t *testing.T) {
	rig := newACLRig(t, false)
	missing, err := rig.as(aclRules(t, checkUser)).LoginRights(t.Context(), true)
	want := "+hset +exists +del +eval +zadd +zcard +zrem +zrange +zrangebyscore +zscan +zscore " +
		"~user-sessions:* ~user-ended:* ~throttle:* ~login-accounts* +exec +wait +multi"
	if strings.Join(missing, " ") != want || err != nil {
		t.Errorf("%v, %v; want %s", missing, err, want)
	}
	rules := slices.DeleteFunc(aclRules(t, loginUser), func(rule string) bool { return rule == "~login-accounts*" })
	if missing, err := rig.as(rules).LoginRights(t.Context(), false); len(missing) > 0 || err != nil {
		t.Errorf("without a users file: %v, %v", missing, err)
	}
	// With it entries of the listing are looked at, of every login.
	rules = slices.DeleteFunc(rules, func(rule string) bool { return rule == "+zscore" })
	if missing, err := rig.as(rules).LoginRights(t.Context(), false); !slices.Equal(missing, []string{"+zscore"}) || err != nil {
		t.Errorf("without +zscore: %v, %v", missing, err)
	}
}

// TestLoginRightsChangeNothing: the trials read, write and end nothing, also where a user
// has the name that they use.
func TestLoginRightsChangeNothing(t *testing.T) {
	rig := newACLRig(t, false)
	store := rig.as(aclRules(t, loginUser))
	m := newManager(t, rig.admin, sessions.Config{})
	for _, user := range []string{"probe", "v", "0"} {
		if _, _, err := m.Create(t.Context(), sessions.NewSession{UserID: user}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.RevokeUser(t.Context(), user+"2"); err != nil { // leaves a mark
			t.Fatal(err)
		}
		if err := redisstore.NewAccounts(rig.admin).Claim(t.Context(), 7); err != nil {
			t.Fatal(err)
		}
		if err := rig.admin.ZAdd(t.Context(), "login-accounts", redis.Z{Score: 5, Member: user}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	before := contents(t, rig.admin)
	if missing, err := store.LoginRights(t.Context(), true); len(missing) > 0 || err != nil {
		t.Fatal(missing, err)
	}
	if after := contents(t, rig.admin); !maps.Equal(before, after) || len(before) < 7 {
		t.Errorf("before\n%v\nafter\n%v", before, after)
	}
}

// contents are all keys with their values and ends.
func contents(t *testing.T, client *redis.Client) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, key := range client.Keys(t.Context(), "*").Val() {
		all[key] = client.Dump(t.Context(), key).Val() + client.Do(t.Context(), "pexpiretime", key).String()
	}
	return all
}

// TestLoginRightsUnknown: a Redis that does not answer lacks no right.
func TestLoginRightsUnknown(t *testing.T) {
	rig := newACLRig(t, false)
	store := rig.as(aclRules(t, checkUser))
	rig.server.Kill()
	if missing, err := store.LoginRights(t.Context(), true); err == nil || len(missing) > 0 || redisstore.Forbidden(err) {
		t.Errorf("%v, %v", missing, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if missing, err := store.LoginRights(ctx, true); err == nil || len(missing) > 0 {
		t.Errorf("%v, %v", missing, err)
	}
}

// TestLoginRightsRefused: where Redis refuses the connection nothing is known of rights.
func TestLoginRightsRefused(t *testing.T) {
	config := redisstore.At(redistest.Start(t).Addr)
	config.Password = "another"
	client, err := redisstore.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if missing, err := redisstore.New(client, redisstore.Config{}).LoginRights(t.Context(), true); !redisstore.Refused(err) {
		t.Errorf("%v, %v", missing, err)
	}
}
