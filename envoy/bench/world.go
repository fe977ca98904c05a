package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coatcheck/coatcheck/envoy/bench/load"
	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A world is what a measurement needs: one Redis, the servers that are compared, one
// Envoy in front of all of them, and the process that sends requests. Everything is up
// at once, so that measurements can alternate.
type world struct {
	dir     string
	redis   *redistest.Server
	servers map[string]*server
	fronts  map[string]string // address of Envoy's listener for a front, by its name
	envoy   *rig.Process
	load    *load.Generator
}

// A server answers checks, in a process of its own.
type server struct {
	name    string
	address string // of its gRPC listener
	metrics string // URL of its metrics; empty: it has none
	process *rig.Process
}

// A program says how a server is started.
type program struct {
	name        string
	binary      string
	environment []string
	arguments   []string // {port}, {metrics} and {redis} are replaced
	plain       bool     // has no metrics
}

// coatcheck is a program: the binary with its default settings, but for addresses.
func coatcheck(name, binary string, environment, arguments []string) program {
	return program{
		name: name, binary: binary, environment: append(rig.Credentials(rig.CheckUser), environment...),
		arguments: append([]string{
			"serve", "--listen", "127.0.0.1:{port}", "--admin-listen", "127.0.0.1:{metrics}", "--login-listen", "",
			"--redis-addresses", "{redis}", "--shutdown-drain", "0s", "--timeout", patience.String(),
		}, arguments...),
	}
}

// patience is the time for a check instead of 150 ms: a busy machine makes a check slow,
// and not another check.
const patience = 9 * time.Second

// newWorld starts Redis, the programs, and an Envoy with the fronts.
func newWorld(programs []program, fronts []front) (w *world, err error) {
	w = &world{servers: make(map[string]*server), fronts: make(map[string]string)}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "coatcheck-bench-"); err != nil {
		return w, err
	}
	users, err := rig.RedisUsersNear()
	if err != nil {
		return w, err
	}
	if w.redis, err = redistest.New(users...); err != nil {
		return w, err
	}
	for _, p := range programs {
		if err := w.serve(p); err != nil {
			return w, err
		}
	}
	if err := w.startEnvoy(fronts); err != nil {
		return w, err
	}
	self, err := os.Executable()
	if err != nil {
		return w, err
	}
	w.load, err = load.Start(self, "load")
	return w, err
}

// serve starts a program and waits until it listens.
func (w *world) serve(p program) error {
	address, err := testtools.Addr()
	if err != nil {
		return err
	}
	metrics, err := testtools.Addr()
	if err != nil {
		return err
	}
	fill := placeholders(address, metrics, w.redis.Addr)
	s := &server{name: p.name, address: address}
	if !p.plain {
		s.metrics = "http://" + metrics + "/metrics"
	}
	file, err := os.Create(filepath.Join(w.dir, p.name+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // the program has its own descriptor
	if s.process, err = rig.RunInto(file, p.name, p.binary, fill(p.environment), fill(p.arguments)...); err != nil {
		return err
	}
	w.servers[p.name] = s
	if err := s.process.Answers(address); err != nil {
		printed, _ := os.ReadFile(file.Name()) // the error is told without it
		return fmt.Errorf("%w\n%s", err, printed)
	}
	return nil
}

// close ends all programs.
func (w *world) close() {
	if w.load != nil {
		_ = w.load.Stop()
	}
	_ = w.envoy.Stop()
	for _, s := range w.servers {
		_ = s.process.Stop()
	}
	if w.redis != nil {
		w.redis.Close()
	}
	_ = os.RemoveAll(w.dir)
}
