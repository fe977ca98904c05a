package stage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A node is one process of Redis, with a proxy before each port.
type node struct {
	name   source
	server *redistest.Server
	proxy  *proxy   // by which clients, replicas and Sentinels come
	bus    *proxy   // by which the other nodes of a Cluster come; nil: it is in none
	fronts []*proxy // proxy, and others by which Coatcheck may come

	dir       string   // of its data
	coatcheck string   // the user as which Coatcheck comes
	alive     bool     // false: killed
	lines     []string // further ones of its configuration
}

// newNode starts a server whose data is in a folder of its own.
func (s *Stage) newNode(name source, lines ...string) (*node, error) {
	n := &node{name: name, dir: filepath.Join(s.dir, string(name)), coatcheck: s.user(), lines: lines}
	s.nodes = append(s.nodes, n)
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		return n, err
	}
	if err := os.WriteFile(n.own(), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return n, err
	}
	if err := s.front(&n.proxy); err != nil {
		return n, err
	}
	n.fronts = []*proxy{n.proxy}
	args := append(s.args(n), "--include", s.users(), "--include", n.own())
	if s.o.Kind == Cluster {
		port, err := s.frontBus(n)
		if err != nil {
			return n, err
		}
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", port,
			"--cluster-announce-bus-port", portOf(n.bus.addr), "--cluster-announce-port", portOf(n.proxy.addr))
	}
	var err error
	if n.server, err = redistest.NewWith(redistest.Options{Program: s.o.Redis, TLS: s.serverTLS(), Clock: s.o.Clock, Args: args}); err != nil {
		return n, err
	}
	n.alive = true
	return n, n.proxy.leadTo(s.port(n.server))
}

// own is the file of the node's own lines.
func (n *node) own() string { return n.dir + ".conf" }

// args are those of a server of this stage.
func (s *Stage) args(n *node) []string {
	args := []string{
		"--dir", n.dir, "--appendonly", "yes", "--appendfsync", "always", "--bind-source-addr", s.census.enroll(n.name),
		"--masteruser", admin, "--masterauth", redistest.Password, "--enable-debug-command", "yes",
		"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--repl-timeout", "5",
		"--busy-reply-threshold", "50",
	}
	if s.o.Sessions == 0 { // a load of few keys is to be noticed
		args = append(args, "--loading-process-events-interval-bytes", "1024")
	}
	switch s.o.Kind {
	case Sentinel:
		args = append(args, "--replica-announce-ip", "127.0.0.1", "--replica-announce-port", portOf(n.proxy.addr))
	case Cluster:
		args = append(args, "--cluster-announce-ip", "127.0.0.1", "--cluster-node-timeout", milliseconds(NodeTimeout),
			"--cluster-require-full-coverage", "no", "--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no")
	}
	if s.o.TLS {
		args = append(args, "--tls-replication", "yes")
	}
	if s.o.TLS && s.o.Kind == Cluster {
		args = append(args, "--tls-cluster", "yes", "--cluster-announce-tls-port", portOf(n.proxy.addr))
	}
	return args
}

// front makes a proxy that leads nowhere yet.
func (s *Stage) front(p **proxy) (err error) {
	*p, err = newProxy(s.random.Uint64(), s.census)
	if *p != nil {
		s.proxies = append(s.proxies, *p)
	}
	return err
}

// frontBus makes the proxy before the node's port for other nodes, which it returns.
func (s *Stage) frontBus(n *node) (port string, err error) {
	addr, err := testtools.Addr()
	if err != nil {
		return "", err
	}
	if err := s.front(&n.bus); err != nil {
		return "", err
	}
	return portOf(addr), n.bus.leadTo(addr)
}

// port is where Coatcheck's connections lead.
func (s *Stage) port(server *redistest.Server) string {
	if s.o.TLS {
		return server.TLSAddr
	}
	return server.Addr
}

// kill ends the process without farewell; from then on its port refuses.
func (n *node) kill() error {
	if !n.alive {
		return nil
	}
	n.rewrite()
	n.server.Kill()
	n.alive = false
	return n.shutDoors(1)
}

// rewrite keeps whom the node follows now for its next start, as Redis does in its
// configuration file (CONFIG REWRITE); that of a Cluster has a file of its own for it.
func (n *node) rewrite() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	is, err := n.isMaster(ctx)
	if err != nil || n.bus != nil {
		return
	}
	if n.lines = nil; is {
		return
	}
	if master, err := n.master(ctx); err == nil {
		n.lines = []string{"replicaof 127.0.0.1 " + portOf(master)}
	}
}

// start starts it again with its data, and these lines of configuration beside the others.
func (n *node) start(lines ...string) error {
	if n.alive {
		return nil
	}
	text := strings.Join(append(lines, n.lines...), "\n") + "\n"
	if err := os.WriteFile(n.own(), []byte(text), 0o600); err != nil {
		return err
	}
	if err := n.server.Restart(); err != nil {
		return err
	}
	n.alive = true
	return n.shutDoors(-1)
}

func (n *node) shutDoors(by int) error {
	var errs []error
	for _, p := range n.doors() {
		errs = append(errs, p.change(func() { p.shut += by }))
	}
	return errors.Join(errs...)
}

// doors are all proxies before the node.
func (n *node) doors() []*proxy {
	if n.bus == nil {
		return n.fronts
	}
	return append([]*proxy{n.bus}, n.fronts...)
}

// empty removes the data of a dead node.
func (n *node) empty() error {
	for _, name := range []string{"appendonlydir", "dump.rdb"} {
		if err := os.RemoveAll(filepath.Join(n.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// client is past the proxies, with patience of seconds. It is the caller's to close.
func (n *node) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: n.server.Addr, Username: admin, Password: redistest.Password, Protocol: 2, PoolSize: 1, MaxRetries: -1,
		DialTimeout: time.Second, ReadTimeout: 5 * time.Second, ContextTimeoutEnabled: true, DisableIdentity: true,
		DialerRetries: 1, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// do sends one command over a connection of its own.
func (n *node) do(ctx context.Context, args ...any) (any, error) {
	client := n.client()
	defer func() { _ = client.Close() }()
	reply, err := client.Do(ctx, args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("%s: %v: %w", n.name, args[0], err)
	}
	return reply, nil
}

// set changes settings, all or none, until the returned function is called or the process
// ends.
func (n *node) set(ctx context.Context, pairs ...string) (undo func() error, err error) {
	var before []string
	for i := 0; i < len(pairs); i += 2 {
		reply, err := n.do(ctx, "config", "get", pairs[i])
		values, ok := reply.([]any)
		if err != nil || !ok || len(values) != 2 {
			return nil, errors.Join(fmt.Errorf("%s: no setting %s", n.name, pairs[i]), err)
		}
		before = append(before, pairs[i], fmt.Sprint(values[1]))
	}
	return func() error { return n.configure(context.Background(), before...) }, n.configure(ctx, pairs...)
}

func (n *node) configure(ctx context.Context, pairs ...string) error {
	args := []any{"config", "set"}
	for _, value := range pairs {
		args = append(args, value)
	}
	_, err := n.do(ctx, args...)
	return err
}

// info is one line of INFO.
func (n *node) info(ctx context.Context, section, name string) (string, error) {
	return n.line(ctx, name, "info", section)
}

// line is the value of a name in a reply of lines.
func (n *node) line(ctx context.Context, name string, command ...any) (string, error) {
	reply, err := n.do(ctx, command...)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(fmt.Sprint(reply)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("%s: %v has no %s", n.name, command, name)
}

// isMaster reports what the node says of itself.
func (n *node) isMaster(ctx context.Context) (bool, error) {
	role, err := n.info(ctx, "replication", "role")
	return role == "master", err
}

// master is the address of the proxy before the master that a replica follows.
func (n *node) master(ctx context.Context) (string, error) {
	port, err := n.info(ctx, "replication", "master_port")
	return net.JoinHostPort("127.0.0.1", port), err
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
