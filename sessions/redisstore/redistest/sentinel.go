package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/internal/testtools"
)

// MasterName is the name under which Sentinels watch their master.
const MasterName = "redistest"

// DownAfter is how long a master must be silent before its Sentinels act, and TLSDownAfter is
// that of a set that speaks TLS: over TLS a Sentinel has the first answer of a new master half
// a second after it has named it, finds it down until then, and changes it, again and again.
const (
	DownAfter    = 500 * time.Millisecond
	TLSDownAfter = time.Second
)

// Sentinels are three of them, a master, and replicas. They ask for [Password],
// as the servers do. Its methods are not safe for concurrent use.
type Sentinels struct {
	Addrs     []string // the Sentinels', with TLS where the servers have it
	Master    *Server  // the first one
	Replicas  []*Server
	Processes []*Server // the Sentinels
}

// SentinelsOptions say what a set has beyond the usual.
type SentinelsOptions struct {
	Replicas int
	TLS      *TLS     // all of it speaks TLS
	Args     []string // of the servers, not of the Sentinels
	// By is the port by which the replicas and the Sentinels reach the first master, such
	// as a [Proxy]'s in front of MasterAddr. Empty: its own.
	By string
	// MasterAddr is where the first master listens, without TLS. Empty: a free address.
	MasterAddr string
}

// StartSentinels runs a set until the test ends. With TLS, all of it speaks
// TLS.
func StartSentinels(t testing.TB, replicas int, tls *TLS) *Sentinels {
	t.Helper()
	set, err := NewSentinels(SentinelsOptions{Replicas: replicas, TLS: tls})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(set.Close)
	return set
}

// NewSentinels runs a set until Close. It returns when the Sentinels know one another
// and the replicas, and these are in step with the master.
func NewSentinels(o SentinelsOptions) (*Sentinels, error) {
	set := new(Sentinels)
	if err := set.start(o); err != nil {
		set.Close()
		return nil, err
	}
	return set, nil
}

func (set *Sentinels) start(o SentinelsOptions) (err error) {
	args := append([]string{"--repl-diskless-sync-delay", "0"}, o.Args...)
	if o.TLS != nil {
		args = append(args, "--tls-replication", "yes")
	}
	if set.Master, err = NewWith(Options{TLS: o.TLS, Args: args, Addr: o.MasterAddr}); err != nil {
		return err
	}
	port := o.By
	switch {
	case port != "":
	case o.TLS != nil:
		port = portOf(set.Master.TLSAddr)
	default:
		port = portOf(set.Master.Addr)
	}
	for range o.Replicas {
		replica, err := NewWith(Options{TLS: o.TLS, Args: append(slices.Clone(args), "--replicaof", "127.0.0.1", port)})
		if err != nil {
			return err
		}
		set.Replicas = append(set.Replicas, replica)
	}
	for range 3 {
		if err := set.addSentinel(port, o.TLS); err != nil {
			return err
		}
	}
	return set.ready()
}

// Servers are those that hold data: the first master, and its replicas.
func (set *Sentinels) Servers() []*Server {
	if set.Master == nil {
		return nil
	}
	return append([]*Server{set.Master}, set.Replicas...)
}

// Close ends all processes.
func (set *Sentinels) Close() {
	for _, s := range append(set.Processes, set.Servers()...) {
		s.Close()
	}
}

// Failover has a Sentinel promote a replica, as an operator does (SENTINEL FAILOVER).
func (set *Sentinels) Failover(ctx context.Context) error {
	client := set.ask(set.Processes[0])
	defer func() { _ = client.Close() }()
	return client.Failover(ctx, MasterName).Err()
}

// MasterOf is the address that a Sentinel gives for the master.
func (set *Sentinels) MasterOf(ctx context.Context, sentinel *Server) (string, error) {
	client := set.ask(sentinel)
	defer func() { _ = client.Close() }()
	pair, err := client.GetMasterAddrByName(ctx, MasterName).Result()
	if err != nil || len(pair) != 2 {
		return "", errors.Join(err, errors.New("a Sentinel names no master"))
	}
	return net.JoinHostPort(pair[0], pair[1]), nil
}

func (*Sentinels) ask(sentinel *Server) *redis.SentinelClient {
	return redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr, Password: Password})
}

func (set *Sentinels) addSentinel(port string, tls *TLS) error {
	s, err := newServer()
	if err != nil {
		return err
	}
	downAfter := DownAfter
	if tls != nil {
		downAfter = TLSDownAfter
	}
	lines := []string{
		"bind 127.0.0.1", "port " + portOf(s.Addr), "dir " + s.dir, "requirepass " + Password,
		"sentinel monitor " + MasterName + " 127.0.0.1 " + port + " 2",
		"sentinel auth-pass " + MasterName + " " + Password,
		fmt.Sprintf("sentinel down-after-milliseconds %s %d", MasterName, downAfter.Milliseconds()),
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
	client := set.ask(s)
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
