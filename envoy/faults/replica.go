package main

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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
	profiles    string // address of its profiles
	process     *rig.Process
	pid         atomic.Int64 // 0: it does not run
	clock       *clockworker
	ahead       time.Duration // its clock is, from its next start on
	apart       bool          // it has once known that it is

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
	if r.admin, err = testtools.Addr(); err != nil {
		return nil, err
	}
	r.profiles, err = testtools.Addr()
	return r, err
}

// Pid is the process's ID; 0: it does not run. It is safe for concurrent use.
func (r *replica) Pid() int { return int(r.pid.Load()) }

// SetClock has its clock be ahead from its next start on.
func (r *replica) SetClock(ahead time.Duration) error {
	r.ahead = ahead.Truncate(time.Second)
	if r.ahead == 0 {
		return nil
	}
	_, err := r.clock.binary()
	return err
}

// program is the binary, and what its environment has beside that of others.
func (r *replica) program() (binary string, environment []string, err error) {
	if r.ahead == 0 {
		return r.binary, r.environment, nil
	}
	binary, err = r.clock.binary()
	return binary, append(slices.Clone(r.environment), clockAhead+"="+r.ahead.String()), err
}

// Start starts it, and waits until it is ready: no Envoy sends it checks before, which would
// wait for as long as it waits for Redis.
func (r *replica) Start() error {
	file, err := os.OpenFile(r.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // the process has its own descriptor
	binary, environment, err := r.program()
	if err != nil {
		return err
	}
	r.process, err = rig.RunInto(file, "coatcheck", binary, environment,
		"serve", "--listen", r.checks, "--admin-listen", r.admin, "--admin-pprof-listen", r.profiles, "--login-listen", "", "--shutdown-drain", "0s",
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
	if r.ahead != 0 && !r.apart {
		if err := r.awaitApart(); err != nil {
			return err
		}
		r.apart = true
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
	memory                  int           // resident, in bytes
	offset                  time.Duration // by which it finds Redis's clock ahead of its own
	heap                    int           // at which the garbage collector runs next, in bytes: about twice of what it has found in use
}

var scraper = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// usage has the replica collect garbage, which it does once in a minute or so by itself, and
// reads its metrics.
func (r *replica) usage() (u usage, err error) {
	profile, err := scraper.Get("http://" + r.profiles + "/debug/pprof/heap?gc=1")
	if err != nil {
		return u, err
	}
	_ = profile.Body.Close()
	response, err := scraper.Get("http://" + r.admin + "/metrics")
	if err != nil {
		return u, err
	}
	defer func() { _ = response.Body.Close() }()
	wanted := map[string]float64{"go_goroutines": 0, "process_open_fds": 0, "process_resident_memory_bytes": 0, "go_memstats_heap_alloc_bytes": 0, "coatcheck_clock_offset_seconds": 0}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if _, is := wanted[name]; is {
			if wanted[name], err = strconv.ParseFloat(value, 64); err != nil {
				return u, err
			}
		}
	}
	u = usage{
		goroutines: int(wanted["go_goroutines"]), descriptors: int(wanted["process_open_fds"]), memory: int(wanted["process_resident_memory_bytes"]),
		heap: int(wanted["go_memstats_heap_alloc_bytes"]), offset: time.Duration(wanted["coatcheck_clock_offset_seconds"] * float64(time.Second)),
	}
	if u.goroutines == 0 {
		err = errors.New("the metrics have no go_goroutines")
	}
	return u, errors.Join(err, lines.Err())
}
