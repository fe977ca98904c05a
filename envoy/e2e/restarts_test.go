package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestRollingRestarts ends and starts each of three replicas in turn, again and
// again, while clients send requests: no request may fail. As in k8s/, one replica
// restarts at a time, and the next when Envoy uses the former again.
func TestRollingRestarts(t *testing.T) {
	t.Parallel()
	s := start(t, rig.Options{
		Replicas: 3, Patient: !full, // the long form runs alone, with the deadlines of production
		Arguments: []string{"--shutdown-drain", "2s", "--log-decisions", "faults"},
	})
	restarts := count(1, 20)
	c := newClients(t, s, 8)
	for range restarts {
		for i := range s.Replicas {
			restart(t, s, i)
		}
	}
	sent := c.stop()
	t.Logf("%d rolling restarts of 3 replicas, %d requests, %d failed", restarts, sent, c.failed.Load())
	if sent < 100*int64(restarts) {
		t.Errorf("only %d requests: that is too little load", sent)
	}
}

// restart ends and starts the i-th replica, until Envoy uses it again.
func restart(t *testing.T, s *rig.Stack, i int) {
	t.Helper()
	must(t, s.Replicas[i].Coatcheck.Stop())
	must(t, s.Replicas[i].Start())
	awaitHealthy(t, s, i)
}

// TestRollingRestartsInFailovers restarts three replicas in turn while the master of
// their Redis dies and its Sentinels choose another one, again and again. Clients get
// nothing but 200, and 503 from Coatcheck itself, which they get in the window of a
// failover alone.
func TestRollingRestartsInFailovers(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 2, nil)
	patientSentinels(t, set)
	password := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(password, []byte(redistest.Password), 0o600))
	s := start(t, rig.Options{
		Replicas: 3, Patient: !full, RedisAddresses: set.Addrs,
		Environment: []string{"COATCHECK_REDIS_PASSWORD_FILE=" + password, "COATCHECK_REDIS_SENTINEL_PASSWORD_FILE=" + password},
		Arguments:   []string{"--redis-master-name", redistest.MasterName, "--shutdown-drain", "2s", "--log-decisions", "faults"},
	})
	client := set.Master.Client()
	defer func() { _ = client.Close() }()
	m, err := sessions.NewManager(redisstore.New(client, redisstore.Config{}), sessions.Config{MaxPerUser: -1})
	must(t, err)
	cookies := liveCookies(t, m)
	must(t, client.Wait(t.Context(), 2, 5*time.Second).Err())
	c := &clients{t: t, url: s.URL, cookies: cookies, outages: true}
	c.start(count(2, 8))

	var failovers []*failover
	rounds := count(1, 20)
	for round := range rounds {
		for i := range s.Replicas {
			must(t, s.Replicas[i].Coatcheck.Stop())
			if i == round%3 {
				failovers = append(failovers, fail(t, set))
			}
			must(t, s.Replicas[i].Start()) // without Redis
			awaitHealthy(t, s, i)
		}
		failovers[round].ended(t)
	}
	time.Sleep(time.Second)
	sent := c.stop()
	c.within(failovers)
	t.Logf("%d rolling restarts of 3 replicas in %d failovers, %d requests, %d times 503, %d failed",
		rounds, len(failovers), sent, len(c.unavailable), c.failed.Load())
	if sent < 50*int64(rounds) {
		t.Errorf("only %d requests: that is too little load", sent)
	}
}

// awaitHealthy waits until Envoy uses the i-th replica.
func awaitHealthy(t *testing.T, s *rig.Stack, i int) {
	t.Helper()
	want := s.Replicas[i].Checks
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if unhealthy(t, s)[want] == "" {
			return
		}
	}
	t.Fatalf("Envoy does not use %s: %v", want, unhealthy(t, s))
}

// unhealthy asks Envoy which replicas it does not use, and why.
func unhealthy(t *testing.T, s *rig.Stack) map[string]string {
	t.Helper()
	response, err := http.DefaultTransport.RoundTrip(request(t, s.Admin+"/clusters?format=json"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var status struct {
		Clusters []struct {
			Name  string `json:"name"`
			Hosts []struct {
				Address struct {
					Socket struct {
						Address string `json:"address"`
						Port    int    `json:"port_value"`
					} `json:"socket_address"`
				} `json:"address"`
				Health map[string]any `json:"health_status"`
			} `json:"host_statuses"`
		} `json:"cluster_statuses"`
	}
	if err := json.NewDecoder(response.Body).Decode(&status); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, cluster := range status.Clusters {
		for _, host := range cluster.Hosts {
			delete(host.Health, "eds_health_status")
			if cluster.Name == "coatcheck" && len(host.Health) > 0 {
				found[fmt.Sprintf("%s:%d", host.Address.Socket.Address, host.Address.Socket.Port)] = fmt.Sprint(host.Health)
			}
		}
	}
	return found
}

func request(t *testing.T, url string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// clients send requests of live sessions until they are stopped. Every answer
// but 200 is a failure.
type clients struct {
	t            *testing.T
	url          string
	cookies      []string
	outages      bool // a 503 of Coatcheck itself is no failure, and noted
	sent, failed atomic.Int64
	cancel       context.CancelFunc
	running      sync.WaitGroup

	mu          sync.Mutex
	took        []time.Duration // since the last restart
	unavailable []time.Time     // when requests that got such a 503 were answered
}

func newClients(t *testing.T, s *rig.Stack, n int) *clients {
	t.Helper()
	c := &clients{t: t, url: s.URL, cookies: liveCookies(t, manager(t, s, sessions.Config{}))}
	c.start(n)
	return c
}

func liveCookies(t *testing.T, m *sessions.Manager) (cookies []string) {
	t.Helper()
	for range 20 {
		cookie, _ := login(t, m, ada)
		cookies = append(cookies, cookie)
	}
	return cookies
}

func (c *clients) start(n int) {
	ctx, cancel := context.WithCancel(c.t.Context())
	c.cancel = cancel
	c.t.Cleanup(func() { c.stop() })
	for i := range n {
		c.running.Go(func() { c.run(ctx, i) })
	}
}

func (c *clients) run(ctx context.Context, worker int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}, Timeout: 30 * time.Second}
	defer client.CloseIdleConnections()
	for i := worker; ctx.Err() == nil; i++ {
		r, err := http.NewRequest(http.MethodGet, c.url+"/x", nil)
		if err != nil {
			panic(err)
		}
		r.Header.Set("Cookie", c.cookies[i%len(c.cookies)])
		c.sent.Add(1)
		begin := time.Now()
		response, err := client.Do(r)
		c.note(time.Since(begin))
		what := fmt.Sprint(err)
		if err == nil {
			_ = response.Body.Close()
			what = fmt.Sprint(response.StatusCode, " ", response.Header)
			if c.outages && response.StatusCode == 503 && response.Header.Get("Retry-After") != "" {
				c.noteOutage()
				continue
			}
		}
		if !strings.HasPrefix(what, "200 ") && c.failed.Add(1) <= 5 {
			c.t.Errorf("a request failed: %s", what)
		}
		time.Sleep(pause())
	}
}

// pause is what a client waits between its requests. In the short form other tests need
// the processors, too.
func pause() time.Duration { return time.Duration(count(15, 2)) * time.Millisecond }

func (c *clients) noteOutage() {
	c.mu.Lock()
	c.unavailable = append(c.unavailable, time.Now())
	c.mu.Unlock()
	time.Sleep(pause())
}

func (c *clients) note(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = append(c.took, took)
}

// restart returns the 99th percentile of the times that answers took since the last
// restart.
func (c *clients) restart() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.took) == 0 {
		return 0
	}
	slices.Sort(c.took)
	p99 := c.took[len(c.took)*99/100]
	c.took = nil
	return p99.Round(100 * time.Microsecond)
}

// stop ends the load and returns how many requests there were.
func (c *clients) stop() int64 {
	c.cancel()
	c.running.Wait()
	return c.sent.Load()
}
