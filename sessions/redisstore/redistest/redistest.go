// Package redistest runs a real redis-server for tests and demonstrations: on
// a free loopback port, without persistence, ended with the test. It can be
// paused, killed and started again, as Redis is on a bad day.
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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Password is what a Server asks for.
const Password = "redistest-password"

// A Server is one redis-server process. Its methods are not safe for
// concurrent use.
type Server struct {
	Addr string // host and port

	binary string
	dir    string
	args   []string
	cmd    *exec.Cmd
	output bytes.Buffer
	exited chan struct{}
}

// Start runs a server until the test ends. Further args are those of
// redis-server.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s, err := New(args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// New runs a server until Close.
func New(args ...string) (*Server, error) {
	binary, err := Binary()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_ = listener.Close()
	// A directory of its own: a replica leaves a dump there, which the next server
	// would load.
	dir, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: listener.Addr().String(), binary: binary, dir: dir, args: args}
	if err := s.Restart(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Binary finds redis-server.
func Binary() (string, error) { return Tool("redis-server", "REDIS_SERVER") }

// Tool finds a program by the environment's variable, on the PATH, or in
// .tools/bin of the module that the working directory belongs to.
func Tool(name, variable string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		return path, nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	dir, err := os.Getwd()
	for err == nil {
		path := filepath.Join(dir, ".tools", "bin", name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", fmt.Errorf("no %s: run `make tools`, or name one with %s=", name, variable)
}

// Restart starts the server, empty, on the same port, and waits until it
// answers. It ends one that still runs.
func (s *Server) Restart() error {
	s.Kill()
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	s.output.Reset()
	s.cmd = exec.Command(s.binary, append([]string{
		"--bind", host, "--port", port, "--requirepass", Password, "--masterauth", Password,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}, s.args...)...)
	s.cmd.Dir = s.dir
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

// ready waits until the server answers.
func (s *Server) ready() error {
	client := s.Client()
	defer func() { _ = client.Close() }()
	var err error
	for range 200 {
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
