package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestRollingRestarts ends and starts each of two replicas in turn, again and
// again, while clients send requests: no request may fail. As in k8s/, one replica
// restarts at a time, and the next when Envoy uses the former again.
func TestRollingRestarts(t *testing.T) {
	t.Parallel()
	s := start(t, rig.Options{
		Replicas: 2, Patient: true,
		Arguments: []string{"--shutdown-drain", "2s", "--log-decisions", "faults"},
	})
	restarts := count(1, 20)
	c := newClients(t, s, 8)
	for range restarts {
		for i, r := range s.Replicas {
			must(t, r.Coatcheck.Stop())
			must(t, r.Start())
			awaitHealthy(t, s, i)
		}
	}
	sent := c.stop()
	t.Logf("%d rolling restarts of 2 replicas, %d requests, %d failed", restarts, sent, c.failed.Load())
	if sent < 100*int64(restarts) {
		t.Errorf("only %d requests: that is too little load", sent)
	}
}

// awaitHealthy waits until Envoy uses the i-th replica.
func awaitHealthy(t *testing.T, s *rig.Stack, i int) {
	t.Helper()
	want := s.Replicas[i].Checks
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
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
	sent, failed atomic.Int64
	cancel       context.CancelFunc
	running      sync.WaitGroup
}

func newClients(t *testing.T, s *rig.Stack, n int) *clients {
	t.Helper()
	m := manager(t, s, sessions.Config{})
	c := &clients{t: t, url: s.URL}
	for range 20 {
		cookie, _ := login(t, m, ada)
		c.cookies = append(c.cookies, cookie)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	t.Cleanup(func() { c.stop() })
	for i := range n {
		c.running.Go(func() { c.run(ctx, i) })
	}
	return c
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
		response, err := client.Do(r)
		what := fmt.Sprint(err)
		if err == nil {
			_ = response.Body.Close()
			what = fmt.Sprint(response.StatusCode, " ", response.Header)
		}
		if !strings.HasPrefix(what, "200 ") && c.failed.Add(1) <= 5 {
			c.t.Errorf("a request failed: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// stop ends the load and returns how many requests there were.
func (c *clients) stop() int64 {
	c.cancel()
	c.running.Wait()
	return c.sent.Load()
}
