package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// The passwords of an ACL user, one after the other.
const (
	oldPassword = "canary-old-password"
	newPassword = "canary-new-password"
)

// writePassword replaces a file at a stroke, as tools that rotate do.
func writePassword(t *testing.T, path, password string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".next", []byte(password+"\n"), 0o600), os.Rename(path+".next", path)); err != nil {
		t.Fatal(err)
	}
}

// byFile is a client of the document's user for checks, whose password a file
// holds.
func byFile(t *testing.T, server *redistest.Server, path string) *redisstore.Client {
	t.Helper()
	config := checking(server.Addr)
	config.Username, config.Password, config.PasswordFile = checkUser, "", path
	return connect(t, config)
}

// letIn sets the passwords that the document's user for checks may log in with.
func letIn(t *testing.T, server *redistest.Server, passwords ...string) {
	t.Helper()
	rules := aclRules(t, checkUser)
	for _, password := range passwords {
		rules = append(rules, ">"+password)
	}
	if err := server.SetUser(checkUser, append(rules, "<pw")...); err != nil {
		t.Fatal(err)
	}
}

// TestPasswordRotation changes the password in three steps under load, and cuts
// every connection after each: no check fails.
func TestPasswordRotation(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	defer admin.Close()
	path := filepath.Join(t.TempDir(), "password")
	writePassword(t, path, oldPassword)
	letIn(t, server, oldPassword)
	m := newManager(t, byFile(t, server, path), sessions.Config{})
	l := startLoad(t, m, 8, enough, logins(t, newManager(t, admin, sessions.Config{}), 8)...)
	for _, step := range []func(){
		func() { letIn(t, server, oldPassword, newPassword) },
		func() { writePassword(t, path, newPassword) },
		func() { letIn(t, server, newPassword) },
	} {
		step()
		if err := admin.Do(t.Context(), "client", "kill", "user", checkUser).Err(); err != nil {
			t.Error(err)
		}
		l.turn(t)
		time.Sleep(200 * time.Millisecond)
	}
	calls := l.end()
	if bad := failed(t, calls); len(bad) > 0 {
		t.Errorf("%d of %d checks failed: %v", len(bad), len(calls), bad[0].err)
	}
}

// TestPasswordChangedUnderLoad changes the password at Redis and tells nothing of
// it: connections that are there go on, and each that is made anew is refused.
// Also for calls that fail, no session is said to be gone or broken, and no
// list of them lacks one.
func TestPasswordChangedUnderLoad(t *testing.T) {
	for name, topology := range map[string]func(*testing.T) (config redisstore.ClientConfig, servers []*redistest.Server){
		"single": func(t *testing.T) (redisstore.ClientConfig, []*redistest.Server) {
			server := redistest.Start(t)
			return checking(server.Addr), []*redistest.Server{server}
		},
		"Sentinel": func(t *testing.T) (redisstore.ClientConfig, []*redistest.Server) {
			set := redistest.StartSentinels(t, 0, nil)
			config := checking(set.Addrs...)
			config.MasterName, config.SentinelPassword = redistest.MasterName, redistest.Password
			return config, []*redistest.Server{set.Master}
		},
		"Cluster": func(t *testing.T) (redisstore.ClientConfig, []*redistest.Server) {
			cluster := redistest.StartCluster(t, 0, nil)
			config := checking(cluster.Addrs()...)
			config.IsClusterMode = true
			return config, cluster.Masters
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, servers := topology(t)
			// Connections come and go, as in a burst.
			config.MinIdleConns, config.PoolSize, config.MaxIdleConns = -1, 16, 2
			m := newManager(t, connect(t, config), sessions.Config{})
			ids := logins(t, m, 8)
			refused := underLoad(t, m, ids, func(flip bool) {
				for _, server := range servers {
					changePassword(t, server, flip)
				}
			})
			if refused == 0 {
				t.Error("no call was refused: the test tries nothing")
			}
			list, _, err := m.List(t.Context(), "42")
			for since := time.Now(); redisstore.Refused(err) && time.Since(since) < 20*time.Second; { // as the last call was
				list, _, err = m.List(t.Context(), "42")
			}
			if err != nil || len(list) != len(ids) {
				t.Errorf("afterwards %d are listed of %d: %v", len(list), len(ids), err)
			}
		})
	}
}

// changePassword changes the default user's password, or sets it right again. Who
// is authenticated stays so.
func changePassword(t *testing.T, server *redistest.Server, wrong bool) {
	t.Helper()
	admin := server.Client()
	defer func() { _ = admin.Close() }()
	rules := []any{"acl", "setuser", "default", ">" + newPassword, "<" + redistest.Password}
	if !wrong { // the administrator asks with the password that is in force
		_ = admin.Close()
		admin = redis.NewClient(&redis.Options{Addr: server.Addr, Password: newPassword})
		rules = []any{"acl", "setuser", "default", ">" + redistest.Password, "<" + newPassword}
	}
	if err := admin.Do(context.Background(), rules...).Err(); err != nil {
		t.Error(err)
	}
}

// underLoad does all that a manager does, from many sides at once, while the
// password changes to and fro. It returns how many calls were refused.
func underLoad(t *testing.T, m *sessions.Manager, ids []sessions.ID, change func(wrong bool)) int64 {
	t.Helper()
	rounds := 3
	if os.Getenv("COATCHECK_FULL") != "" {
		rounds = 20
	}
	var refused atomic.Int64
	calls := map[string]func(context.Context, sessions.ID) error{
		"Touch":  func(ctx context.Context, id sessions.ID) error { _, err := m.Touch(ctx, id); return err },
		"Lookup": func(ctx context.Context, id sessions.ID) error { _, err := m.Lookup(ctx, id.Key()); return err },
		"Add": func(ctx context.Context, id sessions.ID) error {
			return m.Add(ctx, id.Key(), map[string]string{sessions.NewID().Key().Hash(): "1"})
		},
		"List": func(ctx context.Context, _ sessions.ID) error {
			list, _, err := m.List(ctx, "42")
			if err == nil && len(list) != len(ids) {
				t.Errorf("%d of %d sessions are listed", len(list), len(ids))
			}
			return err
		},
		"Revoke": func(ctx context.Context, _ sessions.ID) error {
			_, session, err := m.Create(ctx, sessions.NewSession{UserID: "43"})
			if err != nil {
				return err
			}
			return m.Revoke(ctx, session.Key)
		},
	}
	// On a busy machine all connections may outlive a change: then there is one more.
	for round := 0; round < rounds || refused.Load() == 0 && round < 10*rounds; round++ {
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for i := range 3 * len(calls) {
			name := slices.Sorted(maps.Keys(calls))[i%len(calls)]
			running.Go(func() {
				for j := i; ctx.Err() == nil; j++ {
					err := calls[name](context.WithoutCancel(ctx), ids[j%len(ids)])
					if errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrBroken) {
						t.Errorf("%s: a session that is there: %v", name, err)
					}
					if redisstore.Refused(err) {
						refused.Add(1)
					}
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		change(true)
		time.Sleep(200 * time.Millisecond)
		change(false)
		stop()
		running.Wait()
	}
	return refused.Load()
}

// TestRefusedPassword: what Redis refuses is told apart from a Redis that is not
// there, and is tried anew with what the file says then.
func TestRefusedPassword(t *testing.T) {
	server := redistest.Start(t)
	path := filepath.Join(t.TempDir(), "password")
	writePassword(t, path, oldPassword)
	letIn(t, server, newPassword)
	client := byFile(t, server, path)
	store := redisstore.New(client, redisstore.Config{})
	for range 20 {
		_, err := store.Diagnose(t.Context())
		if !redisstore.Refused(err) || errors.Is(err, redisstore.ErrBreakerOpen) {
			t.Fatalf("error is %v, want one that is a refusal", err)
		}
		silent(t, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Diagnose(t.Context()); err == nil || redisstore.Refused(err) || !strings.Contains(err.Error(), path) {
		t.Errorf("without the file: %v, want its name", err)
	}
	writePassword(t, path, newPassword)
	changed := time.Now()
	m := newManager(t, client, sessions.Config{})
	for {
		_, err := check(m, sessions.NewID(), enough)
		if errors.Is(err, sessions.ErrNotFound) {
			break
		}
		if silent(t, err); time.Since(changed) > time.Minute {
			t.Fatalf("a minute after the file changed: %v", err)
		}
	}
	t.Logf("a refused password healed %v after its file changed", time.Since(changed).Round(time.Millisecond))
}

// silent fails if an error holds a password.
func silent(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), "canary-") {
		t.Errorf("a password is in: %v", err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	open := redistest.Start(t, "--requirepass", "")
	closed := redistest.Start(t)
	down := redistest.Start(t)
	down.Kill()
	for name, test := range map[string]struct {
		addr, user, password string
		want                 bool
	}{
		"another password": {closed.Addr, "", oldPassword, true},
		"no password":      {closed.Addr, "", "", true},
		"no such user":     {closed.Addr, "nobody", oldPassword, true},
		"one too many":     {open.Addr, "", oldPassword, false}, // Redis takes it
		"the right one":    {closed.Addr, "", redistest.Password, false},
		"no server":        {down.Addr, "", oldPassword, false},
	} {
		config := checking(test.addr)
		config.Username, config.Password = test.user, test.password
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err := redisstore.New(connect(t, config), redisstore.Config{}).Diagnose(ctx)
		cancel()
		if redisstore.Refused(err) != test.want {
			t.Errorf("%s: refused is %v: %v", name, !test.want, err)
		}
		silent(t, err)
	}
	if redisstore.Refused(nil) {
		t.Error("no error is a refusal")
	}
}

// TestRefusedBySentinel: the Sentinels' password is another.
func TestRefusedBySentinel(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 0, nil)
	config := checking(set.Addrs...)
	config.MasterName, config.SentinelPassword = redistest.MasterName, oldPassword
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := redisstore.New(connect(t, config), redisstore.Config{}).Diagnose(ctx)
	if !redisstore.Refused(err) {
		t.Errorf("error is %v, want one that is a refusal", err)
	}
	silent(t, err)
}

// TestNewClient: what cannot work is refused at once.
func TestNewClient(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*redisstore.ClientConfig){
		filepath.Join(dir, "missing"): func(c *redisstore.ClientConfig) { c.PasswordFile = filepath.Join(dir, "missing") },
		empty:                         func(c *redisstore.ClientConfig) { c.PasswordFile = empty },
		"replicas":                    func(c *redisstore.ClientConfig) { c.RouteRandomly = true },
		"Sentinels":                   func(c *redisstore.ClientConfig) { c.MasterName, c.IsClusterMode = "m", true },
	} {
		config := checking("127.0.0.1:1")
		change(&config)
		if _, err := redisstore.NewClient(config); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error is %v, want one about %s", err, name)
		}
	}
}

// TestRepeatedPassword: a server that is no Redis repeats what it is told. No
// error has it; what go-redis logs of Sentinels has, until it is redacted.
func TestRepeatedPassword(t *testing.T) {
	addr := redistest.Serve(t, repeat)
	for name, change := range map[string]func(*redisstore.ClientConfig){
		"single":  func(*redisstore.ClientConfig) {},
		"cluster": func(c *redisstore.ClientConfig) { c.IsClusterMode = true },
	} {
		config := checking(addr)
		config.Password = oldPassword
		change(&config)
		client := connect(t, config)
		store := redisstore.New(client, redisstore.Config{})
		for range 20 {
			_, err := store.Diagnose(t.Context())
			if err == nil {
				t.Fatalf("%s: no error", name)
			}
			silent(t, err)
		}
		if text := client.Redact("AUTH " + oldPassword); strings.Contains(text, oldPassword) {
			t.Errorf("redacted: %s", text)
		}
	}
}

// repeat answers each read with an error that has all of it.
func repeat(conn net.Conn) {
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		words := strings.Join(strings.Fields(string(buffer[:n])), " ")
		if _, err := fmt.Fprintf(conn, "-ERR unknown command: %s\r\n", words); err != nil {
			return
		}
	}
}
