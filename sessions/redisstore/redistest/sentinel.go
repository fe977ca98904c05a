package redistest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/internal/testtools"
)

// MasterName is the name under which Sentinels watch their master.
const MasterName = "redistest"

// DownAfter is how long a master must be silent before its Sentinels act.
const DownAfter = 500 * time.Millisecond

// Sentinels are three of them, a master, and replicas. They ask for [Password],
// as the servers do.
type Sentinels struct {
	Addrs     []string // the Sentinels', with TLS where the servers have it
	Master    *Server  // the first one
	Replicas  []*Server
	Processes []*Server // the Sentinels
}

// StartSentinels runs a set until the test ends. With TLS, all of it speaks
// TLS.
func StartSentinels(t testing.TB, replicas int, tls *TLS) *Sentinels {
	t.Helper()
	args := []string{"--repl-diskless-sync-delay", "0"}
	if tls != nil {
		args = append(args, "--tls-replication", "yes")
	}
	set := &Sentinels{Master: StartWith(t, Options{TLS: tls, Args: args})}
	master := set.Master.Addr
	if tls != nil {
		master = set.Master.TLSAddr
	}
	for range replicas {
		set.Replicas = append(set.Replicas, StartWith(t, Options{TLS: tls, Args: append(args, "--replicaof", "127.0.0.1", portOf(master))}))
	}
	for range 3 {
		if err := set.addSentinel(t, portOf(master), tls); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.ready(); err != nil {
		t.Fatal(err)
	}
	return set
}

func (set *Sentinels) addSentinel(t testing.TB, port string, tls *TLS) error {
	s, err := newServer()
	if err != nil {
		return err
	}
	t.Cleanup(s.Close)
	lines := []string{
		"bind 127.0.0.1", "port " + portOf(s.Addr), "dir " + s.dir, "requirepass " + Password,
		"sentinel monitor " + MasterName + " 127.0.0.1 " + port + " 2",
		"sentinel auth-pass " + MasterName + " " + Password,
		fmt.Sprintf("sentinel down-after-milliseconds %s %d", MasterName, DownAfter.Milliseconds()),
		"sentinel failover-timeout " + MasterName + " 3000",
	}
	addr := s.Addr
	if tls != nil {
		if s.TLSAddr, err = testtools.Addr(); err != nil {
			return err
		}
		addr = s.TLSAddr
		lines = append(lines, "tls-port "+portOf(addr), "tls-replication yes")
		for args := tls.args(); len(args) > 0; args = args[2:] {
			lines = append(lines, strings.TrimPrefix(args[0], "--")+" "+args[1])
		}
	}
	s.config = strings.Join(lines, "\n") + "\n"
	set.Addrs, set.Processes = append(set.Addrs, addr), append(set.Processes, s)
	return s.Restart()
}

// ready waits until the Sentinels know one another and the replicas, and these
// are in step with the master.
func (set *Sentinels) ready() error {
	return wait(func() error {
		for _, s := range set.Replicas {
			if err := s.inStep(); err != nil {
				return err
			}
		}
		for _, s := range set.Processes {
			if err := set.knows(s); err != nil {
				return err
			}
		}
		return nil
	})
}

func (set *Sentinels) knows(s *Server) error {
	client := redis.NewSentinelClient(&redis.Options{Addr: s.Addr, Password: Password})
	defer func() { _ = client.Close() }()
	master, err := client.Master(context.Background(), MasterName).Result()
	if err != nil {
		return err
	}
	want := map[string]string{"flags": "master", "num-slaves": fmt.Sprint(len(set.Replicas)), "num-other-sentinels": "2"}
	for name, value := range want {
		if master[name] != value {
			return fmt.Errorf("a Sentinel's %s is %s, want %s", name, master[name], value)
		}
	}
	return nil
}
