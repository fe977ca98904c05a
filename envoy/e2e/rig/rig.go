// Package rig runs what envoy.yaml describes, for the end-to-end tests, the
// demo and the benchmark: a real Envoy, a real Redis, the coatcheck binary and an
// upstream that echoes each request, all on loopback ports.
//
//	stack, err := rig.Start(rig.Options{Patient: true})
//	defer stack.Close()
//	// requests to stack.URL pass through Envoy
package rig

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	extauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// Options configure a [Stack]. The zero value is a stack of one Coatcheck without
// login pages.
type Options struct {
	// Front is the address that Envoy listens on. Empty: a free port.
	Front string
	// Coatcheck is the binary to run. Empty: it is built first.
	Coatcheck string
	// Arguments are further flags for coatcheck serve.
	Arguments []string
	// Replicas is how many Coatchecks Envoy spreads its checks over. Zero: 1.
	Replicas int
	// Users is a users file, in YAML, for login pages at /.auth/. Empty: no login.
	Users string
	// Environment are the variables of coatcheck serve. Nil: the [Credentials] of
	// LoginUser if there are Users, else those of CheckUser.
	Environment []string
	// Redis are further arguments for redis-server.
	Redis []string
	// RedisAddresses are where the Coatchecks find Redis, or its Sentinels. Nil: the
	// stack's own Redis.
	RedisAddresses []string
	// Log gets what the Coatchecks print, besides [Process.Output].
	Log io.Writer
	// Patient gives each check seconds instead of 150 ms, for tests that are not
	// about deadlines and may run on a busy machine.
	Patient bool
	// Bootstrap may change Envoy's configuration, as envoy.yaml gives it, with
	// its addresses replaced.
	Bootstrap func(*bootstrapv3.Bootstrap)
}

// A Stack is the four running programs.
type Stack struct {
	Redis    *redistest.Server
	Upstream *Echo
	*Replica // the first, or only, Coatcheck
	Replicas []*Replica
	Envoy    *Process

	URL       string // Envoy's front
	Admin     string // Envoy's admin interface
	Config    string // the file with Envoy's configuration
	dir       string
	coatcheck string
}

// A Replica is one Coatcheck and where it listens.
type Replica struct {
	Coatcheck *Process
	Checks    string // address of the gRPC listener
	Login     string // address of the login pages
	Operator  string // URL of the admin listener: /metrics, /readyz

	binary      string
	environment []string
	arguments   []string
	log         io.Writer
}

// Start runs the replica, also again after it has ended, and waits until it listens.
func (r *Replica) Start() (err error) {
	if r.Coatcheck, err = runTo(r.log, "coatcheck", r.binary, r.environment, r.arguments...); err != nil {
		return err
	}
	return r.Coatcheck.Answers(r.Checks)
}

// Start runs a stack until Close. On an error it has ended the programs that it had
// started.
func Start(o Options) (s *Stack, err error) {
	s = &Stack{coatcheck: o.Coatcheck}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := LookAtSources(); err != nil {
		return s, err
	}
	if s.dir, err = os.MkdirTemp("", "coatcheck-rig-"); err != nil {
		return s, err
	}
	if s.coatcheck == "" {
		s.coatcheck = filepath.Join(s.dir, "coatcheck")
		if err := Build(s.coatcheck); err != nil {
			return s, err
		}
	}
	users, err := RedisUsers()
	if err != nil {
		return s, err
	}
	if s.Redis, err = redistest.New(append(users, o.Redis...)...); err != nil {
		return s, err
	}
	if s.Upstream, err = NewEcho(); err != nil {
		return s, err
	}
	replicas := max(o.Replicas, 1)
	addresses, err := freeAddresses(2 + 3*replicas)
	if err != nil {
		return s, err
	}
	if o.Front != "" {
		addresses[0] = o.Front
	}
	s.URL, s.Admin = "http://"+addresses[0], "http://"+addresses[1]
	for i := range replicas {
		r, err := s.replica(o, addresses[2+3*i:])
		if err != nil {
			return s, err
		}
		s.Replicas = append(s.Replicas, r)
		if err := r.Start(); err != nil {
			return s, err
		}
	}
	s.Replica = s.Replicas[0]
	return s, s.startEnvoy(o, addresses)
}

// replica configures a replica that listens on the first three addresses.
func (s *Stack) replica(o Options, addresses []string) (*Replica, error) {
	checks, operator, login := addresses[0], addresses[1], addresses[2]
	r := &Replica{Checks: checks, Operator: "http://" + operator, Login: login, binary: s.coatcheck, environment: o.Environment, log: o.Log}
	switch {
	case r.environment != nil:
	case o.Users != "":
		r.environment = Credentials(LoginUser)
	default:
		r.environment = Credentials(CheckUser)
	}
	redis := s.Redis.Addr
	if o.RedisAddresses != nil {
		redis = strings.Join(o.RedisAddresses, ",")
	}
	r.arguments = append([]string{
		"serve", "--listen", checks, "--admin-listen", operator, "--login-listen", login, "--redis-addresses", redis,
		"--shutdown-drain", "0s", "--log-decisions", "all",
	}, o.Arguments...)
	if o.Patient {
		r.arguments = append(r.arguments, "--timeout", "9s")
	}
	if o.Users == "" {
		return r, nil
	}
	users := filepath.Join(s.dir, "users.yaml")
	r.arguments = append(r.arguments, "--login-users-file", users, "--login-trusted-hops", "1", "--login-trusted-proxies", "127.0.0.1")
	return r, os.WriteFile(users, []byte(o.Users), 0o600)
}

// Environment is the variables that coatcheck session needs to reach Redis.
func (s *Stack) Environment() []string {
	return append(Credentials(ManageUser), "COATCHECK_REDIS_ADDRESSES="+s.Redis.Addr)
}

// Command runs the coatcheck binary to its end and returns its standard output.
func (s *Stack) Command(stdin string, arguments ...string) (string, error) {
	cmd := exec.Command(s.coatcheck, arguments...)
	cmd.Env = append(inherited(), s.Environment()...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("coatcheck %s: %s", arguments[0], strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

// startEnvoy runs Envoy with envoy.yaml, its addresses replaced: the front, the
// admin interface, Coatcheck, and the upstream.
func (s *Stack) startEnvoy(o Options, addresses []string) error {
	binary, err := testtools.Program("envoy", "ENVOY")
	if err != nil {
		return err
	}
	bootstrap, err := Bootstrap()
	if err != nil {
		return err
	}
	clusters := map[string][]string{"upstream": {s.Upstream.Addr}}
	for _, r := range s.Replicas {
		clusters["coatcheck"] = append(clusters["coatcheck"], r.Checks)
		clusters["login"] = append(clusters["login"], r.Login)
	}
	if err := replaceAddresses(bootstrap, addresses[0], addresses[1], clusters); err != nil {
		return err
	}
	if o.Patient {
		ChangeFilter(bootstrap, func(f *extauthzv3.ExtAuthz) { f.GetGrpcService().Timeout = durationpb.New(10 * time.Second) })
	}
	if o.Bootstrap != nil {
		o.Bootstrap(bootstrap)
	}
	s.Config = filepath.Join(s.dir, "envoy.json")
	if err := write(bootstrap, s.Config); err != nil {
		return err
	}
	arguments := []string{"-c", s.Config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"}
	if bootstrap.GetNode() == nil { // a control plane knows an Envoy by the name that its configuration gives
		arguments = append(arguments, "--service-node", "rig", "--service-cluster", "rig")
	}
	s.Envoy, err = Run("envoy", binary, nil, arguments...)
	if err != nil {
		return err
	}
	return s.Envoy.Answers(addresses[0])
}

// Close ends all programs, Envoy first.
func (s *Stack) Close() {
	_ = s.Envoy.Stop()
	for _, r := range s.Replicas {
		_ = r.Coatcheck.Stop()
	}
	if s.Upstream != nil {
		s.Upstream.Close()
	}
	if s.Redis != nil {
		s.Redis.Close()
	}
	_ = os.RemoveAll(s.dir)
}

// Build builds the coatcheck binary as `make build` does: each then finds compiled
// what the other has compiled. The path must be absolute. Flags are further ones of go build.
func Build(path string, flags ...string) error {
	file, err := find("envoy/envoy.yaml")
	if err != nil {
		return err
	}
	root := filepath.Dir(filepath.Dir(file)) // the module of a test may be another one
	args := append([]string{"build", "-C", root, "-trimpath", "-ldflags=-s -w", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, "./cmd/coatcheck")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building coatcheck: %w\n%s", err, out)
	}
	return nil
}

// LookAtSources lets the go command know what a test depends on: it caches results by
// the files that the test itself has looked at, and go build is another process. It
// has no effect before the first test, in TestMain.
var LookAtSources = sync.OnceValue(func() error {
	file, err := find("envoy/envoy.yaml")
	if err != nil {
		return err
	}
	for _, room := range []string{"cmd", "extauthz", "internal", "sessions", "go.mod", "go.sum"} {
		err := filepath.WalkDir(filepath.Join(filepath.Dir(file), "..", room), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			_, err = os.Stat(path)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
})

// freeAddresses reserves n loopback addresses.
func freeAddresses(n int) ([]string, error) {
	var addresses []string
	for range n {
		addr, err := testtools.Addr()
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, addr)
	}
	return addresses, nil
}
