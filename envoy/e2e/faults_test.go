package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// TestRedisFaults stops Redis under load, in two ways, and starts it again.
// Meanwhile a live session gets 200 or 503, and never a refusal that would log it
// out; a request without a session gets 401 or 503, and is never allowed. The
// deadlines are the real ones; the bound on a request is fifty times Envoy's:
// a busy machine may hold one up for seconds.
func TestRedisFaults(t *testing.T) {
	s := start(t, rig.Options{
		Redis:     []string{"--appendonly", "yes", "--appendfsync", "always"},
		Arguments: []string{"--log-decisions", "faults"},
	})
	m := manager(t, s, sessions.Config{})
	l := &load{t: t, url: s.URL, live: make([]string, 20)}
	for i := range l.live {
		l.live[i], _ = login(t, m, ada)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for worker := range 8 {
		wg.Go(func() { l.run(ctx, worker) })
	}

	outage := time.Duration(count(1, 3)) * time.Second
	healthy := l.phase("healthy", time.Second, "200", "401")
	must(t, s.Redis.Pause())
	// Within a second the breaker opens, and then an answer takes milliseconds.
	l.phase("going away", time.Second, "503", "401")
	l.soon("paused", outage, healthy)
	must(t, s.Redis.Resume())
	l.recovers("resumed")
	l.phase("healthy again", time.Second, "200", "401")
	s.Redis.Kill()
	l.phase("dying", time.Second, "503", "401")
	l.soon("killed", outage, healthy)
	must(t, s.Redis.Restart())
	l.recovers("restarted")
	l.phase("healthy at last", time.Second, "200", "401")
	stop()
	wg.Wait()

	for _, cookie := range l.live {
		send(t, s, "GET /x", "Cookie: "+cookie).is(t, 200)
	}
	if !strings.Contains(s.Coatcheck.Output(), `"Redis does not answer`) {
		t.Error("the log does not report the outage")
	}
}

// soon wants answers without Redis to take milliseconds, ten times as many, or as long as
// those with Redis. A busy machine may need several phases for that.
func (l *load) soon(name string, outage, healthy time.Duration) {
	l.t.Helper()
	var median time.Duration
	for range 20 {
		if median = l.phase(name, outage, "503", "401"); median <= max(10*10*time.Millisecond, 2*healthy) {
			return
		}
	}
	l.t.Errorf("%s: the median answer takes %v, with Redis %v", name, median, healthy)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A load sends requests and counts the answers by kind.
type load struct {
	t    *testing.T
	url  string
	live []string

	mu      sync.Mutex
	counts  map[string]int
	times   []time.Duration // of answers to requests with a live session
	firstOK time.Time
}

func (l *load) run(ctx context.Context, worker int) {
	client := &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	defer client.CloseIdleConnections()
	for i := 0; ctx.Err() == nil; i++ {
		switch i % 8 {
		case 0:
			l.send(client, "/x", "", "no session", 401)
		case 1:
			l.send(client, "/x", cookieFor(sessions.NewID()), "unknown session", 401)
		case 2:
			l.send(client, "/optional", l.live[(worker+i)%len(l.live)], "live, optional route", 200)
		default:
			l.send(client, "/x", l.live[(worker+i)%len(l.live)], "live", 200)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// send sends one request; good is its status while Redis works. Only an outage may
// change it, and only to 503.
func (l *load) send(client *http.Client, path, cookie, who string, good int) {
	request, err := http.NewRequest(http.MethodGet, l.url+path, nil)
	if err != nil {
		panic(err)
	}
	if cookie != "" {
		request.Header.Set("Cookie", cookie)
	}
	begin := time.Now()
	response, err := client.Do(request)
	if err != nil {
		l.t.Errorf("%s: %v", who, err)
		return
	}
	_ = response.Body.Close()
	took := time.Since(begin)
	if response.StatusCode != good && response.StatusCode != 503 {
		l.t.Errorf("%s on %s: status %d", who, path, response.StatusCode)
	}
	if took > 10*time.Second {
		l.t.Errorf("%s on %s took %v", who, path, took)
	}
	kind := fmt.Sprint(response.StatusCode)
	if response.StatusCode == 503 && response.Header.Get("Retry-After") == "" {
		kind = "503 of Envoy's"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.counts == nil {
		l.counts = make(map[string]int)
	}
	l.counts[kind]++
	if good == 200 {
		l.times = append(l.times, took)
	}
	if response.StatusCode == 200 && l.firstOK.IsZero() {
		l.firstOK = time.Now()
	}
}

// phase lets the load run for a while and wants to see answers of these kinds.
// It returns the median time of an answer.
func (l *load) phase(name string, d time.Duration, kinds ...string) time.Duration {
	l.t.Helper()
	l.reset()
	time.Sleep(d)
	for since := time.Now(); !l.has(kinds) && time.Since(since) < time.Minute; time.Sleep(10 * time.Millisecond) {
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.times) == 0 {
		l.t.Fatalf("%s: no answer", name)
	}
	slices.Sort(l.times)
	median, slowest := l.times[len(l.times)/2], l.times[len(l.times)-1]
	l.t.Logf("%-16s answers %v, the median after %v, the slowest after %v", name, l.counts,
		median.Round(100*time.Microsecond), slowest.Round(time.Millisecond))
	for _, kind := range kinds {
		if l.counts[kind] == 0 {
			l.t.Errorf("%s: no answer %s", name, kind)
		}
	}
	return median
}

// has reports whether there were answers of each kind.
func (l *load) has(kinds []string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times) > 0 && !slices.ContainsFunc(kinds, func(kind string) bool { return l.counts[kind] == 0 })
}

// recovers waits for the first 200.
func (l *load) recovers(name string) {
	l.t.Helper()
	begin := time.Now()
	l.reset()
	for time.Since(begin) < time.Minute {
		time.Sleep(5 * time.Millisecond)
		l.mu.Lock()
		first := l.firstOK
		l.mu.Unlock()
		if !first.IsZero() {
			l.t.Logf("%-16s first 200 after %v", name, first.Sub(begin).Round(time.Millisecond))
			return
		}
	}
	l.t.Fatalf("%s: no 200 within a minute", name)
}

func (l *load) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts, l.times, l.firstOK = nil, nil, time.Time{}
}
