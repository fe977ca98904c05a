package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"go.uber.org/goleak"
)

// root is the repository's.
const root = "../.."

var (
	binary string // the real program, built of this tree
	tree   string // a copy of k8s, with passwords for the development Redis, and a user
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "coatcheck-manifests-")
	if err != nil {
		panic(err)
	}
	code := 1
	if err := prepare(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func prepare(dir string) error {
	binary, tree = filepath.Join(dir, "coatcheck"), filepath.Join(dir, "k8s")
	for _, part := range []string{"base", "components", "overlays"} {
		if err := os.CopyFS(filepath.Join(tree, part), os.DirFS(filepath.Join("..", part))); err != nil {
			return err
		}
	}
	// A developer may have passwords of their own there.
	passwords := filepath.Join(tree, "overlays/dev/passwords")
	if err := os.RemoveAll(passwords); err != nil {
		return err
	}
	for _, command := range []*exec.Cmd{
		exec.Command("go", "build", "-C", root, "-o", binary, "./cmd/coatcheck"),
		exec.Command(root+"/.ci/passwords", passwords),
		exec.Command(root+"/.ci/users", binary, passwords),
	} {
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(command.Args, " "), err, out)
		}
	}
	return nil
}

// settings is what the program makes of its configuration, as far as the
// manifests rely on it.
type settings struct {
	Listen   string
	LoginURL string `json:"login_url"`
	Login    struct {
		Listen  string
		Base    string   `json:"base_path"`
		Users   string   `json:"users_file"`
		Hops    string   `json:"trusted_hops"`
		Proxies []string `json:"trusted_proxies"`
		TLS     struct {
			Cert     string `json:"cert_file"`
			Key      string `json:"key_file"`
			ClientCA string `json:"client_ca_file"`
		}
		Hashes   int `json:"max_hashes"`
		Postgres struct {
			DSN      string
			Password string `json:"password_file"`
		}
	}
	Admin struct{ Listen string }
	TLS   struct {
		Cert     string `json:"cert_file"`
		Key      string `json:"key_file"`
		ClientCA string `json:"client_ca_file"`
	}
	Redis struct {
		Addresses []string
		Username  string
		Password  string `json:"password_file"`
		TLS       struct {
			CA string `json:"ca_file"`
		}
	}
	API struct {
		Listen  string
		Callers string `json:"callers_file"`
		TLS     struct {
			Cert     string `json:"cert_file"`
			Key      string `json:"key_file"`
			ClientCA string `json:"client_ca_file"`
		}
	}
	Shutdown struct{ Drain, Grace duration }

	all map[string]any
}

type duration struct{ time.Duration }

func (d *duration) UnmarshalText(text []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(text))
	return err
}

// files lists the paths that the program reads.
func (s settings) files() []string {
	var files []string
	for _, f := range []string{s.TLS.Cert, s.TLS.Key, s.TLS.ClientCA, s.Redis.Password, s.Redis.TLS.CA, s.Login.Users, s.Login.Postgres.Password, s.Login.TLS.Cert, s.Login.TLS.Key, s.Login.TLS.ClientCA, s.API.Callers, s.API.TLS.Cert, s.API.TLS.Key, s.API.TLS.ClientCA} {
		if f != "" {
			files = append(files, f)
		}
	}
	return files
}

// checks and serves say what it is there for.
func (s settings) checks() bool      { return s.Listen != "" }
func (s settings) servesLogin() bool { return s.Login.Listen != "" && s.hasUsers() }
func (s settings) hasUsers() bool    { return s.Login.Users != "" || s.Login.Postgres.DSN != "" }

// sharedProblems are the keys that both sides must agree about: else one would
// not know the cookies and sessions of the other.
func sharedProblems(check, login settings) []string {
	problems := sameProblems(check, login, "login")
	if path := check.LoginURL; path != login.Login.Base+"login" {
		problems = append(problems, fmt.Sprintf("login_url is %q, and login is at %slogin", path, login.Login.Base))
	}
	return problems
}

// sameProblems are those of checks and another side.
func sameProblems(check, login settings, other string) []string {
	var problems []string
	for _, key := range []string{"cookie", "session", "bearer", "redis.addresses", "redis.database", "redis.cluster", "redis.master_name", "redis.tls"} {
		of := func(s settings) any {
			section, name, inside := strings.Cut(key, ".")
			if values, ok := s.all[section].(map[string]any); ok && inside {
				return values[name]
			}
			return s.all[section]
		}
		if a, b := of(check), of(login); a == nil || !reflect.DeepEqual(a, b) {
			problems = append(problems, fmt.Sprintf("%s is %v for checks and %v for %s", key, a, b, other))
		}
	}
	return problems
}

// sideProblems say whether it is one of the two sides, with what that one needs,
// in so much memory.
func sideProblems(s settings, memory int64) []string {
	var problems []string
	problem := func(format string, arguments ...any) { problems = append(problems, fmt.Sprintf(format, arguments...)) }
	side := "check"
	if s.servesLogin() {
		side = "login"
	}
	if s.API.Listen != "" {
		side = "api"
	}
	if served := []bool{s.checks(), s.servesLogin(), s.API.Listen != ""}; count(served) != 1 {
		problem("checks, login and the session API: one process serves %d of them", count(served))
	}
	if side == "api" && s.API.TLS.ClientCA == "" {
		problem("the session API knows its callers by no certificate")
	}
	if user := map[string]string{"check": "coatcheck-check", "login": "coatcheck-login", "api": "coatcheck-api"}[side]; s.Redis.Username != user {
		problem("the %s side is the Redis user %s", side, s.Redis.Username)
	}
	if side != "login" {
		if s.hasUsers() {
			problem("the %s side needs no users", side)
		}
		return problems
	}
	if s.Login.Hops != "1" {
		problem("login.trusted_hops is %s, and Envoy is one", s.Login.Hops)
	}
	if len(s.Login.Proxies) == 0 {
		problem("login.trusted_proxies names no Envoy")
	}
	for _, proxy := range s.Login.Proxies {
		if !narrow(proxy) {
			problem("login.trusted_proxies: %s is more than the pods of a gateway, or of a cluster", proxy)
		}
	}
	// Of each hash as much again waits for the collector, and of the rest there has
	// been less than 96 MiB.
	if need := int64(96+2*19*s.Login.Hashes) << 20; s.Login.Hashes == 0 || need > memory {
		problem("login.max_hashes is %d (0: as many as the CPUs make it), and there is memory of %d MiB", s.Login.Hashes, memory>>20)
	}
	return problems
}

// count is how many are true.
func count(all []bool) (n int) {
	for _, one := range all {
		if one {
			n++
		}
	}
	return n
}

// narrow reports whether an address, or a network, is a private one of at most
// 65,536 IPv4 addresses, or a /64 of IPv6.
func narrow(proxy string) bool {
	network, err := netip.ParsePrefix(proxy)
	if err != nil {
		address, err := netip.ParseAddr(proxy)
		return err == nil && (address.IsPrivate() || address.IsLoopback())
	}
	address := network.Addr()
	least := 16
	if address.Is6() {
		least = 64
	}
	return network.Bits() >= least && (address.IsPrivate() || address.IsLoopback())
}

// effective asks the real program what a configuration file, which may be empty,
// variables and flags come to. Its error is the program's own, if it refuses them.
func effective(file string, variables []string, flags ...string) (settings, error) {
	var s settings
	path := ""
	if file != "" {
		dir, err := os.MkdirTemp(tree, "config-")
		if err != nil {
			return s, err
		}
		path = filepath.Join(dir, "coatcheck.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			return s, err
		}
		if _, err := run(nil, "config", "check", path); err != nil {
			return s, err
		}
	}
	out, err := run(variables, append([]string{"config", "--config", path}, flags...)...)
	if err != nil {
		return s, err
	}
	return s, errors.Join(yaml.Unmarshal(out, &s), yaml.Unmarshal(out, &s.all))
}

// run runs the program with these variables and no others.
func run(variables []string, arguments ...string) ([]byte, error) {
	command := exec.Command(binary, arguments...)
	command.Env = append([]string{}, variables...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("coatcheck %s: %w: %s", arguments[0], err, strings.ReplaceAll(stderr.String(), "\n", " "))
	}
	return out, nil
}

// A mutation is a mistake that a check must find: old is replaced by new in a
// file that is good, and a problem must then contain want.
type mutation struct{ name, old, new, want string }

// caught applies a mutation and expects its problem.
func caught(t *testing.T, good string, m mutation, problems func(string) []string) {
	t.Helper()
	t.Run(m.name, func(t *testing.T) {
		if !strings.Contains(good, m.old) {
			t.Fatalf("there is no %q to spoil in\n%s", m.old, good)
		}
		found := problems(strings.Replace(good, m.old, m.new, 1))
		for _, p := range found {
			if strings.Contains(p, m.want) {
				return
			}
		}
		t.Errorf("no problem contains %q: %q", m.want, found)
	})
}
