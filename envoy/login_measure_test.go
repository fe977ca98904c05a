package envoy_test

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/coatcheck/coatcheck/envoy/internal/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions"
	accounts "github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// measure is set by make logins.
var measure = flag.Bool("measure", false, "measure logins, for minutes")

func onDemand(t *testing.T) {
	t.Helper()
	if !*measure {
		t.Skip("only with -measure")
	}
}

// TestMeasureLogins: what 200 logins at once do to the checks, where a process of
// its own serves login, and where the one that checks does. Whoever is told to
// come back later does, after a second, until everybody is in.
func TestMeasureLogins(t *testing.T) {
	onDemand(t)
	const people, rounds = 200, 3
	for _, alone := range []bool{true, false} {
		t.Run(map[bool]string{true: "login in a process of its own", false: "login in the process that checks"}[alone], func(t *testing.T) {
			s, processes := measured(t, alone, usersFile(t, people))
			at := make([]*person, people)
			for i := range at {
				at[i] = from(t, s, fmt.Sprintf("127.0.%d.1", i+1))
			}
			c := newChecks(t, s)
			c.during(3 * time.Second) // warm
			c.denied.Store(0)
			for _, p := range processes {
				t.Logf("%s: %d MiB before", p.name, resident(t, p.Pid(), "VmHWM")>>20)
			}
			var quiet, busy [2][]time.Duration
			var took []time.Duration
			var turnedAway, deniedQuiet, deniedBusy int64
			for range rounds {
				quiet = add(quiet, c.during(3*time.Second))
				deniedQuiet += c.denied.Swap(0)
				begin := time.Now()
				turnedAway += rush(t, at)
				took = append(took, time.Since(begin))
				busy = add(busy, c.collect())
				deniedBusy += c.denied.Swap(0)
			}
			t.Logf("%d logins at once: all in after %v (median of %d rounds), told %d times to come back",
				people, median(took).Round(time.Millisecond), rounds, turnedAway/rounds)
			for i, name := range []string{"p50", "p99"} {
				t.Logf("checks, %s: %v before, %v during (medians of %d rounds)", name, median(quiet[i]), median(busy[i]), rounds)
			}
			t.Logf("checks that were too late for an answer: %d before, %d during, of %d", deniedQuiet, deniedBusy, c.sent.Load())
			for _, p := range processes {
				t.Logf("%s: %d MiB at most", p.name, resident(t, p.Pid(), "VmHWM")>>20)
			}
		})
	}
}

// A process is one whose memory is measured.
type process struct {
	*rig.Process
	name string
}

// measured starts a stack, with its login where it is asked for.
func measured(t *testing.T, alone bool, users string) (*rig.Stack, []process) {
	t.Helper()
	quiet := []string{"--log-decisions", "faults"}
	if !alone {
		s := start(t, rig.Options{Users: users, Arguments: quiet})
		return s, []process{{s.Coatcheck, "the one process"}}
	}
	file, address, operator := filepath.Join(t.TempDir(), "users.yaml"), freeAddress(t), freeAddress(t)
	must(t, os.WriteFile(file, []byte(users), 0o600))
	s := start(t, rig.Options{Arguments: quiet, Bootstrap: func(b *bootstrapv3.Bootstrap) { leadLogin(b, address) }})
	p, err := rig.Run("login", binary, rig.Credentials(rig.LoginUser), "serve", "--redis-addresses", s.Redis.Addr, "--listen", "", "--login-listen", address, "--admin-listen", operator,
		"--login-users-file", file, "--login-trusted-hops", "1", "--login-trusted-proxies", "127.0.0.1", "--shutdown-drain", "0s")
	must(t, err)
	t.Cleanup(func() { _ = p.Stop() })
	must(t, p.Answers(address))
	return s, []process{{s.Coatcheck, "the process that checks"}, {p, "the process with login"}}
}

// leadLogin leads login's route to an address of 127.0.0.1.
func leadLogin(b *bootstrapv3.Bootstrap, address string) {
	_, port, _ := net.SplitHostPort(address)
	n, _ := strconv.ParseUint(port, 10, 16)
	for _, cluster := range b.GetStaticResources().GetClusters() {
		if cluster.GetName() == "login" {
			socket := cluster.GetLoadAssignment().GetEndpoints()[0].GetLbEndpoints()[0].GetEndpoint().GetAddress().GetSocketAddress()
			socket.PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(n)}
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	addr, err := testtools.Addr()
	must(t, err)
	return addr
}

// rush signs everybody in at once, and returns how often somebody was told to
// come back.
func rush(t *testing.T, at []*person) int64 {
	t.Helper()
	var wg sync.WaitGroup
	var turnedAway atomic.Int64
	for i, p := range at {
		wg.Go(func() {
			for {
				response, err := p.try(t.Context(), "/.auth/login", credentials(fmt.Sprint("user", i), password))
				if err != nil {
					t.Error(err)
					return
				}
				_ = response.Body.Close()
				if response.StatusCode == 303 {
					return
				}
				if response.StatusCode != 503 {
					t.Logf("user%d stays outside: status %d", i, response.StatusCode)
					return
				}
				turnedAway.Add(1)
				time.Sleep(time.Second)
			}
		})
	}
	wg.Wait()
	return turnedAway.Load()
}

// checks ask the process that checks, over gRPC as Envoy does, 4 at a time and at
// most 800 times a second.
type checks struct {
	sent, denied atomic.Int64

	mu    sync.Mutex
	times []time.Duration
}

func newChecks(t *testing.T, s *rig.Stack) *checks {
	t.Helper()
	conn, err := grpc.NewClient(s.Checks, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	m := manager(t, s, sessions.Config{})
	cookie, _ := login(t, m, ada)
	request := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/x", Host: "shop.example", Headers: map[string]string{"cookie": cookie}},
	}}}
	c := new(checks)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait(); _ = conn.Close() })
	for range 4 {
		wg.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for client := authv3.NewAuthorizationClient(conn); ctx.Err() == nil; <-tick.C {
				begin := time.Now()
				answer, err := client.Check(ctx, request)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				c.sent.Add(1)
				if answer.GetOkResponse() == nil {
					c.denied.Add(1)
				}
				c.note(time.Since(begin))
			}
		})
	}
	return c
}

func (c *checks) note(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times = append(c.times, took)
}

// collect is p50 and p99 of the checks since it was last called.
func (c *checks) collect() [2]time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	times := c.times
	c.times = nil
	return [2]time.Duration{quantile(times, 0.5), quantile(times, 0.99)}
}

func (c *checks) during(d time.Duration) [2]time.Duration {
	c.collect()
	time.Sleep(d)
	return c.collect()
}

func add(all [2][]time.Duration, round [2]time.Duration) [2][]time.Duration {
	return [2][]time.Duration{append(all[0], round[0]), append(all[1], round[1])}
}

func median(times []time.Duration) time.Duration { return quantile(times, 0.5) }

func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[int(math.Round(q*float64(len(sorted)-1)))].Round(time.Microsecond)
}

// TestMeasureThrottle: how many of 10,000 attempts are let through to a password,
// from one address or many, at one account or many.
func TestMeasureThrottle(t *testing.T) {
	onDemand(t)
	s := start(t, rig.Options{Users: usersFile(t, 0), Patient: true, Arguments: []string{"--log-level", "warn"}})
	for _, test := range []struct {
		name     string
		prefixes int
		account  func(int) string
	}{
		{"one account from one address", 1, func(int) string { return "ada" }},
		{"one account from 250 networks", 250, func(int) string { return "grace" }},
		{"10,000 accounts from one address", 1, func(i int) string { return fmt.Sprint("user", i) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			at := make([]*person, test.prefixes)
			for i := range at {
				at[i] = from(t, s, fmt.Sprintf("127.%d.%d.1", len(test.name), i+1))
			}
			begin := time.Now()
			through := flood(t, at, test.account)
			t.Logf("%d of 10000 in %v", through, time.Since(begin).Round(time.Second))
		})
	}
}

// flood tries 10,000 wrong passwords and returns how many were looked at. Four at
// a time find room to have their passwords checked.
func flood(t *testing.T, at []*person, account func(int) string) int64 {
	t.Helper()
	var next, through atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := next.Add(1); i <= 10_000; i = next.Add(1) {
				response, err := at[int(i)%len(at)].try(t.Context(), "/.auth/login", credentials(account(int(i)), "wrong"))
				if err != nil {
					t.Error(err)
					return
				}
				_ = response.Body.Close()
				switch response.StatusCode {
				case 401:
					through.Add(1)
				case 429:
				default:
					t.Errorf("status %d", response.StatusCode)
				}
			}
		})
	}
	wg.Wait()
	return through.Load()
}

// TestMeasureRefusals: whether the time of a refusal tells who has an account.
// Each of 1,000 users and 1,000 who are none is tried once and from a network of
// its own, so that the throttle never waits; in pairs whose order is tossed, so
// that the collector favours nobody.
func TestMeasureRefusals(t *testing.T) {
	onDemand(t)
	h := handler(t, usersFile(t, 1000))
	var known, unknown []time.Duration
	coins := make([]byte, 1000)
	_, _ = rand.Read(coins)
	for i, coin := range coins {
		for turn := range 2 {
			if int(coin)%2 == turn {
				known = append(known, refused(t, h, fmt.Sprint("user", i), 2*i))
			} else {
				unknown = append(unknown, refused(t, h, fmt.Sprint("nobody", i), 2*i+1))
			}
		}
	}
	for name, times := range map[string][]time.Duration{"known": known, "unknown": unknown} {
		t.Logf("%s users: median %v (p10 %v, p90 %v)", name, median(times), quantile(times, 0.1), quantile(times, 0.9))
	}
}

// handler is login's, over a Redis, without a process around it.
func handler(t *testing.T, users string) http.Handler {
	t.Helper()
	client := redistest.Start(t).Client()
	t.Cleanup(func() { _ = client.Close() })
	m, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{})
	must(t, err)
	path := filepath.Join(t.TempDir(), "users.yaml")
	must(t, os.WriteFile(path, []byte(users), 0o600))
	file, err := userfile.Open(path)
	must(t, err)
	checked, err := passwords.New(file, passwords.Config{})
	must(t, err)
	h, err := accounts.New(accounts.Config{Users: checked, Sessions: m, Counters: redisstore.NewCounters(client), TrustedHops: 1})
	must(t, err)
	return h
}

// refused is how long a wrong password takes from the n-th network.
func refused(t *testing.T, h http.Handler, username string, n int) time.Duration {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/.auth/login", strings.NewReader(credentials(username, "wrong")))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("10.%d.%d.1", n/250, n%250))
	w := httptest.NewRecorder()
	begin := time.Now()
	h.ServeHTTP(w, r)
	took := time.Since(begin)
	if w.Code != http.StatusUnauthorized {
		t.Fatalf("%s: status %d", username, w.Code)
	}
	return took
}
