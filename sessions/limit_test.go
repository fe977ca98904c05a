package sessions_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

// live is how many of the sessions a check finds.
func live(t *testing.T, m *sessions.Manager, ids ...sessions.ID) (n int) {
	t.Helper()
	for _, id := range ids {
		if _, err := m.Touch(t.Context(), id); err == nil {
			n++
		}
	}
	return n
}

// TestMaxPerUser: a login beyond the number ends the oldest, and says so in the log.
func TestMaxPerUser(t *testing.T) {
	store, redis := newStore(t)
	var log bytes.Buffer
	m := newManager(t, store, sessions.Config{MaxPerUser: 3, Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	other, _ := create(t, m, sessions.NewSession{UserID: "43"})
	var ids []sessions.ID
	for range 5 {
		id, _ := create(t, m, ada)
		ids = append(ids, id)
		time.Sleep(2 * time.Millisecond) // times of creation are in milliseconds
	}
	if live(t, m, ids[:2]...) != 0 || live(t, m, ids[2:]...) != 3 || live(t, m, other) != 1 {
		t.Error("the oldest are not those that ended")
	}
	if n := redis.ZCard(t.Context(), "user-sessions:42").Val(); n != 3 {
		t.Errorf("%d are listed, want 3", n)
	}
	var line map[string]any
	if err := json.Unmarshal([]byte(strings.SplitAfter(log.String(), "\n")[0]), &line); err != nil {
		t.Fatal(err)
	}
	if strings.Count(log.String(), "\n") != 2 || line["session"] != ids[0].Key().Handle() || line["user_id"] != "42" || line["why"] != "max_per_user" {
		t.Errorf("the log says %s", log.String())
	}
	// What only stands in the list does not count.
	redis.Del(t.Context(), string(ids[3].Key()), string(ids[4].Key()))
	create(t, m, ada)
	create(t, m, ada)
	if live(t, m, ids[2]) != 1 {
		t.Error("a live session ended beside two that were over")
	}

	for name, config := range map[string]sessions.Config{"any number": {MaxPerUser: -1}, "the default": {}} {
		m, user := newManager(t, store, config), name
		for range 55 {
			create(t, m, sessions.NewSession{UserID: user})
		}
		want := map[string]int{"any number": 55, "the default": 50}[name]
		if list, _, err := m.List(t.Context(), user); err != nil || len(list) != want {
			t.Errorf("%s: %d sessions, %v; want %d", name, len(list), err, want)
		}
	}
}

// TestMaxPerUserByRecipe: a session of another program, whose record need not tell when
// it was made, is as old as its end tells.
func TestMaxPerUserByRecipe(t *testing.T) {
	store, redis := newStore(t)
	m := newManager(t, store, sessions.Config{MaxPerUser: 2})
	oldest, _ := create(t, m, ada)
	time.Sleep(20 * time.Millisecond)
	id, key := create(t, m, ada)
	redis.HDel(t.Context(), string(key), "created_at")
	time.Sleep(20 * time.Millisecond)
	create(t, m, ada)
	if live(t, m, oldest) != 0 || live(t, m, id) != 1 {
		t.Error("not the oldest session has ended")
	}
}

// TestMaxPerUserInParallel: logins at once may pass the number by theirs, and do not
// end one another all.
func TestMaxPerUserInParallel(t *testing.T) {
	store, _ := newStore(t)
	for _, limit := range []int{1, 5} {
		m := newManager(t, store, sessions.Config{MaxPerUser: limit})
		for round := range 20 {
			user := fmt.Sprint(limit, " ", round)
			ids := make([]sessions.ID, 8)
			var running sync.WaitGroup
			for i := range ids {
				running.Go(func() {
					var err error
					if ids[i], _, err = m.Create(t.Context(), sessions.NewSession{UserID: user}); err != nil {
						t.Error(err)
					}
				})
			}
			running.Wait()
			if n := live(t, m, ids...); n < limit || n > limit+len(ids) {
				t.Fatalf("%d live, want %d or some more", n, limit)
			}
			create(t, m, sessions.NewSession{UserID: user})
			if n := live(t, m, ids...); n > limit-1 {
				t.Fatalf("%d live beside a new one, want %d at most", n, limit-1)
			}
		}
	}
}

// TestManySessions: what a user has does not hang a login or a list, however many
// there are: entries for nothing, or records.
func TestManySessions(t *testing.T) {
	store, client := newStore(t)
	many := 20_000
	if os.Getenv("COATCHECK_FULL") != "" {
		many = 300_000
	}
	end := time.Now().Add(time.Hour)
	for from := 0; from < many; from += 1000 {
		p := client.Pipeline()
		for range 1000 {
			key := sessions.NewID().Key()
			p.ZAdd(t.Context(), "user-sessions:42", redis.Z{Score: float64(end.UnixMilli()), Member: key.Hash()})
			p.ZAdd(t.Context(), "user-sessions:43", redis.Z{Score: float64(end.UnixMilli()), Member: key.Hash()})
			p.HSet(t.Context(), string(key), "v", "1", "user_id", "43", "expires_at", end.UTC().Format(time.RFC3339))
			p.PExpireAt(t.Context(), string(key), end)
		}
		if _, err := p.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	m := newManager(t, store, sessions.Config{})
	for _, user := range []string{"42", "43"} {
		start := time.Now()
		id, _ := create(t, m, sessions.NewSession{UserID: user})
		t.Logf("a login beside %d took %v", many, time.Since(start))
		if since := time.Since(start); since > time.Minute {
			t.Errorf("a login took %v", since)
		}
		start = time.Now()
		list, more, err := m.List(t.Context(), user)
		t.Logf("a list took %v", time.Since(start))
		if err != nil || more == 0 || len(list) > sessions.MaxListed || user == "43" && len(list) != sessions.MaxListed {
			t.Errorf("%d are listed, %d more, %v", len(list), more, err)
		}
		if live(t, m, id) != 1 {
			t.Error("the new session does not live")
		}
	}
	start := time.Now()
	if n, err := m.RevokeUser(t.Context(), "43"); err != nil || n < many-sessions.MaxListed-200 {
		t.Errorf("%d were revoked of about %d, %v", n, many, err)
	}
	t.Logf("a revocation of all took %v", time.Since(start))
}
