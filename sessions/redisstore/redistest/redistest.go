// Package redistest runs a real redis-server for tests and demonstrations: on
// a free loopback port, without persistence, ended with the test. It can be
// paused, killed and started again, as Redis is on a bad day. [StartWith] adds TLS
// and a Unix socket, [StartSentinels] and [StartCluster] run several of them, and
// [Topologies] is the list of all that suites run over:
//
//	for _, topology := range redistest.Topologies() {
//		redis, err := redistest.NewDeployment(topology, redistest.DeploymentOptions{})
//		...
//		defer redis.Close()
//		redis.Configure(&options) // of go-redis
//	}
//
// What begins with Start ends with a test; what begins with New needs none.
//
// The server is the one that the variable REDIS_SERVER names, else the one on
// the PATH, else the one that make has put into .tools/bin. Where there is none
// the test fails; it is never skipped.
package redistest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/internal/testtools"
)

// Password is what a Server asks for.
const Password = "redistest-password"

// A Server is one redis-server process. Its methods are not safe for
// concurrent use.
type Server struct {
	Addr    string // host and port, without TLS
	TLSAddr string // host and port, with TLS; empty: none
	Socket  string // path of the Unix socket; empty: none

	binary string
	dir    string
	args   []string
	config string // text of a Sentinel's configuration; empty: a Redis
	env    []string
	cmd    *exec.Cmd
	output bytes.Buffer
	exited chan struct{}
}

// Options say what a Server has beyond the usual.
type Options struct {
	TLS     *TLS     // listens on TLSAddr, too
	Socket  bool     // listens on Socket, too
	Cluster bool     // is a node of a Cluster, without slots
	Clock   bool     // has a clock that SetClock sets
	Args    []string // those of redis-server
	Addr    string   // where it listens, without TLS; empty: a free address
	// Program is the path of another server, such as Valkey. Empty: [Binary].
	Program string
	// Sentinel makes it a Sentinel: the lines of its configuration beyond address, folder
	// and password.
	Sentinel []string
}

// TLS names PEM files of a Server.
type TLS struct {
	CertFile, KeyFile, CAFile string
	// ClientCerts refuses clients without a certificate that CAFile signed.
	ClientCerts bool
}

func (t *TLS) args() []string {
	if t == nil {
		return nil
	}
	clients := "no"
	if t.ClientCerts {
		clients = "yes"
	}
	return []string{"--tls-cert-file", t.CertFile, "--tls-key-file", t.KeyFile, "--tls-ca-cert-file", t.CAFile, "--tls-auth-clients", clients}
}

// Start runs a server until the test ends. Further args are those of
// redis-server.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return StartWith(t, Options{Args: args})
}

// StartWith runs a server until the test ends.
func StartWith(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := NewWith(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// New runs a server until Close.
func New(args ...string) (*Server, error) { return NewWith(Options{Args: args}) }

// NewWith runs a server until Close.
func NewWith(o Options) (*Server, error) {
	s, err := newServer()
	if err != nil {
		return nil, err
	}
	s.args = o.Args
	if o.Addr != "" {
		s.Addr = o.Addr
	}
	if o.Program != "" {
		s.binary = o.Program
	}
	if o.Sentinel != nil {
		s.config = strings.Join(append([]string{"bind 127.0.0.1", "port " + portOf(s.Addr), "dir " + s.dir, "requirepass " + Password}, o.Sentinel...), "\n") + "\n"
	}
	if o.Clock {
		if err := s.fakeClock(); err != nil {
			return nil, err
		}
	}
	if o.Socket {
		s.Socket = filepath.Join(s.dir, "redis.sock")
		s.args = append([]string{"--unixsocket", s.Socket}, s.args...)
	}
	if o.TLS != nil {
		if s.TLSAddr, err = testtools.Addr(); err != nil {
			return nil, err
		}
		s.args = slices.Concat([]string{"--tls-port", portOf(s.TLSAddr)}, o.TLS.args(), s.args)
	}
	if o.Cluster {
		bus, err := testtools.Addr() // by default 10000 above the port, which may be too high
		if err != nil {
			return nil, err
		}
		s.args = append([]string{"--cluster-enabled", "yes", "--cluster-port", portOf(bus)}, s.args...)
	}
	if err := s.Restart(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// newServer has an address and a directory of its own: a replica leaves a dump
// there, which the next server would load.
func newServer() (*Server, error) {
	binary, err := Binary()
	if err != nil {
		return nil, err
	}
	addr, err := testtools.Addr()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		return nil, err
	}
	return &Server{Addr: addr, binary: binary, dir: dir}, nil
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// Binary finds redis-server.
func Binary() (string, error) { return testtools.Program("redis-server", "REDIS_SERVER") }

// Restart starts the server, empty, on the same port, and waits until it
// answers. It ends one that still runs. A node of a Cluster and a Sentinel
// remember who they are.
func (s *Server) Restart() error {
	s.Kill()
	s.output.Reset()
	args, err := s.commandLine()
	if err != nil {
		return err
	}
	s.cmd = exec.Command(s.binary, args...)
	s.cmd.Dir = s.dir
	s.cmd.Env = append(os.Environ(), s.env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", s.binary, err)
	}
	exited := make(chan struct{})
	s.exited = exited
	cmd := s.cmd
	go func() { _ = cmd.Wait(); close(exited) }()
	return s.ready()
}

// fakeClock has libfaketime tell the server its time of day, as a file says. What
// has elapsed stays true.
func (s *Server) fakeClock() error {
	library, err := testtools.Program("libfaketimeMT.so.1", "FAKETIME_LIB")
	if err != nil {
		return err
	}
	s.env = []string{
		// The C library behind it, before jemalloc, which asks for the time while
		// libfaketime asks for memory.
		"LD_PRELOAD=" + library + " libc.so.6", "FAKETIME_TIMESTAMP_FILE=" + s.clockFile(), "FAKETIME_NO_CACHE=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1",
	}
	return s.SetClock(0)
}

func (s *Server) clockFile() string { return filepath.Join(s.dir, "clock") }

// SetClock sets the clock of a server with Options.Clock so far ahead of the true
// time.
func (s *Server) SetClock(ahead time.Duration) error {
	next := s.clockFile() + ".next"
	if err := os.WriteFile(next, fmt.Appendf(nil, "%+d", int(ahead.Seconds())), 0o600); err != nil {
		return err
	}
	return os.Rename(next, s.clockFile())
}

func (s *Server) commandLine() ([]string, error) {
	if s.config != "" {
		path := filepath.Join(s.dir, "sentinel.conf")
		if _, err := os.Stat(path); err != nil { // it writes to it
			if err := os.WriteFile(path, []byte(s.config), 0o600); err != nil {
				return nil, err
			}
		}
		return append([]string{path, "--sentinel"}, s.args...), nil
	}
	return append([]string{
		"--bind", "127.0.0.1", "--port", portOf(s.Addr), "--requirepass", Password, "--masterauth", Password,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}, s.args...), nil
}

// ready waits until the server answers.
func (s *Server) ready() error {
	client := s.Client()
	defer func() { _ = client.Close() }()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		select {
		case <-s.exited:
			return fmt.Errorf("redis-server ended: %s", strings.TrimSpace(s.output.String()))
		case <-time.After(25 * time.Millisecond):
		}
		if err = s.answers(client); err == nil {
			return nil
		}
	}
	return errors.Join(errors.New("redis-server does not answer"), err)
}

// answers asks for the process's ID: on the port may be another's server.
func (s *Server) answers(client *redis.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	info, err := client.Info(ctx, "server").Result()
	if err == nil && !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", s.cmd.Process.Pid)) {
		err = errors.New("another server is on the port")
	}
	return err
}

// SetUser makes an ACL user anew, by rules as in a line of Redis's ACL file. It
// lasts until Restart.
func (s *Server) SetUser(name string, rules ...string) error {
	client := s.Client()
	defer func() { _ = client.Close() }()
	args := []any{"acl", "setuser", name, "reset"}
	for _, rule := range rules {
		args = append(args, rule)
	}
	return client.Do(context.Background(), args...).Err()
}

// Client returns a new client with patience, for arranging and looking. It is
// the caller's to close.
func (s *Server) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Addr, Password: Password, ContextTimeoutEnabled: true})
}

// Pid is the process's ID.
func (s *Server) Pid() int { return s.cmd.Process.Pid }

// Pause stops the process where it stands; connections stay open.
func (s *Server) Pause() error { return s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (s *Server) Resume() error { return s.cmd.Process.Signal(syscall.SIGCONT) }

// Kill ends the process without farewell.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.cmd = nil
}

// Close ends the server.
func (s *Server) Close() {
	s.Kill()
	_ = os.RemoveAll(s.dir)
}
