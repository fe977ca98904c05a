package clients_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// story is all that a client does, and reports whether Redis let it. It needs each right.
func story(t *testing.T, c *client, user string) (fine bool) {
	t.Helper()
	well := func(a answer) bool { return a.Error == "" }
	mark := c.do(t, call{Do: "begin", UserID: user})
	made := c.do(t, call{Do: "create", UserID: user, Mark: mark.Mark})
	if !well(mark) || !well(made) {
		return false
	}
	id, err := sessions.ParseID(made.ID)
	if err != nil {
		t.Fatal(err)
	}
	key := string(id.Key())
	for _, it := range []call{
		{Do: "touch", ID: made.ID}, {Do: "get", Key: key}, {Do: "add", Key: key, Fields: map[string]string{"a": "b"}}, {Do: "revoke", Key: key},
	} {
		if a := c.do(t, it); !well(a) || it.Do == "touch" && a.Session == nil {
			return false
		}
	}
	// A session that is not taken off the list stays there.
	return at.redis.ZScore(t.Context(), "user-sessions:"+user, id.Key().Hash()).Err() != nil
}

// seldom are rights of which the story has no need: it makes no session beyond
// session.max_per_user, and it does not last until an ended one is forgotten.
var seldom = map[string]bool{"go-login +zrange": true, "go-login +zscore": true}

// TestRights: a client's Redis user has every right that it needs, and no other.
func TestRights(t *testing.T) {
	for _, c := range at.clients {
		t.Run(c.language, func(t *testing.T) {
			if !story(t, c, "rights-"+c.language) {
				t.Fatalf("the page's rights are not enough: %s", c.said.String())
			}
			for _, user := range []string{c.login, c.reader} {
				given, err := rules(user)
				if err != nil {
					t.Fatal(err)
				}
				for _, rule := range given {
					if seldom[user+" "+rule] {
						continue
					}
					if err := at.permit(user, rule, ""); err != nil {
						t.Fatal(err)
					}
					if story(t, c, "rights-"+c.language) {
						t.Errorf("%s needs no %s", user, rule)
					}
				}
				if err := at.permit(user, "", ""); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestRefusedOutside: what lies outside of the rights is refused.
func TestRefusedOutside(t *testing.T) {
	_, key := at.make(t, sessions.NewSession{UserID: "42"})
	outside := []string{
		"KEYS *", "SCAN 0", "HGETALL " + string(key), "FLUSHALL", "CONFIG GET *", "ACL LIST", "MONITOR", "INFO", "HDEL " + string(key) + " v", "SET session:x y",
		"HSET other v 1", "HMGET coatcheck:state x", "DEL user-ended:42", "HSET user-ended:42 mark x", "ZSCAN user-sessions:42 0", "PERSIST " + string(key),
		"HMGET throttle:x a", "RENAME " + string(key) + " session:y", "DUMP " + string(key), "SCRIPT FLUSH", "PUBLISH a b",
	}
	reading := []string{"HSET " + string(key) + " roles x", "DEL " + string(key), "PEXPIREAT " + string(key) + " 1", "ZADD user-sessions:42 1 x", "HMGET user-ended:42 mark", "EVAL return 0", "MULTI"}
	for _, user := range []string{"login", "reader", "go-login"} {
		client := redis.NewClient(&redis.Options{Addr: at.Redis.Addr, Username: user, Password: password, DisableIdentity: true})
		commands := slices.Clone(outside)
		if strings.HasSuffix(user, "reader") {
			commands = append(commands, reading...)
		}
		for _, command := range commands {
			err := client.Do(t.Context(), arguments(command)...).Err()
			if err == nil || !strings.Contains(err.Error(), "NOPERM") {
				t.Errorf("%s: %s: %v", user, command, err)
			}
		}
		if got, err := client.HMGet(t.Context(), string(key), "user_id").Result(); err != nil || got[0] != "42" {
			t.Errorf("%s: %v, %v", user, got, err)
		}
		_ = client.Close()
	}
}

func arguments(command string) []any {
	var all []any
	for _, part := range strings.Fields(command) {
		all = append(all, part)
	}
	return all
}

// TestAway: a Redis that does not answer is an error, in time, and never the answer that
// there is no session.
func TestAway(t *testing.T) {
	for _, c := range at.clients {
		t.Run(c.language, func(t *testing.T) {
			id, key := at.make(t, sessions.NewSession{UserID: "42"})
			c.must(t, call{Do: "touch", ID: id})
			if err := at.Redis.Pause(); err != nil {
				t.Fatal(err)
			}
			resume := context.AfterFunc(t.Context(), func() { _ = at.Redis.Resume() })
			start := time.Now()
			for _, it := range []call{{Do: "touch", ID: id}, {Do: "get", Key: string(key)}} {
				if a := c.do(t, it); a.Error != "unknown" {
					t.Errorf("%s: %q %s", it.Do, a.Error, asJSON(a.Session))
				}
			}
			took := time.Since(start)
			resume()
			if err := at.Redis.Resume(); err != nil {
				t.Fatal(err)
			}
			if took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
			if err := before(20*time.Second, func() bool { return c.do(t, call{Do: "touch", ID: id}).Session != nil }); err != nil {
				t.Error("it does not find back to Redis")
			}
		})
	}
}
