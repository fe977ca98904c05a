package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/monitoring"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	"github.com/coatcheck/coatcheck/internal/testtools/testcollector"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// window is what the tests put in for the windows of rates: some scrapes.
const window = "3s"

// A scraper is a running Prometheus that scrapes every 400 ms, with every alert.
type scraper struct{ url string }

func startPrometheus(t *testing.T, targets ...string) *scraper {
	t.Helper()
	binary, err := testtools.Program("prometheus", "PROMETHEUS")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := monitoring.Rules()
	if err != nil {
		t.Fatal(err)
	}
	rules = strings.ReplaceAll(rules, "[5m]", "["+window+"]")
	rules = regexp.MustCompile(`(?m)^( +)for: \S+$`).ReplaceAllString(rules, "${1}for: 400ms")
	dir, address := t.TempDir(), free(t)
	for name, text := range map[string]string{
		"rules.yaml": rules,
		"prometheus.yaml": "global: {scrape_interval: 400ms, scrape_timeout: 400ms, evaluation_interval: 200ms}\nrule_files: [rules.yaml]\n" +
			"scrape_configs:\n- job_name: coatcheck\n  static_configs:\n  - {targets: [" + strings.Join(targets, ", ") + "], labels: {namespace: test}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var output bytes.Buffer
	cmd := exec.Command(binary, "--config.file="+filepath.Join(dir, "prometheus.yaml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--enable-feature=exemplar-storage", "--log.level=warn")
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &output, &output, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Prometheus:\n%s", output.String())
		}
	})
	return &scraper{"http://" + address}
}

// ask asks the API, and reports whether it answered.
func (p *scraper) ask(t *testing.T, path string, query url.Values, answer any) bool {
	t.Helper()
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+path+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return false // it has not started yet
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body)
	if response.StatusCode == http.StatusServiceUnavailable {
		return false
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s %v: %s", path, query, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		t.Fatal(err)
	}
	return true
}

// firing returns the names of the alerts that fire.
func (p *scraper) firing(t *testing.T) (names []string) {
	t.Helper()
	var answer struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	p.ask(t, "/api/v1/alerts", nil, &answer)
	for _, a := range answer.Data.Alerts {
		if a.State == "firing" {
			names = append(names, a.Labels["alertname"])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// awaitFiring waits until exactly these alerts fire.
func (p *scraper) awaitFiring(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if got = p.firing(t); slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("there fire\n%v, want\n%v", got, want)
}

// hasData reports whether a query of a panel yields a number.
func (p *scraper) hasData(t *testing.T, expr string) bool {
	t.Helper()
	expr = strings.NewReplacer("$namespace", ".*", "$__rate_interval", window).Replace(expr)
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	p.ask(t, "/api/v1/query", url.Values{"query": {expr}}, &answer)
	return slices.ContainsFunc(answer.Data.Result, func(r struct{ Value [2]any }) bool { return r.Value[1] != "NaN" })
}

// exemplars returns the traces of a histogram's exemplars.
func (p *scraper) exemplars(t *testing.T, histogram string) (traces []string) {
	t.Helper()
	now := time.Now()
	var answer struct {
		Data []struct {
			Exemplars []struct{ Labels map[string]string }
		}
	}
	p.ask(t, "/api/v1/query_exemplars", url.Values{"query": {histogram + "_bucket"}, "start": {now.Add(-time.Hour).Format(time.RFC3339)}, "end": {now.Add(time.Hour).Format(time.RFC3339)}}, &answer)
	for _, series := range answer.Data {
		for _, e := range series.Exemplars {
			traces = append(traces, e.Labels["trace_id"])
		}
	}
	return traces
}

// A stuckLog is a log whose reader can go away.
type stuckLog struct {
	logBuffer
	away atomic.Bool
}

func (l *stuckLog) Write(line []byte) (int, error) {
	if l.away.Load() {
		return 0, errors.New("away")
	}
	return l.logBuffer.Write(line)
}

// A watched is a server with everything that the alerts are about, and clients that do
// not end to use it.
type watched struct {
	*testing.T
	*identities
	config   *config.Config
	redis    *redistest.Server
	client   authv3.AuthorizationClient
	log      *stuckLog
	users    string
	policies string
	live     string
	broken   string
	end      func()
	faults   struct{ broken, route, slow, logins atomic.Bool }
}

const (
	noShadow   = "policies:\n- {name: p}\n"
	withShadow = "policies:\n- {name: p, shadow: true}\n"
	sampled    = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)

func startWatched(t *testing.T, collector string) *watched {
	t.Helper()
	w := &watched{T: t, identities: newIdentities(t), redis: redistest.StartWith(t, redistest.Options{Clock: true}), log: new(stuckLog)}
	w.issue("server", testca.Leaf{Server: true, NotAfter: time.Now().Add(30 * 24 * time.Hour)})
	w.users, w.policies = w.path("users.yaml"), w.path("policies.yaml")
	writePeople(t, w.users, staff...)
	writeAtAStroke(t, w.policies, noShadow)
	w.config = configure(t, w.redis.Addr, "listen: "+free(t), "tls: {cert_file: "+w.path("server.pem")+", key_file: "+w.path("server.key")+"}", "policy_file: "+w.policies,
		"login: {listen: "+free(t)+", users_file: "+w.users+", max_hashes: 1}", "admin: {listen: "+free(t)+"}", "tracing: {endpoint: '"+collector+"'}", "near_cache: {enabled: true}")
	w.config.APIListen, w.config.APITimeout = free(t), time.Second
	w.config.APICallersFile, _ = withCallers(t, oneCaller)
	w.config.CountEvery = 300 * time.Millisecond
	_, w.live = signIn(t, w.redis)
	id := sessions.NewID()
	w.broken = sessions.DefaultCookieName + "=" + id.Reveal()
	client := w.redis.Client()
	defer client.Close()
	client.HSet(t.Context(), string(id.Key()), "user_id", "42")
	client.Expire(t.Context(), string(id.Key()), time.Hour)
	conn, err := grpc.NewClient(w.config.Listen, grpc.WithTransportCredentials(w.as("")))
	w.must(err)
	t.Cleanup(func() { _ = conn.Close() })
	w.client = authv3.NewAuthorizationClient(conn)
	w.run()
	return w
}

var staff = []person{{"42", "ada", "staff"}, {"2", "grace", "staff"}, {"3", "joan", "staff"}}

// run starts the server, also again after end.
func (w *watched) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := Run(ctx, w.config, w.log); err != nil {
			w.Errorf("the server: %v", err)
		}
	}()
	w.end = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	w.Cleanup(func() { w.end() })
	awaitListener(w.T, w.config.AdminListen)
}

// use sends what clients send until the test ends, and what the faults add to it.
func (w *watched) use() {
	ctx, cancel := context.WithCancel(context.Background())
	var users sync.WaitGroup
	users.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			w.ask(ctx, w.live, nil)
			w.ask(ctx, "", nil)
			if w.faults.broken.Load() {
				w.ask(ctx, w.broken, nil)
			}
			if w.faults.route.Load() {
				w.ask(ctx, w.live, map[string]string{"coatcheck.policy": "nope"})
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	users.Go(func() {
		client := w.redis.Client()
		defer client.Close()
		for ; ctx.Err() == nil; time.Sleep(110 * time.Millisecond) {
			if w.faults.slow.Load() {
				client.Do(ctx, "client", "pause", 100, "all")
			}
		}
	})
	users.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
			w.call(ctx)
		}
	})
	for range 8 {
		users.Go(func() {
			for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
				if w.faults.logins.Load() {
					w.signIn(ctx)
				}
			}
		})
	}
	users.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(500 * time.Millisecond) {
			w.signIn(ctx)
		}
	})
	w.Cleanup(func() {
		cancel()
		users.Wait()
	})
}

func (w *watched) ask(ctx context.Context, cookie string, needs map[string]string) {
	_, _ = w.client.Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: needs,
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/x", Headers: map[string]string{"cookie": cookie, "traceparent": sampled},
		}},
	}})
}

func (w *watched) signIn(ctx context.Context) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.config.LoginListen+"/.auth/login", strings.NewReader(`{"username": "ada", "password": "`+password+`"}`))
	if err != nil {
		return
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Traceparent", sampled)
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	if response, err := transport.RoundTrip(r); err == nil {
		_ = response.Body.Close()
	}
}

// call asks the session API.
func (w *watched) call(ctx context.Context) {
	body := `{"session": {"key": "session:` + strings.Repeat("A", 43) + `"}}`
	for _, method := range []string{"Get", "Check", "AddFields", "Revoke", "RevokeUser", "ListUserSessions", "Watch"} {
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.config.APIListen+"/"+SessionService+"/"+method, strings.NewReader(body))
		if err != nil {
			return
		}
		q.Header.Set("Content-Type", "application/json")
		q.Header.Set("Authorization", "Bearer "+apiToken)
		transport := new(http.Transport)
		if a, err := transport.RoundTrip(q); err == nil {
			_ = a.Body.Close()
		}
		transport.CloseIdleConnections()
	}
}

// A fault fires alerts, until it is mended.
type fault struct {
	alerts     []string
	make, mend func()
}

// faultsOf are the faults of every alert, in groups that stand at the same time.
func (w *watched) faultsOf(second *config.Config) [][]fault {
	set := func(b *atomic.Bool, to bool) func() { return func() { b.Store(to) } }
	var endSecond context.CancelFunc
	var secondEnded chan error
	return [][]fault{
		{
			{[]string{"CoatcheckFaults401"}, set(&w.faults.broken, true), set(&w.faults.broken, false)},
			{[]string{"CoatcheckFaults403"}, set(&w.faults.route, true), set(&w.faults.route, false)},
			{[]string{"CoatcheckLoginsRefused"}, set(&w.faults.logins, true), set(&w.faults.logins, false)},
			{[]string{"CoatcheckLogDropped"}, set(&w.log.away, true), set(&w.log.away, false)},
			{[]string{"CoatcheckShadowForLong"}, func() { writeAtAStroke(w.T, w.policies, withShadow) }, func() { writeAtAStroke(w.T, w.policies, noShadow) }},
			{[]string{"CoatcheckCertificateEnds"}, func() { w.issue("server", testca.Leaf{Server: true, NotAfter: time.Now().Add(99 * time.Hour)}) },
				func() { w.issue("server", testca.Leaf{Server: true, NotAfter: time.Now().Add(30 * 24 * time.Hour)}) }},
			{[]string{"CoatcheckAccountsUnsettled"}, func() { writePeople(w.T, w.users, staff[0]) }, func() { writePeople(w.T, w.users, staff...) }},
			{[]string{"CoatcheckClocksDiffer", "CoatcheckNotices"}, func() { w.must(w.redis.SetClock(time.Minute)) }, func() { w.must(w.redis.SetClock(0)) }},
		},
		{
			{[]string{"CoatcheckReloadFails"}, func() { writeAtAStroke(w.T, w.policies, "policies: {") }, func() { writeAtAStroke(w.T, w.policies, noShadow) }},
			{[]string{"CoatcheckSlow"}, set(&w.faults.slow, true), set(&w.faults.slow, false)},
			{[]string{"CoatcheckSettingsDiffer", "CoatcheckNotices"}, func() {
				ctx, cancel := context.WithCancel(context.Background())
				endSecond, secondEnded = cancel, make(chan error, 1)
				go func() { secondEnded <- Run(ctx, second, io.Discard) }()
			}, func() {
				endSecond()
				w.must(<-secondEnded)
			}},
		},
		{{[]string{"CoatcheckRedisAway", "CoatcheckFaults503", "CoatcheckAPIFaults"}, w.redis.Kill, func() { w.must(w.redis.Restart()) }}},
		{{[]string{"CoatcheckRedisEmptied"}, func() { // it clears by itself
			client := w.redis.Client()
			defer client.Close()
			w.must(client.FlushAll(w.Context()).Err())
		}, func() {}}},
		{{[]string{"CoatcheckSentinelsAway", "CoatcheckSettingsDiffer"}, func() {
			set := redistest.StartSentinels(w.T, 0, nil)
			set.Processes[2].Kill()
			password := filepath.Join(w.TempDir(), "password")
			w.must(os.WriteFile(password, []byte(redistest.Password), 0o600))
			watched := *second
			watched.RedisAddresses, watched.RedisMasterName, watched.RedisSentinelPasswordFile = set.Addrs, redistest.MasterName, password
			ctx, cancel := context.WithCancel(context.Background())
			endSecond, secondEnded = cancel, make(chan error, 1)
			go func() { secondEnded <- Run(ctx, &watched, io.Discard) }()
		}, func() {
			endSecond()
			w.must(<-secondEnded)
		}}},
		{{[]string{"CoatcheckAbsent"}, func() { w.end() }, w.run}},
	}
}

// TestWatching: on a real Prometheus that scrapes a server in use, every query of the
// dashboard has data, every histogram leads to a trace, no alert fires in health, every
// alert fires in its fault, and only those of the faults do, and each clears. The short
// form leaves out some groups of faults.
func TestWatching(t *testing.T) {
	w := startWatched(t, testcollector.Start(t).Addr)
	second := configure(t, w.redis.Addr, "listen: "+free(t), "session: {idle_timeout: 5m}", "admin: {listen: "+free(t)+"}")
	p := startPrometheus(t, w.config.AdminListen, second.AdminListen)
	w.use()
	awaits(t, w.config.AdminListen, "coatcheck_ready 1", "coatcheck_redis_up 1")

	for _, panel := range monitoring.Panels() {
		for _, q := range panel.Queries {
			for deadline := time.Now().Add(time.Minute); !p.hasData(t, q.Expr); time.Sleep(100 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Errorf("the panel %s has no data by %s", panel.Title, q.Expr)
					break
				}
			}
		}
	}
	for _, histogram := range []string{"coatcheck_check_duration_seconds", "coatcheck_redis_duration_seconds", "coatcheck_login_duration_seconds"} {
		traces := p.exemplars(t, histogram)
		for deadline := time.Now().Add(time.Minute); len(traces) == 0 && time.Now().Before(deadline); traces = p.exemplars(t, histogram) {
			time.Sleep(100 * time.Millisecond)
		}
		if len(traces) == 0 || slices.ContainsFunc(traces, func(trace string) bool { return trace != sampled[3:35] }) {
			t.Errorf("the exemplars of %s are %v", histogram, traces)
		}
	}
	p.awaitFiring(t)

	groups, full := w.faultsOf(second), os.Getenv("COATCHECK_FULL") != ""
	if !full {
		groups = [][]fault{groups[0], groups[2], groups[3]}
	}
	var fired []string
	for _, together := range groups {
		var want []string
		for _, f := range together {
			f.make()
			want = append(want, f.alerts...)
		}
		p.awaitFiring(t, want...)
		for _, f := range together {
			f.mend()
		}
		p.awaitFiring(t)
		fired = append(fired, want...)
	}
	for _, a := range monitoring.Alerts() {
		if full && !slices.Contains(fired, a.Name) {
			t.Errorf("no fault fires %s", a.Name)
		}
	}
	if t.Failed() {
		t.Logf("the server:\n%s", fmt.Sprint(&w.log.logBuffer))
	}
}
