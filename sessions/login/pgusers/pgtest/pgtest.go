// Package pgtest runs a real PostgreSQL for tests: a cluster of its own in a
// temporary directory, on a free loopback port, ended with the test. It can be
// killed and started again, as a database is on a bad day; what was committed is
// still there then.
//
// The programs initdb and postgres are those in the directory that the variable
// POSTGRES names, else those on the PATH, else the newest below
// /usr/lib/postgresql, else those that make has put into .tools/bin. Without
// them the test fails; it is never skipped.
//
// PostgreSQL refuses to run as root, so for root it runs as the user postgres or
// nobody, who must be able to read the programs.
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/coatcheck/coatcheck/internal/testtools"
)

// User is the superuser of a [Server], and Password what it asks for.
const (
	User     = "postgres"
	Password = "pgtest-password"
)

// A Server is one PostgreSQL cluster. Its methods are not safe for concurrent
// use.
type Server struct {
	Addr string // host and port

	programs programs
	dir      string
	cmd      *exec.Cmd
	output   bytes.Buffer
	exited   chan struct{}
}

// Start runs a server until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// New runs a server until Close.
func New() (*Server, error) {
	programs, err := find()
	if err != nil {
		return nil, err
	}
	addr, err := testtools.Addr()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return nil, err
	}
	s := &Server{Addr: addr, programs: programs, dir: dir}
	if err := errors.Join(s.init(), s.Restart()); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// init makes the cluster.
func (s *Server) init() error {
	password := filepath.Join(s.dir, "password")
	if err := os.WriteFile(password, []byte(Password+"\n"), 0o600); err != nil {
		return err
	}
	if err := errors.Join(s.programs.own(s.dir), s.programs.own(password)); err != nil {
		return err
	}
	cmd := s.programs.command("initdb", s.dir, "--pgdata="+s.data(), "--username="+User, "--pwfile="+password,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(output))
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Restart starts the server on the same port, with the same data, and waits
// until it answers. It ends one that still runs.
func (s *Server) Restart() error {
	s.Kill()
	s.output.Reset()
	_, port, _ := net.SplitHostPort(s.Addr)
	s.cmd = s.programs.command("postgres", s.dir, "-D", s.data(), "-h", "127.0.0.1", "-p", port,
		"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "full_page_writes=off",
		"-c", "shared_buffers=16MB", "-c", "max_connections=60", "-c", "dynamic_shared_memory_type=mmap")
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("starting postgres: %w", err)
	}
	exited, cmd := make(chan struct{}), s.cmd
	s.exited = exited
	go func() { _ = cmd.Wait(); close(exited) }()
	return s.ready()
}

// ready waits until the server answers.
func (s *Server) ready() error {
	var err error
	for range 600 {
		select {
		case <-s.exited:
			return fmt.Errorf("postgres ended: %s", strings.TrimSpace(s.output.String()))
		case <-time.After(25 * time.Millisecond):
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		// On the port may be another's server, with other data.
		var data string
		data, err = s.query(ctx, "postgres", "SHOW data_directory")
		cancel()
		if err == nil && data == s.data() {
			return nil
		}
	}
	return errors.Join(errors.New("postgres does not answer"), err)
}

// URL is the connection string of a user with its password; without one where
// the password is empty.
func (s *Server) URL(user, password, database string) string {
	who := url.User(user)
	if password != "" {
		who = url.UserPassword(user, password)
	}
	return (&url.URL{Scheme: "postgres", User: who, Host: s.Addr, Path: "/" + database, RawQuery: "sslmode=disable"}).String()
}

// Exec runs SQL in a database as the superuser, or fails the test.
func (s *Server) Exec(t testing.TB, database, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := s.query(ctx, database, sql); err != nil {
		t.Fatal(err)
	}
}

// Value is what the one row and column of a query holds.
func (s *Server) Value(t testing.TB, database, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	value, err := s.query(ctx, database, sql)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// query runs SQL of one or more statements, and returns the first value of the
// last one.
func (s *Server) query(ctx context.Context, database, sql string) (string, error) {
	conn, err := pgx.Connect(ctx, s.URL(User, Password, database))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return "", err
	}
	if rows := results[len(results)-1].Rows; len(rows) > 0 && len(rows[0]) > 0 {
		return string(rows[0][0]), nil
	}
	return "", nil
}

// Pause stops the processes where they stand; connections stay open.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

// signal reaches the server and the processes of its connections, which are in
// process groups of their own.
func (s *Server) signal(signal syscall.Signal) error {
	pid := s.cmd.Process.Pid
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	errs := []error{err, syscall.Kill(pid, signal)}
	for _, field := range strings.Fields(string(children)) {
		child, err := strconv.Atoi(field)
		if err == nil {
			err = syscall.Kill(child, signal)
		}
		if !errors.Is(err, syscall.ESRCH) { // ended since
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Kill ends the server without farewell to its clients, and without a
// checkpoint, so that the next one has to recover.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGQUIT) // the "immediate shutdown", which takes the other processes along
	select {
	case <-s.exited:
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	s.cmd = nil
}

// Close ends the server and removes its data.
func (s *Server) Close() {
	s.Kill()
	_ = os.RemoveAll(s.dir)
}
