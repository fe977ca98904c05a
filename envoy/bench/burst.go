package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"golang.org/x/sync/errgroup"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
)

// loginsBesideChecks measures what 200 logins at once do to the checks, where a
// process of its own serves login, and where the process that checks does. A client
// that is told to come back later does so after a second, until all are signed in.
func loginsBesideChecks(ctx context.Context, binary string, alone bool) error {
	const people, rounds = 200, 3
	fmt.Printf("\nlogin in %s\n", map[bool]string{true: "a process of its own", false: "the process that checks"}[alone])
	d, err := deploy(binary, people, alone)
	if err != nil {
		return err
	}
	defer d.close()
	var addresses []string
	for i := range people {
		addresses = append(addresses, fmt.Sprintf("127.0.%d.1", i+1))
	}
	clients := clientsAt(d.Stack, addresses...)
	defer closeIdle(clients)
	checks, err := startChecks(ctx, d.Stack)
	if err != nil {
		return err
	}
	checks.during(3 * time.Second) // to warm up
	var quiet, busy [2][]time.Duration
	var took []time.Duration
	var deferred, lateQuiet, lateBusy int64
	checks.denied.Store(0)
	for range rounds {
		quiet = appendRound(quiet, checks.during(3*time.Second))
		lateQuiet += checks.denied.Swap(0)
		begin := time.Now()
		n, err := burst(ctx, clients)
		if err != nil {
			return errors.Join(err, checks.stop())
		}
		deferred += n
		took = append(took, time.Since(begin))
		busy = appendRound(busy, checks.collect())
		lateBusy += checks.denied.Swap(0)
	}
	fmt.Printf("%d logins at once: all signed in after %v (median of %d rounds), told %d times to come back\n",
		people, quantile(took, 0.5).Round(time.Millisecond), rounds, deferred/rounds)
	for i, name := range []string{"p50", "p99"} {
		fmt.Printf("checks, %s: %v before, %v during (medians of %d rounds)\n", name, quantile(quiet[i], 0.5), quantile(busy[i], 0.5), rounds)
	}
	fmt.Printf("checks that were too late for an answer: %d before, %d during, of %d\n", lateQuiet, lateBusy, checks.sent.Load())
	return errors.Join(checks.stop(), d.printMemory())
}

// burst signs all users in at once, and returns how often a client was told to come
// back.
func burst(ctx context.Context, clients []*client) (int64, error) {
	var deferred atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range clients {
		group.Go(func() error {
			for {
				status, err := c.signIn(ctx, fmt.Sprint("user", i), password)
				if err != nil || status == 303 {
					return err
				}
				if status != 503 {
					fmt.Printf("user%d stays signed out: status %d\n", i, status)
					return nil
				}
				deferred.Add(1)
				time.Sleep(time.Second)
			}
		})
	}
	err := group.Wait()
	return deferred.Load(), err
}

// A deployment is a stack, and a process for login where it has its own.
type deployment struct {
	*rig.Stack
	login *rig.Process // nil: the stack's Coatcheck serves login
	dir   string
}

func deploy(binary string, people int, alone bool) (d *deployment, err error) {
	users, err := usersFile(people)
	if err != nil {
		return nil, err
	}
	d = new(deployment)
	options := rig.Options{Coatcheck: binary, Arguments: []string{"--log-decisions", "faults"}}
	if !alone {
		options.Users = users
		d.Stack, err = rig.Start(options)
		return d, err
	}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.dir, err = os.MkdirTemp("", "coatcheck-bench-"); err != nil {
		return d, err
	}
	file := filepath.Join(d.dir, "users.yaml")
	if err = os.WriteFile(file, []byte(users), 0o600); err != nil {
		return d, err
	}
	address, err := testtools.Addr()
	if err != nil {
		return d, err
	}
	admin, err := testtools.Addr()
	if err != nil {
		return d, err
	}
	options.Bootstrap = func(b *bootstrapv3.Bootstrap) { rig.ClusterAt(b, "login", address) }
	if d.Stack, err = rig.Start(options); err != nil {
		return d, err
	}
	d.login, err = rig.Run("login", binary, rig.Credentials(rig.LoginUser), "serve", "--redis-addresses", d.Redis.Addr,
		"--listen", "", "--login-listen", address, "--admin-listen", admin, "--login-users-file", file,
		"--login-trusted-hops", "1", "--login-trusted-proxies", "127.0.0.1", "--shutdown-drain", "0s")
	if err != nil {
		return d, err
	}
	return d, d.login.Answers(address)
}

func (d *deployment) printMemory() error {
	processes := map[string]*rig.Process{"the process that checks": d.Coatcheck}
	if d.login != nil {
		processes["the process with login"] = d.login
	}
	for name, p := range processes {
		_, peak, err := p.Memory()
		if err != nil {
			return err
		}
		fmt.Printf("%s: %d MiB at most\n", name, peak>>20)
	}
	return nil
}

func (d *deployment) close() {
	_ = d.login.Stop()
	if d.Stack != nil {
		d.Close()
	}
	_ = os.RemoveAll(d.dir)
}
