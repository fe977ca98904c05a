package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A state is one in which Redis serves no check.
type redisState struct {
	args  []string // of redis-server
	enter func(t *testing.T, server *redistest.Server, admin *redis.Client)
	leave func(server *redistest.Server)
	want  Cause
}

// do sends a command to Redis, whose failure ends the test.
func do(t *testing.T, client redis.UniversalClient, command string) {
	t.Helper()
	if err := client.Process(t.Context(), redis.NewCmd(t.Context(), fields(command)...)); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
}

func fields(command string) (args []any) {
	for _, word := range strings.Fields(command) {
		args = append(args, word)
	}
	return args
}

// commands enters a state by commands.
func commands(all ...string) func(*testing.T, *redistest.Server, *redis.Client) {
	return func(t *testing.T, _ *redistest.Server, admin *redis.Client) {
		t.Helper()
		for _, command := range all {
			do(t, admin, command)
		}
	}
}

const cutOthers = "client kill type normal skipme yes"

var redisStates = map[string]redisState{
	"CLIENT PAUSE":       {enter: commands("client pause 60000 all"), want: CauseTimeout},
	"CLIENT PAUSE WRITE": {enter: commands("client pause 60000 write"), want: CauseTimeout},
	"SIGSTOP": {
		enter: func(t *testing.T, s *redistest.Server, _ *redis.Client) { must(t, s.Pause()) },
		leave: func(s *redistest.Server) { _ = s.Resume() },
		want:  CauseTimeout,
	},
	"SIGKILL": {enter: func(_ *testing.T, s *redistest.Server, _ *redis.Client) { s.Kill() }, want: CauseRefused},
	"replica": {enter: commands("replicaof 127.0.0.1 1"), want: CauseReadOnly},
	"replica without data": {
		args: []string{"--replica-serve-stale-data", "no"}, enter: commands("replicaof 127.0.0.1 1"), want: CauseReadOnly,
	},
	"no replicas":       {enter: commands("config set min-replicas-to-write 1"), want: CauseNoReplicas},
	"right to read":     {enter: commands("acl setuser default -hmget"), want: CauseNoPermission},
	"right to slide":    {enter: commands("acl setuser default -pexpireat"), want: CauseNoPermission},
	"right to the keys": {enter: commands("acl setuser default resetkeys"), want: CauseNoPermission},
	"password changed": {
		enter: commands("acl setuser default >another <"+redistest.Password, cutOthers), want: CauseBadCredentials,
	},
	"user off":   {enter: commands("acl setuser default off", cutOthers), want: CauseBadCredentials},
	"maxclients": {enter: commands("config set maxclients 1", cutOthers), want: CauseTooManyClients},
	"script": {
		args: []string{"--busy-reply-threshold", "10"},
		enter: func(_ *testing.T, s *redistest.Server, _ *redis.Client) {
			go func() {
				client := s.Client()
				defer client.Close()
				client.Eval(context.Background(), "while true do end", nil)
			}()
			time.Sleep(100 * time.Millisecond)
		},
		leave: func(s *redistest.Server) { s.Kill() },
		want:  CauseBusy,
	},
	"loading": {
		args: []string{"--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024", "--key-load-delay", "0"},
		enter: func(t *testing.T, s *redistest.Server, admin *redis.Client) {
			do(t, admin, "debug populate 20000 filler 100")
			do(t, admin, "config set key-load-delay 2000")
			go func() {
				client := s.Client()
				defer client.Close()
				client.Do(context.Background(), "debug", "reload")
			}()
			time.Sleep(500 * time.Millisecond)
		},
		leave: func(s *redistest.Server) { s.Kill() },
		want:  CauseLoading,
	},
	"disk full": {
		args: []string{"--enable-protected-configs", "yes", "--save", "3600 1"},
		enter: func(t *testing.T, _ *redistest.Server, admin *redis.Client) {
			dir := t.TempDir()
			must(t, os.Mkdir(filepath.Join(dir, "dump"), 0o700))
			must(t, os.WriteFile(filepath.Join(dir, "dump", "file"), nil, 0o600))
			for _, command := range []string{"config set dir " + dir, "config set dbfilename dump", "set changed 1", "bgsave"} {
				do(t, admin, command)
			}
			for !strings.Contains(admin.Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err") {
				time.Sleep(10 * time.Millisecond)
			}
		},
		want: CauseNotSaved,
	},
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// calmly is At with the password, and with timeouts that a busy machine keeps.
func calmly(addresses ...string) ClientConfig {
	config := At(addresses...)
	config.Password = redistest.Password
	config.DialTimeout, config.ReadTimeout, config.WriteTimeout, config.PoolTimeout = 30*time.Second, 30*time.Second, 30*time.Second, 30*time.Second
	return config
}

// bothRoads are two stores on the same Redis, the one by go-redis alone, with lanes to the
// keys if there can be any, and a record in Redis that they both can read.
func bothRoads(t *testing.T, config ClientConfig, redis redis.UniversalClient, laned bool, keys ...sessions.Key) map[string]*Store {
	t.Helper()
	for _, key := range keys {
		if redis != nil {
			redis.HSet(t.Context(), string(key), "v", "1", "user_id", "42", "expires_at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
			redis.Expire(t.Context(), string(key), time.Hour)
		}
	}
	config.Password = redistest.Password
	made := make(map[string]*Store)
	for _, road := range []string{"lane", "go-redis"} {
		client, err := NewClient(config)
		must(t, err)
		t.Cleanup(func() { _ = client.Close() })
		if road == "go-redis" {
			made[road] = New(client.UniversalClient, Config{})
			continue
		}
		if made[road] = New(client, Config{}); laned {
			untilLanes(t, made[road], keys...)
		}
	}
	return made
}

// fails touches until it fails, which a lane does within a second, and then some times
// more, and returns the causes: each touch must fail, and no session be said to be missing
// or broken.
func fails(t *testing.T, road string, store *Store, key sessions.Key, want Cause) (causes []Cause) {
	t.Helper()
	began := time.Now()
	for tries := 0; tries < 5; {
		early := time.Since(began) < 20*time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		_, _, err := store.Touch(ctx, key, time.Now().Add(2*time.Hour), []string{"v"})
		cancel()
		late := len(causes) == 0 || slices.Equal(causes, []Cause{CauseTimeout}) // of a busy machine
		if err == nil && late && early {
			tries, causes = 0, nil
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err == nil || errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrBroken) {
			t.Fatalf("%s: try %d after %v: %v", road, tries, time.Since(began), err)
		}
		tries++
		cause, by := CauseOf(err)
		if cause == CauseTimeout && want != CauseTimeout && early {
			tries-- // of a busy machine, whose Redis answers late
		} else if !slices.Contains(causes, cause) || by != "" {
			causes = append(causes, cause)
			t.Logf("%s: %s %s: %v", road, cause, by, err)
		}
	}
	return causes
}

// TestCauses puts a real Redis into each state: both roads name the same cause, and no
// check is answered.
func TestCauses(t *testing.T) {
	for name, state := range redisStates {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, state.args...)
			admin := server.Client()
			defer admin.Close()
			key := someKeys(1)[0]
			stores := bothRoads(t, At(server.Addr), admin, true, key)
			state.enter(t, server, admin)
			if state.leave != nil {
				defer state.leave(server)
			}
			for road, store := range stores {
				if causes := fails(t, road, store, key, state.want); !slices.Equal(causes, []Cause{state.want}) {
					t.Errorf("by %s the causes are %v, want %s", road, causes, state.want)
				}
				if n := store.Failures()[state.want]; n < 5 {
					t.Errorf("by %s %d failures are counted", road, n)
				}
			}
		})
	}
}

// TestCausesOfTLS: no lane is there, since there is no connection.
func TestCausesOfTLS(t *testing.T) {
	p := t.TempDir()
	path := func(name string) string { return filepath.Join(p, name) }
	ca, err := testca.New()
	must(t, err)
	must(t, errors.Join(ca.Write(path("ca.pem")), ca.Issue(path("cert.pem"), path("key.pem"), testca.Leaf{})))
	server := redistest.StartWith(t, redistest.Options{TLS: &redistest.TLS{CertFile: path("cert.pem"), KeyFile: path("key.pem"), CAFile: path("ca.pem"), ClientCerts: true}})
	for name, to := range map[string]struct {
		addr   string
		config *tls.Config
	}{
		"unknown authority": {server.TLSAddr, new(tls.Config)},
		"no certificate":    {server.TLSAddr, &tls.Config{InsecureSkipVerify: true}},
	} {
		t.Run(name, func(t *testing.T) {
			config := calmly(to.addr)
			config.TLSConfig = to.config
			for road, store := range bothRoads(t, config, nil, false) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				_, _, err := store.Touch(ctx, someKeys(1)[0], time.Now(), []string{"v"})
				cancel()
				if cause, _ := CauseOf(err); cause != CauseTLS {
					t.Errorf("by %s the cause is %s: %v", road, cause, err)
				}
			}
		})
	}
}

// TestCausesOnCluster: a slot that no node has, and one that two nodes send on.
func TestCausesOnCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0, nil)
	config := At(cluster.Addrs()...)
	config.IsClusterMode, config.Password = true, redistest.Password
	client, err := NewClient(config)
	must(t, err)
	defer client.Close()
	for _, state := range []struct {
		want  Cause
		enter func(slot int, owner, other *redistest.Server)
	}{
		{CauseMoved, func(slot int, owner, other *redistest.Server) {
			from, to := owner.Client(), other.Client()
			defer from.Close()
			defer to.Close()
			do(t, from, fmt.Sprintf("cluster setslot %d migrating %s", slot, to.Do(t.Context(), "cluster", "myid").Val()))
		}},
		{CauseClusterDown, func(slot int, _, _ *redistest.Server) {
			// Nodes tell one another of a slot until none has it any more.
			for taken := false; !taken; time.Sleep(300 * time.Millisecond) {
				taken = true
				for _, server := range cluster.Masters {
					admin := server.Client()
					err := admin.Do(t.Context(), "cluster", "delslots", slot).Err()
					_ = admin.Close()
					taken = taken && err != nil && strings.Contains(err.Error(), "already unassigned")
				}
			}
		}},
	} {
		key := someKeys(1)[0]
		stores := bothRoads(t, config, nil, true, key)
		n, err := client.ClusterKeySlot(t.Context(), string(key)).Result()
		must(t, err)
		owner := cluster.Owner(int(n))
		state.enter(int(n), cluster.Masters[owner], cluster.Masters[(owner+1)%3])
		for road, store := range stores {
			if causes := fails(t, road, store, key, state.want); !slices.Equal(causes, []Cause{state.want}) {
				t.Errorf("by %s the causes are %v, want %s", road, causes, state.want)
			}
		}
	}
}

// TestCauseOfABreaker is the breaker, with what has opened it.
func TestCauseOfABreaker(t *testing.T) {
	server := redistest.Start(t)
	config := calmly(server.Addr)
	config.BreakerFailures = 3
	client, err := NewClient(config)
	must(t, err)
	defer client.Close()
	store := New(client, Config{})
	server.Kill()
	var cause, by Cause
	for range 50 {
		err := store.Try(t.Context())
		if cause, by = CauseOf(err); cause == CauseBreaker {
			break
		}
	}
	if cause != CauseBreaker || by != CauseRefused || !slices.Equal(store.OpenedBy(), []Cause{CauseRefused}) {
		t.Errorf("the cause is %s by %s, and the breakers are opened by %v", cause, by, store.OpenedBy())
	}
}

// TestCauseOf is about what no state of a server brings for certain.
func TestCauseOf(t *testing.T) {
	for err, want := range map[error]Cause{
		nil:                                     "",
		sessions.ErrNotFound:                    "",
		sessions.ErrBroken:                      "",
		fmt.Errorf("x: %w", sessions.ErrLayout): "",
		context.Canceled:                        "",
		context.DeadlineExceeded:                CauseTimeout,
		os.ErrDeadlineExceeded:                  CauseTimeout,
		redis.ErrPoolTimeout:                    CausePool,
		redis.ErrPoolExhausted:                  CausePool,
		io.EOF:                                  CauseRefused,
		syscall.ECONNRESET:                      CauseRefused,
		unreached{&net.DNSError{Err: "no such host", IsNotFound: true}}:               CauseRefused,
		&net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}:    CauseRefused,
		errors.New("redis: all sentinels specified in configuration are unreachable"): CauseRefused,
		replyError("OOM command not allowed when used memory > 'maxmemory'."):         CauseFull,
		replyError("TRYAGAIN Multiple keys request during rehashing of slot"):         CauseMoved,
		replyError("MOVED 1 a:1"):                                                            CauseMoved,
		replyError("DENIED Redis is running in protected mode"):                              CauseRefused,
		replyError("ERR AUTH <password> called without any password configured"):             CauseBadCredentials,
		replyError("ERR The user executing the script can't run this command or subcommand"): CauseNoPermission,
		replyError("ERR unknown command 'pexpireat'"):                                        CauseOther,
		hiddenReply{errSecret}:                                                               CauseOther,
		fileError{os.ErrNotExist}:                                                            CauseBadCredentials,
		fmt.Errorf("x: %w", ErrNotReplicated):                                                CauseNoReplicas,
		errFewTimes:                                                                          CauseClusterDown,
		ErrEmptied:                                                                           CauseEmptied,
		shutDoor{replyError("WRONGPASS x")}:                                                  CauseBadCredentials,
		breakerOpen{by: CauseTimeout, last: ""}:                                              CauseBreaker,
	} {
		if got, _ := CauseOf(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	for _, i := range Causes() {
		if i.Text == "" || i.Cure == "" {
			t.Errorf("%s says too little", i.Cause)
		}
	}
	if len(Causes()) != len(newFailures().of) {
		t.Error("a cause stands twice")
	}
}

// TestCauseOfATransaction: a login writes in transactions, of whose end EXEC says only that
// there was an error. The cause is that of the command.
func TestCauseOfATransaction(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cluster := redistest.StartCluster(t, 0, nil)
	for kind, servers := range map[string][]*redistest.Server{"single": {server}, "cluster": cluster.Masters} {
		addrs := []string{servers[0].Addr}
		if kind == "cluster" {
			addrs = cluster.Addrs()
		}
		client, err := NewClient(calmly(addrs...))
		must(t, err)
		defer client.Close()
		m, err := sessions.NewManager(New(client, Config{}), sessions.Config{})
		must(t, err)
		for _, test := range []struct {
			command, undo string
			want          Cause
		}{
			{"config set min-replicas-to-write 1", "config set min-replicas-to-write 0", CauseNoReplicas},
			{"config set maxmemory 1", "config set maxmemory 0", CauseFull},
			{"acl setuser default -zadd", "acl setuser default +zadd", CauseNoPermission},
			{"acl setuser default -exec", "acl setuser default +exec", CauseNoPermission},
		} {
			all := func(command string) {
				var args []any
				for _, word := range strings.Fields(command) {
					args = append(args, word)
				}
				for _, s := range servers {
					admin := s.Client()
					must(t, admin.Do(t.Context(), args...).Err())
					must(t, admin.Close())
				}
			}
			all(test.command)
			_, _, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
			if got, _ := CauseOf(err); got != test.want {
				t.Errorf("%s, %s: %s of %v, want %s", kind, test.command, got, err, test.want)
			}
			all(test.undo)
		}
		if _, _, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"}); err != nil {
			t.Errorf("%s, afterwards: %v", kind, err)
		}
	}
}
