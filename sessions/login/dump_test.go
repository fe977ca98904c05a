package login_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
)

// dump is every key of Redis with its value, as text and as Redis serialises it.
func (r *rig) dump() string {
	r.Helper()
	var all strings.Builder
	keys := r.admin.Keys(r.Context(), "*").Val()
	for _, key := range keys {
		fmt.Fprintln(&all, key)
		switch kind := r.admin.Type(r.Context(), key).Val(); kind {
		case "hash":
			fmt.Fprintln(&all, r.admin.HGetAll(r.Context(), key).Val())
		case "zset":
			fmt.Fprintln(&all, r.admin.ZRange(r.Context(), key, 0, -1).Val())
		default:
			r.Errorf("%s is a %s", key, kind)
		}
		fmt.Fprintln(&all, r.admin.Dump(r.Context(), key).Val())
		if ttl := r.admin.PTTL(r.Context(), key).Val(); ttl <= 0 {
			r.Errorf("%s has the TTL %v", key, ttl)
		}
	}
	r.Logf("%d keys, %d bytes", len(keys), all.Len())
	return all.String()
}

// TestDump: after 200 logins (1,000 with COATCHECK_FULL=1), and some that failed, Redis holds no session ID,
// no password, nothing typed into the wrong field, and no key that stays.
func TestDump(t *testing.T) {
	r := newRig(t)
	logins := atLength(200, 1000)
	for i := range logins {
		name := fmt.Sprint("user", i)
		r.users.users[name] = login.User{ID: fmt.Sprint(i), Username: name}
	}
	ids := make([]sessions.ID, logins)
	var wg sync.WaitGroup
	for worker := range 10 {
		wg.Go(func() {
			for i := worker; i < logins; i += 10 {
				name, from := fmt.Sprint("user", i), fmt.Sprintf("10.%d.%d.1", i/250, i%250)
				for _, attempt := range [][2]string{{name, "canary-wrong"}, {"canary-typed as a name", "x"}, {name, "canary-" + name + "'s password"}} {
					a, err := r.try(t.Context(), "login", request{form: credentials(attempt[0], attempt[1]), from: from})
					if err != nil || a.StatusCode >= 500 {
						t.Error(err, a.Response)
						return
					}
					if a.StatusCode == http.StatusSeeOther {
						ids[i] = r.cookie(a)
					}
				}
			}
		})
	}
	wg.Wait()
	text := r.dump() + r.log.String()
	for i, id := range ids {
		if id == (sessions.ID{}) || !strings.Contains(text, id.Key().Hash()) {
			t.Fatalf("login %d made no session", i)
		}
		if strings.Contains(text, id.Reveal()) {
			t.Errorf("Redis or the log holds the ID of login %d", i)
		}
	}
	if i := strings.Index(text, "canary"); i >= 0 {
		t.Errorf("Redis or the log holds a password: %q", text[max(0, i-80):i+40])
	}
}

// TestSecrets: no ID, no password and no name as typed in logs, metrics and
// answers, after each fault.
func TestSecrets(t *testing.T) {
	r, f := newFickle(t)
	id := r.signIn("ada", "")
	f.failing = map[string]int{"revoke presented": 1, "revoke new": 1}
	answers := []answer{
		r.send("login", request{form: credentials("ada", adaPassword), id: id}),
		r.send("login", request{json: `{"username":"canary-typed","password":"canary-x`}),
		r.send("login", request{json: `{"canary-member":1}`}),
		r.send("login", request{json: map[string]string{"username": "canary-typed", "password": "canary-x"}}),
		r.send("logout", request{form: map[string][]string{}, id: sessions.NewID()}),
		r.send("session", request{id: id}),
		r.send("sessions", request{id: id}),
	}
	r.redis.Kill()
	answers = append(answers, r.send("login", request{form: credentials("ada", adaPassword), id: id}), r.send("sessions", request{id: id}))
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text := r.log.String() + fmt.Sprint(families)
	for _, a := range answers {
		text += a.body + fmt.Sprint(a.Header)
	}
	for _, secret := range []string{"canary", id.Reveal()} {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("a secret is out: %q", text[max(0, i-200):i+60])
		}
	}
	if !strings.Contains(text, id.Key().Handle()) {
		t.Error("the handle is nowhere: is this the right log?")
	}
}
