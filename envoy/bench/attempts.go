package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
	accounts "github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// attempts measures how many of 10,000 wrong passwords the rate limit lets through to
// a password check, from one address or many, at one account or many.
func attempts(ctx context.Context, binary string) error {
	fmt.Println("\nwrong passwords that are checked")
	users, err := usersFile(2)
	if err != nil {
		return err
	}
	stack, err := rig.Start(rig.Options{Coatcheck: binary, Users: users, Patient: true, Arguments: []string{"--log-level", "warn"}})
	if err != nil {
		return err
	}
	defer stack.Close()
	for i, test := range []struct {
		name     string
		networks int
		account  func(int) string
	}{
		{"one account from one address", 1, func(int) string { return "user0" }},
		{"one account from 250 networks", 250, func(int) string { return "user1" }},
		{"10,000 accounts from one address", 1, func(i int) string { return fmt.Sprint("unknown", i) }},
	} {
		var addresses []string
		for n := range test.networks {
			addresses = append(addresses, fmt.Sprintf("127.%d.%d.1", i+1, n+1))
		}
		clients := clientsAt(stack, addresses...)
		begin := time.Now()
		through, err := guess(ctx, clients, test.account)
		closeIdle(clients)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %d of 10000, in %v\n", test.name, through, time.Since(begin).Round(time.Second))
	}
	return nil
}

// guess tries 10,000 wrong passwords and returns how many were checked: 4 at a time,
// which the limit on hashes has room for.
func guess(ctx context.Context, clients []*client, account func(int) string) (int64, error) {
	var next, through atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range 4 {
		group.Go(func() error {
			for i := int(next.Add(1)); i <= 10_000; i = int(next.Add(1)) {
				status, err := clients[i%len(clients)].signIn(ctx, account(i), "wrong")
				switch {
				case err != nil:
					return err
				case status == http.StatusUnauthorized:
					through.Add(1)
				case status != http.StatusTooManyRequests:
					return fmt.Errorf("attempt %d: status %d", i, status)
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return through.Load(), err
}

// refusals measures whether the time of a refusal reveals which accounts exist. Each
// of 1,000 users and of 1,000 unknown names is tried once, from a network of its own,
// so that the rate limit never waits. Users and unknown names are tried in pairs of
// random order, so that the garbage collector affects both.
func refusals(dir string) error {
	fmt.Println("\ntimes of refusals")
	h, end, err := newHandler(dir)
	if err != nil {
		return err
	}
	defer end()
	times := make(map[string][]time.Duration)
	coins := make([]byte, 1000)
	_, _ = rand.Read(coins)
	for i, coin := range coins {
		pair := []string{"user", "unknown"}
		if coin%2 == 1 {
			pair[0], pair[1] = pair[1], pair[0]
		}
		for turn, kind := range pair {
			took, err := refused(h, fmt.Sprint(kind, i), 2*i+turn)
			if err != nil {
				return err
			}
			times[kind] = append(times[kind], took)
		}
	}
	for _, kind := range []string{"user", "unknown"} {
		t := times[kind]
		fmt.Printf("%s: median %v (p10 %v, p90 %v)\n", kind, quantile(t, 0.5), quantile(t, 0.1), quantile(t, 0.9))
	}
	return nil
}

// newHandler is login's handler over a Redis, in this process.
func newHandler(dir string) (h http.Handler, end func(), err error) {
	users, err := usersFile(1000)
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, "users.yaml")
	if err := os.WriteFile(path, []byte(users), 0o600); err != nil {
		return nil, nil, err
	}
	file, err := userfile.Open(path)
	if err != nil {
		return nil, nil, err
	}
	checked, err := passwords.New(file, passwords.Config{})
	if err != nil {
		return nil, nil, err
	}
	redis, err := redistest.New()
	if err != nil {
		return nil, nil, err
	}
	client := redis.Client()
	end = func() { _ = client.Close(); redis.Close() }
	defer func() {
		if err != nil {
			end()
		}
	}()
	m, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	if err != nil {
		return nil, nil, err
	}
	proxy := netip.MustParsePrefix("192.0.2.1/32") // where httptest's requests come from
	h, err = accounts.New(accounts.Config{Users: checked, Sessions: m, Counters: redisstore.NewCounters(client), TrustedHops: 1, TrustedProxies: []netip.Prefix{proxy}})
	return h, end, err
}

// refused is how long a wrong password takes from the n-th network.
func refused(h http.Handler, username string, n int) (time.Duration, error) {
	r := httptest.NewRequest(http.MethodPost, "/.auth/login", strings.NewReader(credentials(username, "wrong")))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.1", n/250, n%250))
	w := httptest.NewRecorder()
	begin := time.Now()
	h.ServeHTTP(w, r)
	took := time.Since(begin)
	if w.Code != http.StatusUnauthorized {
		return 0, fmt.Errorf("%s: status %d", username, w.Code)
	}
	return took, nil
}
