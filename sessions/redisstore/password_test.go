package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

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
		time.Sleep(200 * time.Millisecond)
	}
	calls := l.end()
	if bad := failed(t, calls); len(bad) > 0 {
		t.Errorf("%d of %d checks failed: %v", len(bad), len(calls), bad[0].err)
	}
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
		if silent(t, err); time.Since(changed) > 5*time.Second {
			t.Fatalf("5 s after the file changed: %v", err)
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
		"nobody there":     {down.Addr, "", oldPassword, false},
	} {
		config := checking(test.addr)
		config.Username, config.Password = test.user, test.password
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
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
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
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
	addr := serve(t, repeat)
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
