package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
	"github.com/coatcheck/coatcheck/sessions/storetest"
)

// patient are timeouts for tests that are not about timeouts.
var patient = redis.UniversalOptions{
	Password: redistest.Password, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
	DialTimeout: 10 * time.Second, PoolTimeout: 10 * time.Second,
}

func newClient(t testing.TB, addr string) redis.UniversalClient {
	t.Helper()
	options := patient
	options.Addrs = []string{addr}
	return connect(t, redisstore.ClientConfig{UniversalOptions: options})
}

// connect returns a client that is closed with the test.
func connect(t testing.TB, config redisstore.ClientConfig) *redisstore.Client {
	t.Helper()
	client, err := redisstore.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func newManager(t testing.TB, client redis.UniversalClient, config sessions.Config) *sessions.Manager {
	t.Helper()
	m, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestConformance(t *testing.T) {
	t.Parallel()
	client := newClient(t, redistest.Start(t).Addr)
	newStore := func(*testing.T) sessions.Store { return redisstore.New(client, redisstore.Config{}) }
	storetest.Run(t, newStore)
	storetest.RunScanner(t, newStore)
	storetest.RunIndexer(t, newStore)
}

// TestBrokenRecords puts under a session's key what does not belong there.
func TestBrokenRecords(t *testing.T) {
	client := newClient(t, redistest.Start(t).Addr)
	m := newManager(t, client, sessions.Config{})
	good := map[string]any{"v": "1", "user_id": "42", "expires_at": time.Now().Add(time.Hour).Format(time.RFC3339)}
	with := func(field, value string) func(key string) error {
		return func(key string) error {
			if err := client.HSet(t.Context(), key, good).Err(); err != nil {
				return err
			}
			if err := client.PExpire(t.Context(), key, time.Hour).Err(); err != nil {
				return err
			}
			if value == "" {
				return client.HDel(t.Context(), key, field).Err()
			}
			return client.HSet(t.Context(), key, field, value).Err()
		}
	}
	ending := func(at int64) func(key string) error {
		return func(key string) error {
			if err := client.HSet(t.Context(), key, good).Err(); err != nil {
				return err
			}
			return client.Do(t.Context(), "PEXPIREAT", key, at).Err()
		}
	}
	for name, test := range map[string]struct {
		write func(key string) error
		want  error
	}{
		"as it should be":      {with("x", "y"), nil},
		"other time zone":      {with("expires_at", time.Now().Add(time.Hour).In(time.FixedZone("", 3600)).Format(time.RFC3339)), nil},
		"no user":              {with("user_id", ""), sessions.ErrBroken},
		"no version":           {with("v", ""), sessions.ErrBroken},
		"no end":               {with("expires_at", ""), sessions.ErrBroken},
		"end in seconds":       {with("expires_at", "1795429967"), sessions.ErrBroken},
		"user too long":        {with("user_id", strings.Repeat("u", 257)), sessions.ErrBroken},
		"username no UTF-8":    {with("username", "\xff"), sessions.ErrBroken},
		"roles no array":       {with("roles", `"admin"`), sessions.ErrBroken},
		"roles null":           {with("roles", `null`), sessions.ErrBroken},
		"roles with null":      {with("roles", `["a",null]`), sessions.ErrBroken},
		"roles with a number":  {with("roles", `["a",1]`), sessions.ErrBroken},
		"role too long":        {with("roles", `["`+strings.Repeat("r", 129)+`"]`), sessions.ErrBroken},
		"too many roles":       {with("roles", `["r"`+strings.Repeat(`,"r"`, 256)+`]`), sessions.ErrBroken},
		"past its end":         {with("expires_at", "2020-01-01T00:00:00Z"), sessions.ErrExpired},
		"newer layout":         {with("v", "2"), sessions.ErrLayout},
		"a string":             {func(key string) error { return client.Set(t.Context(), key, "42", 0).Err() }, sessions.ErrBroken},
		"a string that ends":   {func(key string) error { return client.Set(t.Context(), key, "42", time.Minute).Err() }, sessions.ErrBroken},
		"a foreign hash":       {func(key string) error { return client.HSet(t.Context(), key, "cart", "3").Err() }, sessions.ErrNotFound},
		"no expiry":            {func(key string) error { return client.HSet(t.Context(), key, good).Err() }, sessions.ErrBroken},
		"ends in centuries":    {ending(time.Now().AddDate(400, 0, 0).UnixMilli()), nil},
		"ends in microseconds": {ending(time.Now().UnixMicro()), nil},
		"newer, no expiry":     {func(key string) error { return client.HSet(t.Context(), key, "v", "2").Err() }, sessions.ErrLayout},
		"as far as it may be":  {with("expires_at", time.Now().Add(36*time.Hour-time.Minute).Format(time.RFC3339)), nil},
		"further away":         {with("expires_at", time.Now().Add(36*time.Hour+time.Minute).Format(time.RFC3339)), sessions.ErrBroken},
		"in the year 9999":     {with("expires_at", "9999-12-31T23:59:59Z"), sessions.ErrBroken},
		"nothing":              {func(string) error { return nil }, sessions.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			id := sessions.NewID()
			key := string(id.Key())
			if err := test.write(key); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Lookup(t.Context(), id.Key()); !errors.Is(err, test.want) {
				t.Errorf("Lookup: %v, want %v", err, test.want)
			}
			if _, err := m.Touch(t.Context(), id); !errors.Is(err, test.want) {
				t.Errorf("Touch: %v, want %v", err, test.want)
			}
			if strings.Contains(name, "no expiry") && client.TTL(t.Context(), key).Val() > 0 {
				t.Error("a record without end has got one")
			}
			exists := client.Exists(t.Context(), key).Val() == 1
			if want := !errors.Is(test.want, sessions.ErrExpired) && name != "nothing"; exists != want {
				t.Errorf("record exists afterwards: %v, want %v", exists, want)
			}
		})
	}
}

// TestFurtherAwayNamesTheSetting: login and checks are configured apart.
func TestFurtherAwayNamesTheSetting(t *testing.T) {
	client := newClient(t, redistest.Start(t).Addr)
	login := newManager(t, client, sessions.Config{AbsoluteTimeout: 30 * 24 * time.Hour})
	id, _, err := login.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = newManager(t, client, sessions.Config{}).Touch(t.Context(), id)
	if !errors.Is(err, sessions.ErrBroken) || !strings.Contains(err.Error(), "session.absolute_timeout") {
		t.Errorf("error is %v, want one that names the setting", err)
	}
}

// between is a hook that does something behind the first commands of a pipeline,
// as another client may.
type between struct {
	behind int
	do     func(ctx context.Context)
}

func (between) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (between) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (b between) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		n := min(b.behind, len(cmds)-1)
		if err := next(ctx, cmds[:n]); err != nil {
			return err
		}
		b.do(ctx)
		return next(ctx, cmds[n:])
	}
}

// TestDeletedInBetween: a pipeline is no transaction. A record that goes in the
// middle of one, deleted or past its end, is missing: not broken, and not allowed.
func TestDeletedInBetween(t *testing.T) {
	server := redistest.Start(t)
	client := newClient(t, server.Addr)
	m := newManager(t, client, sessions.Config{})
	keys := func(ctx context.Context) []string { return client.Keys(ctx, "session:*").Val() }
	for what, end := range map[string]func(context.Context){
		"deleted": func(ctx context.Context) { client.FlushAll(ctx) },
		"expired": func(ctx context.Context) {
			for _, key := range keys(ctx) {
				client.PExpire(ctx, key, time.Millisecond)
			}
			time.Sleep(5 * time.Millisecond)
		},
	} {
		for behind := 1; behind <= 2; behind++ {
			raced := newClient(t, server.Addr)
			raced.AddHook(between{behind, end})
			meanwhile := newManager(t, raced, sessions.Config{})
			for name, read := range map[string]func(sessions.ID) error{
				"Touch":   func(id sessions.ID) error { _, err := meanwhile.Touch(t.Context(), id); return err },
				"Lookup":  func(id sessions.ID) error { _, err := meanwhile.Lookup(t.Context(), id.Key()); return err },
				"Inspect": func(id sessions.ID) error { _, err := meanwhile.Inspect(t.Context(), id.Key()); return err },
			} {
				id, session, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
				if err != nil {
					t.Fatal(err)
				}
				client.PExpire(t.Context(), string(session.Key), time.Minute) // so that there is something to slide
				if err := read(id); !errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrBroken) {
					t.Errorf("%s, %s behind %d commands: %v, want %v", name, what, behind, err, sessions.ErrNotFound)
				}
			}
		}
	}
}

// TestRoundTrips counts what Redis was sent, by its commandstats, and how often
// it had something to read.
func TestRoundTrips(t *testing.T) {
	server := redistest.Start(t)
	options := patient
	options.Addrs, options.MinIdleConns, options.PoolSize = []string{server.Addr}, -1, 1
	client := connect(t, redisstore.ClientConfig{UniversalOptions: options})
	defer client.Close()
	looking := server.Client()
	defer looking.Close()
	m := newManager(t, client, sessions.Config{})
	id, _, err := m.Create(t.Context(), sessions.NewSession{UserID: "42", Fields: map[string]string{"big": strings.Repeat("x", 1<<20)}})
	if err != nil {
		t.Fatal(err)
	}
	written := func(fields ...any) sessions.ID {
		id := sessions.NewID()
		if err := looking.HSet(t.Context(), string(id.Key()), fields...).Err(); err != nil {
			t.Fatal(err)
		}
		return id
	}
	text := sessions.NewID()
	looking.Set(t.Context(), string(text.Key()), "x", 0)
	for name, test := range map[string]struct {
		id    sessions.ID
		want  string
		trips int
	}{
		"live":         {id, "hmget 1 pexpireat 1 pttl 1", 1},
		"unknown":      {sessions.NewID(), "hmget 1 pexpireat 1 pttl 1", 1},
		"foreign":      {written("cart", "3"), "hmget 1 pexpireat 1 pttl 1", 1},
		"no expiry":    {written("v", "1", "user_id", "42", "expires_at", "2026-11-24T22:00:00Z"), "hmget 1 pexpireat 1 pttl 1", 1},
		"another type": {text, "hmget 1 pexpireat 1 pttl 1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			looking.ConfigResetStat(t.Context())
			keys, before := looking.DBSize(t.Context()).Val(), reads(t, looking)
			_, _ = m.Touch(t.Context(), test.id)
			trips := reads(t, looking) - before - 1 // the INFO itself
			if got := commands(t, looking); got != test.want {
				t.Errorf("Redis was sent %s, want %s", got, test.want)
			}
			if trips != test.trips {
				t.Errorf("in %d round trips, want %d", trips, test.trips)
			}
			if now := looking.DBSize(t.Context()).Val(); now != keys {
				t.Errorf("%d keys, %d before", now, keys)
			}
		})
	}
}

// reads is how often Redis has read from a connection.
func reads(t *testing.T, client redis.UniversalClient) (n int) {
	t.Helper()
	for line := range strings.Lines(client.Info(t.Context(), "stats").Val()) {
		_, _ = fmt.Sscanf(line, "total_reads_processed:%d", &n)
	}
	return n
}

// commands lists the commands since CONFIG RESETSTAT that are about keys.
func commands(t *testing.T, client redis.UniversalClient) string {
	t.Helper()
	var got []string
	for _, name := range []string{"del", "eval", "exists", "hgetall", "hmget", "hset", "pexpireat", "pttl", "zadd"} {
		if n := calls(t, client, name); n > 0 {
			got = append(got, fmt.Sprint(name, " ", n))
		}
	}
	return strings.Join(got, " ")
}

// TestSlideOncePerStep looks at the key's expiry time itself.
func TestSlideOncePerStep(t *testing.T) {
	client := newClient(t, redistest.Start(t).Addr)
	m := newManager(t, client, sessions.Config{IdleTimeout: time.Hour, IdleStep: time.Minute})
	id, _, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		now := m.Now()
		if _, err := m.Touch(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		after := m.Now()
		end := client.Do(t.Context(), "PEXPIRETIME", string(id.Key())).Val().(int64)
		if end%60_000 != 0 {
			t.Errorf("the end %d is no full minute", end)
		}
		if idle, less := time.UnixMilli(end).Sub(now), time.UnixMilli(end).Sub(after); idle < time.Hour || less > time.Hour+time.Minute+time.Second {
			t.Errorf("the session may idle for %v to %v", less, idle)
		}
	}
}

// TestCreateHasExpiry: neither the record nor the listing may live for ever.
func TestCreateHasExpiry(t *testing.T) {
	client := newClient(t, redistest.Start(t).Addr)
	m := newManager(t, client, sessions.Config{IdleTimeout: 2 * time.Hour, AbsoluteTimeout: time.Hour})
	_, session, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	// The manager knows Redis's clock to half of a round trip, on a busy machine too.
	const apart = 20 * time.Second
	for key, want := range map[string]time.Duration{string(session.Key): time.Hour, "user-sessions:42": 25 * time.Hour} {
		if ttl := client.PTTL(t.Context(), key).Val(); ttl <= want-time.Minute || ttl > want+apart {
			t.Errorf("%s ends in %v, want %v", key, ttl, want)
		}
	}
}

// TestRevokeWaitsForReplicas runs a master and a replica.
func TestRevokeWaitsForReplicas(t *testing.T) {
	master := redistest.Start(t, "--repl-diskless-sync-delay", "0")
	host, port, _ := strings.Cut(master.Addr, ":")
	replica := redistest.Start(t, "--replicaof", host, port)
	client, onReplica := newClient(t, master.Addr), replica.Client()
	defer func() { _ = onReplica.Close() }()
	m, err := sessions.NewManager(redisstore.New(client, redisstore.Config{WaitReplicas: 1, WaitTimeout: 30 * time.Second}), sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var slowest time.Duration
	for range 100 {
		_, session, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := m.Revoke(t.Context(), session.Key); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(start))
		if onReplica.Exists(t.Context(), string(session.Key)).Val() != 0 {
			t.Fatal("acknowledged, but still on the replica")
		}
	}
	t.Logf("the slowest of 100 replicated revocations took %v", slowest)

	_, session, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	replica.Kill()
	quick := redisstore.New(client, redisstore.Config{WaitReplicas: 1, WaitTimeout: 10 * time.Millisecond})
	if _, err := quick.Delete(t.Context(), "42", session.Key); !errors.Is(err, redisstore.ErrNotReplicated) {
		t.Fatalf("without the replica: %v, want %v", err, redisstore.ErrNotReplicated)
	}
	if _, err := m.Lookup(t.Context(), session.Key); !errors.Is(err, sessions.ErrNotFound) {
		t.Fatalf("the revoked session: %v", err)
	}
}

// TestWaitIsNoSilence: a replica that acknowledges nothing is told from a Redis that does not
// answer, by a client whose tries are as short as the wait, too.
func TestWaitIsNoSilence(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store := redisstore.New(connect(t, hasty(server.Addr)), redisstore.Config{WaitReplicas: 1, WaitTimeout: 80 * time.Millisecond})
	m := newManager(t, newClient(t, server.Addr), sessions.Config{})
	late := 0
	for range 10 {
		_, session, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
		if err != nil {
			t.Fatal(err)
		}
		n, err := store.Delete(t.Context(), "42", session.Key)
		if cause, _ := redisstore.CauseOf(err); cause == redisstore.CauseTimeout && late < 3 {
			late++ // by a second: of a busy machine
		} else if n != 1 || !errors.Is(err, sessions.ErrNotReplicated) {
			t.Errorf("deleted %d: %v, want %v", n, err, sessions.ErrNotReplicated)
		}
	}
}

// TestAddAfterLostReply: a command that may have run is not sent again.
func TestAddAfterLostReply(t *testing.T) {
	server := redistest.Start(t)
	looking := server.Client()
	defer func() { _ = looking.Close() }()
	options := patient
	options.Addrs, options.ReadTimeout = []string{server.Addr}, 100*time.Millisecond
	client := connect(t, redisstore.ClientConfig{UniversalOptions: options})
	m := newManager(t, looking, sessions.Config{})
	_, session, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	store := redisstore.New(client, redisstore.Config{})
	looking.ConfigResetStat(t.Context()) // a login runs a script, too
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	addErr := store.Add(t.Context(), session.Key, map[string]string{"cart": "3"})
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if addErr == nil || errors.Is(addErr, sessions.ErrFieldExists) || errors.Is(addErr, sessions.ErrNotFound) {
		t.Fatalf("error is %v, want one that leaves it open", addErr)
	}
	if n := calls(t, looking, "eval"); n > 1 {
		t.Fatalf("the script ran %d times", n)
	}
}

func calls(t *testing.T, client redis.UniversalClient, name string) (n int) {
	t.Helper()
	for line := range strings.Lines(client.Info(t.Context(), "commandstats").Val()) {
		_, _ = fmt.Sscanf(line, "cmdstat_"+name+":calls=%d", &n)
	}
	return n
}

// TestFaults: the deadline holds, the error says nothing about the session, and
// service comes back, whether Redis stands still, is gone, or refuses.
func TestFaults(t *testing.T) {
	server := redistest.Start(t)
	client := connect(t, redisstore.ClientConfig{UniversalOptions: redis.UniversalOptions{Addrs: []string{server.Addr}, Password: redistest.Password}})
	m := newManager(t, client, sessions.Config{})
	check := func(id sessions.ID) (time.Duration, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := m.Touch(ctx, id)
		return time.Since(start), err
	}
	unavailable := func(id sessions.ID) {
		t.Helper()
		took, err := check(id)
		if err == nil || errors.Is(err, sessions.ErrNotFound) {
			t.Errorf("error is %v, want one that says nothing about the session", err)
		}
		if took > heldUp {
			t.Errorf("a check of 150 ms took %v", took)
		}
	}
	recovers := func(id sessions.ID, want error) {
		t.Helper()
		start := time.Now()
		for time.Since(start) < time.Minute {
			if _, err := check(id); errors.Is(err, want) {
				t.Logf("back after %v", time.Since(start).Round(time.Millisecond))
				return
			}
		}
		t.Errorf("not back after a minute")
	}
	id := newLogin(t, newManager(t, newClient(t, server.Addr), sessions.Config{}), "42")
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		unavailable(id)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	recovers(id, nil)

	server.Kill()
	for range 20 {
		unavailable(id)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	recovers(id, sessions.ErrNotFound) // it came back empty
}

// TestAdvise: what INFO shows of replicas and of persistence.
func TestAdvise(t *testing.T) {
	set := redistest.StartSentinels(t, 1, nil)
	client := newClient(t, set.Master.Addr)
	advise := func() string {
		return strings.Join(redisstore.New(client, redisstore.Config{}).Advise(t.Context()), "\n")
	}
	if got := advise(); !strings.Contains(got, "min-replicas-to-write is 0") {
		t.Errorf("a master with a replica: %q", got)
	}
	client.ConfigSet(t.Context(), "min-replicas-to-write", "1")
	client.ConfigSet(t.Context(), "appendonly", "yes")
	if got := advise(); got != "" {
		t.Errorf("a master as it should be: %q", got)
	}
}

func TestDiagnose(t *testing.T) {
	server := redistest.Start(t)
	admin := newClient(t, server.Addr)
	diagnose := func(user, password string) ([]string, error) {
		options := patient
		options.Addrs, options.Username, options.Password = []string{server.Addr}, user, password
		client := connect(t, redisstore.ClientConfig{UniversalOptions: options})
		return redisstore.New(client, redisstore.Config{}).Diagnose(t.Context())
	}
	if warnings, err := diagnose("", redistest.Password); err != nil || len(warnings) != 0 {
		t.Errorf("a sound server: %v, %v", warnings, err)
	}
	admin.ConfigSet(t.Context(), "maxmemory-policy", "volatile-lru")
	if warnings, err := diagnose("", redistest.Password); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "volatile-lru") {
		t.Errorf("an evicting server: %v, %v", warnings, err)
	}
	if advice := redisstore.New(admin, redisstore.Config{}).Advise(t.Context()); len(advice) != 1 || !strings.Contains(advice[0], "appendonly yes") {
		t.Errorf("a server that keeps nothing: %q", advice)
	}
	acl := func(user string, rules ...any) {
		args := append([]any{"acl", "setuser", user, "reset", "on", ">pw", "~session:*"}, rules...)
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	acl("check", "+hmget", "+pexpireat", "+pttl", "+time", "+info")
	if warnings, err := diagnose("check", "pw"); err != nil || len(warnings) != 1 {
		t.Errorf("the rights of a check: %v, %v", warnings, err)
	}
	acl("reader", "+hmget", "+pttl")
	if _, err := diagnose("reader", "pw"); err == nil || !strings.Contains(err.Error(), "pexpireat") {
		t.Errorf("without PEXPIREAT: %v", err)
	}
	acl("older", "+hmget", "+pexpireat", "+exists", "+time", "+info") // what checks needed once
	if _, err := diagnose("older", "pw"); err == nil || !strings.Contains(err.Error(), "+pttl on ~session:*") {
		t.Errorf("without PTTL: %v, want the cure", err)
	}
	if _, err := diagnose("check", "wrong"); err == nil {
		t.Error("with a wrong password: no error")
	}
	server.Kill()
	if _, err := diagnose("", redistest.Password); err == nil {
		t.Error("without a server: no error")
	}
}
