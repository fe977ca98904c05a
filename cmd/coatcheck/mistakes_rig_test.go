package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A rig is what the mistakes are made in: a directory, a Redis, free ports. They
// have other names here than in the table.
type rig struct {
	*testing.T
	dir    string
	binary string            // the command, built
	real   map[string]string // from the table's names to those here
}

func newRig(t *testing.T) *rig {
	dir := t.TempDir()
	r := &rig{T: t, dir: dir, binary: filepath.Join(t.TempDir(), "coatcheck"), real: map[string]string{
		"/run/coatcheck": dir,
		"127.0.0.1:6379": redistest.Start(t).Addr,
	}}
	// A loopback address that no other process uses: a port that is free stays so.
	pid := os.Getpid()
	host := fmt.Sprintf("127.%d.%d.%d", 1+pid>>16%200, pid>>8%256, 1+pid%250)
	for _, address := range []string{"127.0.0.1:9001", "127.0.0.1:9003", "127.0.0.1:9102", "127.0.0.1:9103", "127.0.0.1:6380", "127.0.0.1:8080"} {
		listener, err := net.Listen("tcp", host+":0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close() // only when all are known, so that they differ
		r.real[address] = listener.Addr().String()
	}
	// As `make build` does, so that it is compiled once.
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", r.binary, "./cmd/coatcheck")
	build.Dir, build.Env = docstest.Root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Chdir(dir)
	r.write("redis.password", "hunter2\n")
	r.write("blank.password", "\n")
	r.certificates()
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "COATCHECK_") {
			t.Setenv(name, "")
			_ = os.Unsetenv(name)
		}
	}
	t.Setenv("COATCHECK_LISTEN", r.here("127.0.0.1:9001"))
	t.Setenv("COATCHECK_ADMIN_LISTEN", r.here("127.0.0.1:9102"))
	t.Setenv("COATCHECK_REDIS_ADDRESSES", r.here("127.0.0.1:6379"))
	t.Setenv("COATCHECK_REDIS_PASSWORD", redistest.Password)
	t.Setenv("COATCHECK_SHUTDOWN_DRAIN", "0s")
	return r
}

func (r *rig) certificates() {
	ca, err := testca.New()
	old := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	err = errors.Join(err, ca.Write("ca.crt"),
		ca.Issue("server.crt", "server.key", testca.Leaf{}),
		ca.Issue("client.crt", "client.key", testca.Leaf{}),
		ca.Issue("expired.crt", "expired.key", testca.Leaf{NotBefore: old, NotAfter: old.AddDate(0, 3, 0)}))
	if err != nil {
		r.Fatal(err)
	}
}

// here puts the names of this place for the table's, canonical the other way.
func (r *rig) here(text string) string {
	for there, here := range r.real {
		text = strings.ReplaceAll(text, there, here)
	}
	return text
}

func (r *rig) canonical(text string) string {
	for there, here := range r.real {
		text = strings.ReplaceAll(text, here, there)
	}
	return text
}

func (r *rig) write(name, text string) {
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) read(name string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		r.Fatal(err)
	}
	return string(text)
}

func (r *rig) mkdir(name string) {
	if err := os.Mkdir(name, 0o700); err != nil {
		r.Fatal(err)
	}
}

// serving runs a server, in a process of its own, until the mistake has been made,
// and holds it to going on as if nothing had happened.
func (r *rig) serving(more ...string) {
	args := append([]string{"serve", "--log-level", "error"}, more...)
	for i := range args {
		args[i] = r.here(args[i])
	}
	var printed bytes.Buffer
	cmd := exec.Command(r.binary, args...)
	cmd.Stderr = &printed
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	answers := func() bool {
		_, err := ask(context.Background(), "http://"+r.here("127.0.0.1:9102")+"/readyz", time.Second)
		return err == nil
	}
	r.Cleanup(func() {
		well := answers()
		for range 20 { // the machine may be busy
			well = well || answers()
		}
		if !well {
			r.Error("the server that was there first does not answer any more")
		}
		if err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil {
			r.Errorf("the server that was there first ends with %v: %s", err, printed.String())
		}
	})
	for end := time.Now().Add(time.Minute); !answers(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatal("the first start does not get ready")
		}
	}
}

// webServer answers as no Redis does.
func (r *rig) webServer() {
	listener, err := net.Listen("tcp", r.here("127.0.0.1:8080"))
	if err != nil {
		r.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	r.Cleanup(server.Close)
}

// users writes a users file that is good.
func (r *rig) users() {
	hash, err := passwords.HashPassword("hunter2")
	if err != nil {
		r.Fatal(err)
	}
	r.write("users.yaml", "- {id: '42', username: ada, password_hash: '"+hash+"'}\n")
}

// make makes the mistake, in this process and by the command as it is built, and
// returns what both say.
func (r *rig) make(m mistake) (message string, status int) {
	for _, variable := range strings.Fields(r.here(m.env)) {
		name, value, _ := strings.Cut(variable, "=")
		r.Setenv(name, value)
	}
	if m.without != "" {
		r.Setenv(m.without, "")
	}
	if m.file != "" {
		r.write("coatcheck.yaml", m.file+"\n")
	}
	if m.rules != "" {
		r.write("policies.yaml", m.rules+"\n")
	}
	if m.before != nil {
		m.before(r)
	}
	leaks, files := goleak.IgnoreCurrent(), r.files()
	args := strings.Fields(r.here(m.args))
	outside, code := "", 0
	for range 3 { // a Redis that was too slow to refuse is asked again
		if status == 0 {
			message, status = r.inside(args, m.stdin)
		}
		if code == 0 {
			outside, code = r.outside(args, m.stdin)
		}
	}
	if code != status || outside != message {
		r.Errorf("the binary says, with status %d and not %d:\n%s and not\n%s", code, status, outside, message)
	}
	err := goleak.Find(leaks)
	for since := time.Now(); err != nil && time.Since(since) < 20*time.Second; { // the machine may be busy
		err = goleak.Find(leaks)
	}
	if err != nil {
		r.Errorf("it leaves something running: %v", err)
	}
	if now := r.files(); !slices.Equal(now, files) {
		r.Errorf("it leaves files behind: %q, before: %q", now, files)
	}
	return r.canonical(message), status
}

func (r *rig) inside(args []string, stdin string) (string, int) {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	status := run(ctx, args, strings.NewReader(stdin), &out, &errs)
	if out.Len() > 0 {
		r.Errorf("it prints %s", out.String())
	}
	return errs.String(), status
}

func (r *rig) outside(args []string, stdin string) (string, int) {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.binary, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	_ = cmd.Run()
	return errs.String(), cmd.ProcessState.ExitCode()
}

func (r *rig) files() []string {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// ports fails unless every port can be listened on again.
func (r *rig) ports() {
	for there, here := range r.real {
		if _, _, err := net.SplitHostPort(there); err != nil || there == "127.0.0.1:6379" {
			continue
		}
		listener, err := net.Listen("tcp", here)
		if err != nil {
			r.Errorf("it holds %s: %v", there, err)
			continue
		}
		_ = listener.Close()
	}
}
