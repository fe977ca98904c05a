package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
)

// A replica is a process of Coatcheck that answers checks. It is a stage.Server: faults
// end it and start it again.
type replica struct {
	binary      string
	environment []string
	log         string // file with what it prints
	checks      string // address of its gRPC listener
	admin       string // address of its metrics
	process     *rig.Process
	pid         atomic.Int64 // 0: it does not run

	// leaves and joins tell the load that no checks should be sent, and that they can be.
	leaves, joins func()
}

// newReplica has addresses, and does not run yet.
func newReplica(dir, binary string, n int, environment []string) (*replica, error) {
	r := &replica{binary: binary, environment: environment, log: filepath.Join(dir, fmt.Sprintf("replica-%d.log", n)), leaves: func() {}, joins: func() {}}
	var err error
	if r.checks, err = testtools.Addr(); err != nil {
		return nil, err
	}
	r.admin, err = testtools.Addr()
	return r, err
}

// Pid is the process's ID; 0: it does not run. It is safe for concurrent use.
func (r *replica) Pid() int { return int(r.pid.Load()) }

// Start starts it, and waits until it is ready: no Envoy sends it checks before, which would
// wait for as long as it waits for Redis.
func (r *replica) Start() error {
	file, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // the process has its own descriptor
	r.process, err = rig.RunInto(file, "coatcheck", r.binary, r.environment,
		"serve", "--listen", r.checks, "--admin-listen", r.admin, "--login-listen", "", "--shutdown-drain", "0s",
		"--log-decisions", "faults", "--log-faults-per-second", "2", "--headers-fields", "plan,mark")
	if err != nil {
		return err
	}
	r.pid.Store(int64(r.process.Pid()))
	if err := r.process.Answers(r.checks); err != nil {
		return fmt.Errorf("%w\n%s", err, r.tail())
	}
	if err := r.awaitReady(); err != nil {
		return fmt.Errorf("%w\n%s", err, r.tail())
	}
	r.joins()
	return nil
}

func (r *replica) awaitReady() (err error) {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var response *http.Response
		if response, err = scraper.Get("http://" + r.admin + "/readyz"); err != nil {
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
	}
	return errors.Join(errors.New("coatcheck does not become ready"), err)
}

// Stop ends it as an orchestrator does, which first takes it out of use.
func (r *replica) Stop() error {
	if r.process == nil {
		return nil
	}
	r.leaves()
	err := r.process.Stop()
	r.ended()
	return err
}

// Kill ends it without farewell.
func (r *replica) Kill() error {
	if r.process == nil {
		return nil
	}
	err := r.process.Signal(syscall.SIGKILL)
	<-r.process.Exited()
	r.ended()
	r.leaves()
	return err
}

func (r *replica) ended() {
	r.process = nil
	r.pid.Store(0)
}

// tail is the end of what it has printed.
func (r *replica) tail() string {
	const most = 4 << 10
	text, err := os.ReadFile(r.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// A usage is what a replica uses.
type usage struct {
	goroutines, descriptors int
	memory                  int // resident, in bytes
}

var scraper = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// usage reads the replica's metrics.
func (r *replica) usage() (u usage, err error) {
	response, err := scraper.Get("http://" + r.admin + "/metrics")
	if err != nil {
		return u, err
	}
	defer func() { _ = response.Body.Close() }()
	wanted := map[string]*int{"go_goroutines": &u.goroutines, "process_open_fds": &u.descriptors, "process_resident_memory_bytes": &u.memory}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if to := wanted[name]; to != nil {
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return u, err
			}
			*to = int(number)
		}
	}
	if u.goroutines == 0 {
		err = errors.New("the metrics have no go_goroutines")
	}
	return u, errors.Join(err, lines.Err())
}
