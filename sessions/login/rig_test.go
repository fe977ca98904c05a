package login_test

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

const (
	adaPassword = "canary-ada's password"
	bobPassword = "canary-bob's password"
)

// A doorman is an Authenticator with two users, who notes how often he is asked.
type doorman struct {
	asked atomic.Int64
	err   atomic.Pointer[error] // said instead of an answer
	users map[string]login.User
	pause func(context.Context)
}

func newDoorman() *doorman {
	return &doorman{users: map[string]login.User{
		"ada": {ID: "42", Username: "Ada", Roles: []string{"staff", "ops"}, Attributes: map[string]string{"tenant": "acme"}},
		"bob": {ID: "43", Username: "bob"},
	}}
}

func (d *doorman) Authenticate(ctx context.Context, username, password string) (login.User, error) {
	d.asked.Add(1)
	if d.pause != nil {
		d.pause(ctx)
	}
	if err := d.err.Load(); err != nil && *err != nil {
		return login.User{}, *err
	}
	username = strings.ToLower(username)
	right := subtle.ConstantTimeCompare([]byte(password), []byte("canary-"+username+"'s password"))
	if user, ok := d.users[username]; ok && right == 1 {
		return user, nil
	}
	return login.User{}, login.ErrBadCredentials
}

func (d *doorman) fail(err error) { d.err.Store(&err) }

// A lockedBuffer is a log that is written and read at once.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A rig is a handler in front of a real Redis.
type rig struct {
	testing.TB
	redis    *redistest.Server
	admin    *redis.Client
	sessions *sessions.Manager
	users    *doorman
	log      lockedBuffer
	metrics  *prometheus.Registry
	config   login.Config
	http     *httptest.Server
}

func newRig(t testing.TB, change ...func(*login.Config)) *rig {
	t.Helper()
	return newRigOn(t, redisstore.Config{}, change...)
}

// newRigOn is newRig with a store of one's own configuration.
func newRigOn(t testing.TB, store redisstore.Config, change ...func(*login.Config)) *rig {
	t.Helper()
	r := &rig{TB: t, redis: redistest.Start(t), users: newDoorman(), metrics: prometheus.NewRegistry()}
	r.admin = r.redis.Client()
	client, err := redisstore.NewClient(redisstore.ClientConfig{UniversalOptions: redis.UniversalOptions{
		Addrs: []string{r.redis.Addr}, Password: redistest.Password, PoolSize: 20,
		ReadTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second, DialTimeout: 20 * time.Second, PoolTimeout: 20 * time.Second,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.admin.Close(), client.Close() })
	if r.sessions, err = sessions.NewManager(redisstore.New(client, store), sessions.Config{MaxPerUser: -1}); err != nil {
		t.Fatal(err)
	}
	r.config = login.Config{
		Users: r.users, Sessions: r.sessions, Counters: redisstore.NewCounters(client), TrustedHops: 1, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		Logger: slog.New(slog.NewJSONHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Metrics: r.metrics,
	}
	for _, change := range change {
		change(&r.config)
	}
	h, err := login.New(r.config)
	if err != nil {
		t.Fatal(err)
	}
	r.http = httptest.NewServer(h)
	t.Cleanup(r.http.Close)
	return r
}

// A request is what a test sends; the zero one is a GET as of a browser.
type request struct {
	method string
	form   url.Values
	json   any // a string is sent as it stands
	id     sessions.ID
	from   string // address, as the proxy tells it
	header http.Header
}

// An answer has been read to its end.
type answer struct {
	*http.Response
	body string
}

// send sends to an endpoint below the base path. It follows no redirect.
func (r *rig) send(endpoint string, q request) answer {
	r.Helper()
	a, err := r.try(r.Context(), endpoint, q)
	if err != nil {
		r.Fatal(err)
	}
	return a
}

func (r *rig) try(ctx context.Context, endpoint string, q request) (answer, error) {
	return r.tryAt(ctx, "/.auth/"+endpoint, q)
}

// at sends to any path.
func (r *rig) at(path string, q request) answer {
	r.Helper()
	a, err := r.tryAt(r.Context(), path, q)
	if err != nil {
		r.Fatal(err)
	}
	return a
}

func (r *rig) tryAt(ctx context.Context, path string, q request) (answer, error) {
	var body io.Reader
	header := http.Header{"Accept": {"text/html,*/*"}, "User-Agent": {"Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"}}
	method := http.MethodGet
	switch text, ok := q.json.(string); {
	case q.form != nil:
		method, body = http.MethodPost, strings.NewReader(q.form.Encode())
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	case ok:
		method, body = http.MethodPost, strings.NewReader(text)
		header.Set("Content-Type", "application/json")
	case q.json != nil:
		text, _ := json.Marshal(q.json)
		method, body = http.MethodPost, bytes.NewReader(text)
		header.Set("Content-Type", "application/json")
	}
	if q.method != "" {
		method = q.method
	}
	req, err := http.NewRequestWithContext(ctx, method, r.http.URL+path, body)
	if err != nil {
		return answer{}, err
	}
	if q.id != (sessions.ID{}) {
		header.Set("Cookie", sessions.DefaultCookieName+"="+q.id.Reveal())
	}
	if q.from != "" {
		header.Set("X-Forwarded-For", "203.0.113.99, "+q.from)
	}
	for name, values := range q.header {
		header[name] = values
	}
	req.Header, req.Host = header, header.Get("Host")
	res, err := r.http.Client().Transport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return answer{res, string(text)}, err
}

// credentials is the login form.
func credentials(username, password string) url.Values {
	return url.Values{"username": {username}, "password": {password}}
}

// cookie is what the answer sets, the zero ID if nothing.
func (r *rig) cookie(a answer) sessions.ID {
	r.Helper()
	for _, c := range a.Cookies() {
		if c.Name == sessions.DefaultCookieName && c.Value != "" {
			id, err := sessions.ParseID(c.Value)
			if err != nil {
				r.Errorf("the cookie is %q", c.Value)
			}
			return id
		}
	}
	return sessions.ID{}
}

// signIn logs in as ada from an address and returns her ID.
func (r *rig) signIn(username, from string) sessions.ID {
	r.Helper()
	a := r.send("login", request{form: credentials(username, "canary-"+username+"'s password"), from: from})
	id := r.cookie(a)
	if a.StatusCode != http.StatusSeeOther || id == (sessions.ID{}) {
		r.Fatalf("login as %s: %s %v", username, a.Status, a.Header)
	}
	return id
}

// wrong tries a wrong password and returns the status.
func (r *rig) wrong(username, from string) int {
	r.Helper()
	return r.send("login", request{form: credentials(username, "wrong"), from: from}).StatusCode
}

// want checks the status.
func (r *rig) want(what string, a answer, status int) {
	r.Helper()
	if a.StatusCode != status {
		r.Errorf("%s: %s, want %d\n%s", what, a.Status, status, a.body[max(0, strings.Index(a.body, "<h1>")):])
	}
}

// live reports whether the session is.
func (r *rig) live(id sessions.ID) bool {
	r.Helper()
	_, err := r.sessions.Lookup(r.Context(), id.Key())
	return err == nil
}

// untouched wants that the answer leaves the cookie as it is.
func (r *rig) untouched(what string, a answer) {
	r.Helper()
	if got := a.Header.Values("Set-Cookie"); len(got) > 0 {
		r.Errorf("%s: it sets %q", what, got)
	}
}

// count is how many live sessions a user has.
func (r *rig) count(userID string) int {
	r.Helper()
	list, _, err := r.sessions.List(r.Context(), userID)
	if err != nil {
		r.Fatal(err)
	}
	return len(list)
}
