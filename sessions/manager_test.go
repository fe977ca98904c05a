package sessions_test

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

func newStore(t *testing.T) (sessions.Store, *redis.Client) {
	t.Helper()
	client := redistest.Start(t).Client()
	t.Cleanup(func() { _ = client.Close() })
	return redisstore.New(client, redisstore.Config{}), client
}

func newManager(t *testing.T, store sessions.Store, config sessions.Config) *sessions.Manager {
	t.Helper()
	m, err := sessions.NewManager(store, config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func create(t *testing.T, m *sessions.Manager, n sessions.NewSession) (sessions.ID, sessions.Key) {
	t.Helper()
	id, session, err := m.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return id, session.Key
}

func is(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

var ada = sessions.NewSession{UserID: "42", Username: "Ada", Roles: []string{"staff"}}

// TestCreateNamesEveryFault, in one error, and asks no store: here is none.
func TestCreateNamesEveryFault(t *testing.T) {
	m := newManager(t, nil, sessions.Config{})
	_, _, err := m.Create(t.Context(), sessions.NewSession{
		Username: strings.Repeat("secret", 50), Roles: append(make([]string, 257), strings.Repeat("secret", 30), "secret\xff"),
		Address: "secret\xff", UserAgent: strings.Repeat("secret", 200),
		Fields: map[string]string{"roles": "secret", "": "secret", "big": strings.Repeat("secret", 1<<18)},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"user_id is empty", "username is longer", "more than 256 roles", "a role is empty", "a role is longer", "a role is not UTF-8",
		"address is not UTF-8", "user_agent is longer", `"roles": reserved`, `"": a name`, `"big": value is longer`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say that %s: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells a value: %v", err)
	}
	is(t, "reserved", err, sessions.ErrReserved)
}

// TestIdleTimeout: what is used lives on, what is only looked at does not.
func TestIdleTimeout(t *testing.T) {
	store, _ := newStore(t)
	m := newManager(t, store, sessions.Config{IdleTimeout: 2 * time.Second, IdleStep: 100 * time.Millisecond})
	used, looked, err := useOneOfTwo(t, m)
	for range 10 {
		if err == nil {
			break
		}
		used, looked, err = useOneOfTwo(t, m)
	}
	is(t, "used", err, nil)
	_, err = m.Lookup(t.Context(), looked)
	is(t, "looked at", err, sessions.ErrNotFound)
	time.Sleep(3 * time.Second)
	_, err = m.Touch(t.Context(), used)
	is(t, "unused", err, sessions.ErrNotFound)
}

// useOneOfTwo uses a session for four seconds, and looks at another one. It returns an
// error where that was idle on a busy machine.
func useOneOfTwo(t *testing.T, m *sessions.Manager) (used sessions.ID, looked sessions.Key, err error) {
	t.Helper()
	begin := time.Now()
	last := begin
	used, _ = create(t, m, ada)
	_, looked = create(t, m, ada)
	for ; time.Since(begin) < 4*time.Second; time.Sleep(100 * time.Millisecond) {
		now := time.Now()
		if _, err = m.Touch(t.Context(), used); err != nil {
			if time.Since(last) < 1900*time.Millisecond {
				t.Fatalf("used after %v: %v", time.Since(last), err)
			}
			return used, looked, err
		}
		last = now
		if _, err := m.Lookup(t.Context(), looked); time.Since(begin) < 1900*time.Millisecond {
			is(t, "looked at", err, nil)
		}
	}
	return used, looked, nil
}

// TestAbsoluteTimeout: a record past its end is ended by the call that finds it.
func TestAbsoluteTimeout(t *testing.T) {
	store, redis := newStore(t)
	m := newManager(t, store, sessions.Config{})
	id, key := create(t, m, ada)
	redis.HSet(t.Context(), string(key), "expires_at", time.Now().Add(-time.Second).UTC().Format(time.RFC3339)) // whose expiry does not end it
	_, err := m.Lookup(t.Context(), key)
	is(t, "Lookup", err, sessions.ErrExpired)
	is(t, "Add", m.Add(t.Context(), key, map[string]string{"a": "1"}), sessions.ErrExpired)
	_, err = m.Touch(t.Context(), id)
	is(t, "Touch", err, sessions.ErrExpired)
	_, err = m.Touch(t.Context(), id)
	is(t, "Touch again", err, sessions.ErrNotFound)
}

// TestAbsoluteTimeoutInUse: use does not keep a session past its end, and its
// record goes with it.
func TestAbsoluteTimeoutInUse(t *testing.T) {
	store, redis := newStore(t)
	m := newManager(t, store, sessions.Config{IdleTimeout: time.Minute, AbsoluteTimeout: 2 * time.Second})
	var begin time.Time // before the session, so that a slow machine makes it no shorter
	var id sessions.ID
	var key sessions.Key
	err := sessions.ErrNotFound
	for range 10 { // on a busy machine it may be over before it is used
		if !errors.Is(err, sessions.ErrNotFound) {
			break
		}
		begin = time.Now()
		id, key = create(t, m, ada)
		_, err = m.Touch(t.Context(), id)
	}
	for err == nil && time.Since(begin) < time.Minute {
		_, err = m.Touch(t.Context(), id)
		time.Sleep(50 * time.Millisecond)
	}
	is(t, "Touch at last", err, sessions.ErrExpired)
	if lived := time.Since(begin); lived < 1900*time.Millisecond {
		t.Errorf("it lived for %v only", lived)
	}
	if redis.Exists(t.Context(), string(key)).Val() != 0 {
		t.Error("its record is still there")
	}
	if list, _, err := m.List(t.Context(), "42"); err != nil || len(list) != 0 || redis.ZCard(t.Context(), "user-sessions:42").Val() != 0 {
		t.Errorf("it is still listed: %v, %v", list, err)
	}
}

// skewed is a store whose clock is ahead.
type skewed struct {
	sessions.Store
	ahead time.Duration
}

func (s skewed) Now(ctx context.Context) (time.Time, error) {
	now, err := s.Store.Now(ctx)
	return now.Add(s.ahead), err
}

// TestSyncClock: limits go by the store's clock, not by ours.
func TestSyncClock(t *testing.T) {
	store, _ := newStore(t)
	ours := newManager(t, store, sessions.Config{AbsoluteTimeout: 30 * time.Minute})
	_, key := create(t, ours, ada)
	theirs := newManager(t, skewed{store, time.Hour}, sessions.Config{})
	_, err := theirs.Lookup(t.Context(), key)
	is(t, "before", err, nil)
	is(t, "SyncClock", theirs.SyncClock(t.Context()), nil)
	_, err = theirs.Lookup(t.Context(), key)
	is(t, "after", err, sessions.ErrExpired)
	if ahead := time.Until(theirs.Now()); ahead < 59*time.Minute || ahead > 61*time.Minute {
		t.Errorf("the clock is %v ahead, want an hour", ahead)
	}
}

func TestAdd(t *testing.T) {
	store, _ := newStore(t)
	m := newManager(t, store, sessions.Config{})
	_, key := create(t, m, sessions.NewSession{UserID: "42", Fields: map[string]string{"taken": "old"}})
	for _, test := range []struct {
		name   string
		fields map[string]string
		want   error
	}{
		{"a new one", map[string]string{"a": "1", "b": ""}, nil},
		{"one that is there", map[string]string{"c": "1", "taken": "new"}, sessions.ErrFieldExists},
		{"one of the layout", map[string]string{"c": "1", "roles": "[]"}, sessions.ErrReserved},
		{"one that login writes", map[string]string{"user_agent": "x"}, sessions.ErrReserved},
	} {
		is(t, test.name, m.Add(t.Context(), key, test.fields), test.want)
	}
	for name, fields := range map[string]map[string]string{
		"none": nil, "no name": {"": "1"}, "long name": {strings.Repeat("n", 129): "1"},
		"control characters": {"a\n": "1"}, "no UTF-8": {"\xff": "1"}, "long value": {"c": strings.Repeat("x", 1<<20+1)},
	} {
		if err := m.Add(t.Context(), key, fields); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	session, err := m.Inspect(t.Context(), key)
	if err != nil || len(session.Fields) != 3 || session.Fields["taken"] != "old" || session.Fields["a"] != "1" {
		t.Errorf("%+v, %v", session, err)
	}
	is(t, "Revoke", m.Revoke(t.Context(), key), nil)
	is(t, "one that is gone", m.Add(t.Context(), key, map[string]string{"c": "1"}), sessions.ErrNotFound)
}

func TestRevokeAndList(t *testing.T) {
	store, _ := newStore(t)
	m := newManager(t, store, sessions.Config{})
	listed := func(user string, want int) {
		t.Helper()
		if list, _, err := m.List(t.Context(), user); err != nil || len(list) != want {
			t.Errorf("user %s has %d sessions, %v; want %d", user, len(list), err, want)
		}
	}
	_, a := create(t, m, ada)
	b, keyB := create(t, m, ada)
	create(t, m, ada)
	other, _ := create(t, m, sessions.NewSession{UserID: "43"})
	listed("42", 3)

	is(t, "Revoke", m.Revoke(t.Context(), a), nil)
	is(t, "Revoke again", m.Revoke(t.Context(), a), sessions.ErrNotFound)
	listed("42", 2)

	n, err := m.RevokeOthers(t.Context(), keyB)
	if n != 1 || err != nil {
		t.Errorf("others: %d, %v", n, err)
	}
	_, err = m.Touch(t.Context(), b)
	is(t, "the one kept", err, nil)
	_, err = m.RevokeOthers(t.Context(), a)
	is(t, "others of one that is gone", err, sessions.ErrNotFound)
	listed("42", 1)

	if n, err := m.RevokeUser(t.Context(), "42"); n != 1 || err != nil {
		t.Errorf("all: %d, %v", n, err)
	}
	if n, err := m.RevokeUser(t.Context(), "unknown"); n != 0 || err != nil {
		t.Errorf("an unknown user's: %d, %v", n, err)
	}
	_, err = m.Touch(t.Context(), b)
	is(t, "after all", err, sessions.ErrNotFound)
	_, err = m.Touch(t.Context(), other)
	is(t, "another user's", err, nil)
	listed("42", 0)
	listed("43", 1)
}

// TestRevokeBroken: what no check understands can still be ended.
func TestRevokeBroken(t *testing.T) {
	store, redis := newStore(t)
	m := newManager(t, store, sessions.Config{})
	key := sessions.NewID().Key()
	redis.Set(t.Context(), string(key), "x", 0)
	is(t, "Revoke", m.Revoke(t.Context(), key), nil)
	if redis.Exists(t.Context(), string(key)).Val() != 0 {
		t.Error("it is still there")
	}
}

// TestListIsAdvisory: an entry that names nothing, or another user's session,
// is left out.
func TestListIsAdvisory(t *testing.T) {
	store, redis := newStore(t)
	m := newManager(t, store, sessions.Config{})
	_, mine := create(t, m, ada)
	_, theirs := create(t, m, sessions.NewSession{UserID: "43"})
	for _, member := range []string{theirs.Hash(), sessions.NewID().Key().Hash(), "junk"} {
		redis.Do(t.Context(), "ZADD", "user-sessions:42", time.Now().Add(time.Hour).UnixMilli(), member)
	}
	if list, _, err := m.List(t.Context(), "42"); err != nil || len(list) != 1 || list[0].Key != mine {
		t.Errorf("%v, %v", list, err)
	}
}

// TestListLeavesOutTheIdle: an idle session leaves its entry behind.
func TestListLeavesOutTheIdle(t *testing.T) {
	store, redis := newStore(t)
	m := newManager(t, store, sessions.Config{})
	_, idle := create(t, m, ada)
	_, first := create(t, m, ada)
	time.Sleep(5 * time.Millisecond) // times of creation are in milliseconds
	_, second := create(t, m, ada)
	redis.PExpire(t.Context(), string(idle), time.Millisecond)
	for redis.Exists(t.Context(), string(idle)).Val() != 0 {
		time.Sleep(time.Millisecond)
	}
	list, _, err := m.List(t.Context(), "42")
	if err != nil || len(list) != 2 || list[0].Key != second || list[1].Key != first {
		t.Errorf("%v, %v; want the two that live, the newest first", list, err)
	}
	if n := redis.ZCard(t.Context(), "user-sessions:42").Val(); n != 3 {
		t.Errorf("%d entries, want the one of %s, too", n, idle.Handle())
	}
	is(t, "Revoke of the idle", m.Revoke(t.Context(), idle), sessions.ErrNotFound)
	if n, err := m.RevokeUser(t.Context(), "42"); n != 2 || err != nil {
		t.Errorf("all: %d, %v", n, err)
	}
}

// TestListShowsWhatLives, also where another program wrote what ours would not:
// a check does not read it.
func TestListShowsWhatLives(t *testing.T) {
	store, redis := newStore(t)
	m := newManager(t, store, sessions.Config{})
	id, key := create(t, m, ada)
	redis.HSet(t.Context(), string(key), "user_agent", "M\xf6zilla", "created_at", "\xff")
	_, err := m.Touch(t.Context(), id)
	is(t, "Touch", err, nil)
	if list, _, err := m.List(t.Context(), "42"); err != nil || len(list) != 1 || list[0].UserAgent != "M\ufffdzilla" {
		t.Errorf("%v, %v", list, err)
	}
	is(t, "Add", m.Add(t.Context(), key, map[string]string{"a": "1"}), nil)
}

func TestResolve(t *testing.T) {
	store, redis := newStore(t)
	m := newManager(t, store, sessions.Config{})
	_, key := create(t, m, ada)
	_, theirs := create(t, m, sessions.NewSession{UserID: "43"})
	twin := "session:" + key.Hash()[:20] + strings.Repeat("A", 23)
	for _, test := range []struct {
		name, handle, user string
		want               error
	}{
		{"handle", key.Handle(), "", nil},
		{"key", string(key), "", nil},
		{"beginning of the key", string(key[:20]), "", nil},
		{"hash", key.Hash(), "", nil},
		{"among the user's", key.Hash()[:3], "42", nil},
		{"another user's", theirs.Handle(), "42", sessions.ErrNotFound},
		{"the user's by key", string(key), "42", nil},
		{"the user's by hash", key.Hash(), "42", nil},
		{"another user's by key", string(theirs), "42", sessions.ErrNotFound},
		{"another user's by hash", theirs.Hash(), "42", sessions.ErrNotFound},
		{"unknown", sessions.NewID().Key().Handle(), "", sessions.ErrNotFound},
	} {
		got, err := m.Resolve(t.Context(), test.handle, test.user)
		is(t, test.name, err, test.want)
		if err == nil && got != key {
			t.Errorf("%s: %s, want %s", test.name, got, key)
		}
	}
	nowhere := newManager(t, nil, sessions.Config{}) // so that asking would panic
	for _, bad := range []string{"", "*", "a?", "[a]", "a\\", "a b", "ö", "\xff", strings.Repeat("a", 44), "a\n", "session:", "session:*"} {
		for _, user := range []string{"", "42"} {
			if _, err := nowhere.Resolve(t.Context(), bad, user); err == nil || errors.Is(err, sessions.ErrNotFound) {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
	redis.HSet(t.Context(), twin, "v", "1")
	_, err := m.Resolve(t.Context(), key.Handle(), "")
	is(t, "two of them", err, sessions.ErrHandleAmbiguous)
	_, err = m.Resolve(t.Context(), key.Handle(), "42")
	is(t, "among the user's one", err, nil)
}

func TestConfigValidate(t *testing.T) {
	for name, test := range map[string]struct {
		config sessions.Config
		good   bool
	}{
		"zero":                {sessions.Config{}, true},
		"negative":            {sessions.Config{IdleTimeout: -1}, false},
		"absolute too short":  {sessions.Config{AbsoluteTimeout: time.Millisecond}, false},
		"step over the limit": {sessions.Config{IdleTimeout: time.Minute, IdleStep: time.Hour}, false},
		"step of nothing":     {sessions.Config{IdleStep: time.Nanosecond}, false},
		"a century":           {sessions.Config{IdleTimeout: sessions.MaxTimeout, AbsoluteTimeout: sessions.MaxTimeout}, true},
		"absolute too long":   {sessions.Config{AbsoluteTimeout: math.MaxInt64}, false},
		"idle too long":       {sessions.Config{IdleTimeout: sessions.MaxTimeout + 1}, false},
		"short":               {sessions.Config{IdleTimeout: 10 * time.Millisecond, AbsoluteTimeout: 10 * time.Millisecond}, true},
	} {
		if _, err := sessions.NewManager(nil, test.config); (err == nil) != test.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An unreplicatedStore does all, and no replica acknowledges it.
type unreplicatedStore struct {
	sessions.Store
	asked int // for acknowledgements
}

func (s *unreplicatedStore) Mark(ctx context.Context, userID string) error {
	s.asked++
	return errors.Join(sessions.ErrNotReplicated, s.Store.Mark(ctx, userID))
}

func (s *unreplicatedStore) Delete(ctx context.Context, userID string, keys ...sessions.Key) (int, error) {
	s.asked++
	n, err := s.Store.Delete(ctx, userID, keys...)
	return n, errors.Join(sessions.ErrNotReplicated, err)
}

// TestUnreplicatedOnce: a revocation of all whose mark replicas do not acknowledge has left
// it, and waits for them no second time.
func TestUnreplicatedOnce(t *testing.T) {
	inner, _ := newStore(t)
	store := &unreplicatedStore{Store: inner}
	m := newManager(t, store, sessions.Config{})
	create(t, m, sessions.NewSession{UserID: "42"})
	n, err := m.RevokeUser(t.Context(), "42")
	if n != 1 || !errors.Is(err, sessions.ErrNotReplicated) || store.asked != 2 {
		t.Errorf("ended %d, asked %d times: %v", n, store.asked, err)
	}
}
