package clients_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	service "github.com/coatcheck/coatcheck/docs/clients/go"
	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	"github.com/coatcheck/coatcheck/sessions"
	sessionsv1 "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
)

// The tokens of two callers, of which the second may only get.
const (
	token     = "a-token-of-the-shop-that-is-long-enough"
	poorToken = "a-token-of-the-poor-that-is-long-enough"
)

// apiUser is the Redis user of the session API.
const apiUser = "coatcheck-api"

// startAPI runs coatcheck serve for the session API alone.
func (s *stand) startAPI() error {
	address, err := testtools.Addr()
	if err != nil {
		return err
	}
	s.apiURL, s.tokenFile, s.caFile = "https://"+address, filepath.Join(s.dir, "token"), filepath.Join(s.dir, "ca.pem")
	certificate, key := filepath.Join(s.dir, "api.pem"), filepath.Join(s.dir, "api-key.pem")
	if s.ca, err = testca.New(); err != nil {
		return err
	}
	if err := errors.Join(s.ca.Write(s.caFile), s.ca.Issue(certificate, key, testca.Leaf{IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})); err != nil {
		return err
	}
	files := map[string]string{
		"token": token + "\n", "shop-token": token + "\n", "poor-token": poorToken + "\n",
		"callers.yaml": fmt.Sprintf(`callers:
- {name: shop, token_file: %[1]s/shop-token, rights: [get, check, touch, add, revoke, by_id, watch], fields: [cart, tenant, ü]}
- {name: poor, token_file: %[1]s/poor-token, rights: [get], fields: [tenant]}
`, s.dir),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	environment := []string{"COATCHECK_REDIS_USERNAME=" + apiUser, "COATCHECK_REDIS_PASSWORD=" + password}
	s.api, err = rig.Run("coatcheck", filepath.Join(s.dir, "coatcheck"), environment, "serve", "--listen", "", "--admin-listen", "",
		"--redis-addresses", s.Redis.Addr, "--api-listen", address, "--api-callers-file", filepath.Join(s.dir, "callers.yaml"),
		"--api-tls-cert-file", certificate, "--api-tls-key-file", key)
	if err != nil {
		return err
	}
	return s.api.Answers(address)
}

// as has the clients use another token.
func (s *stand) as(t *testing.T, token string) {
	t.Helper()
	if err := os.WriteFile(s.tokenFile, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// apiCases are what every client of the session API must pass.
var apiCases = []struct {
	name string
	run  func(t *testing.T, c *client, user string)
}{
	{"a session is read", testAPIGet},
	{"a check by roles", testAPICheck},
	{"by the ID, and to touch", testAPITouch},
	{"fields are added, all or none", testAPIAdd},
	{"sessions are ended", testAPIRevoke},
	{"half of a surrogate pair", testAPIHalf},
	{"a caller without the right", testAPIRights},
	{"an API that does not answer", testAPIAway},
}

func TestSessionAPI(t *testing.T) {
	for _, c := range at.clients {
		t.Run(c.language, func(t *testing.T) {
			// The first call of a JVM loads TLS, which on a busy machine takes longer than a call may.
			first := call{Do: "api_get", URL: at.apiURL, Key: string(sessions.NewID().Key())}
			if err := before(20*time.Second, func() bool { return c.do(t, first).Error == "" }); err != nil {
				t.Fatal(err)
			}
			for i, test := range apiCases {
				t.Run(test.name, func(t *testing.T) { test.run(t, c, fmt.Sprintf("api-%s-%d, ü%%", c.language, i)) })
			}
		})
		say("%s: %d cases of the session API", c.language, len(apiCases))
	}
}

func testAPIGet(t *testing.T, c *client, user string) {
	it := hostile(user)
	delete(it.Fields, "ein Feld")
	it.Fields["tenant"] = "ac%me, ü\"\n"
	id, key := at.make(t, sessions.NewSession{UserID: user, Username: it.Username, Roles: it.Roles, Fields: it.Fields})
	s := c.must(t, call{Do: "api_get", URL: at.apiURL, Key: string(key), Names: []string{"tenant", "ü", "cart"}}).Session
	if s == nil || s.Key != string(key) || s.UserID != user || s.Username != it.Username || !slices.Equal(s.Roles, it.Roles) || !maps.Equal(s.Fields, it.Fields) {
		t.Errorf("the client reads %s", asJSON(s))
	}
	_, least := at.make(t, sessions.NewSession{UserID: "42"})
	if s := c.must(t, call{Do: "api_get", URL: at.apiURL, Key: string(least)}).Session; s == nil || s.UserID != "42" || s.Username != "" || s.Roles == nil || len(s.Roles)+len(s.Fields) != 0 {
		t.Errorf("the client reads %s", asJSON(s))
	}
	if s := c.must(t, call{Do: "api_get", URL: at.apiURL, Key: string(sessions.NewID().Key())}).Session; s != nil {
		t.Errorf("the client reads %s of nothing", asJSON(s))
	}
	if a := c.do(t, call{Do: "api_get", URL: at.apiURL, Key: "session:" + id[:40]}); a.Error != "unknown" {
		t.Errorf("a malformed key: %q", a.Error)
	}
}

func testAPICheck(t *testing.T, c *client, user string) {
	_, key := at.make(t, sessions.NewSession{UserID: user, Roles: []string{"staff"}, Fields: map[string]string{"cart": "3"}})
	for role, reason := range map[string]string{"staff": "ok", "admin": "missing_role"} {
		a := c.must(t, call{Do: "api_check", URL: at.apiURL, Key: string(key), Roles: []string{role, "root"}, Names: []string{"cart"}})
		if a.Allowed != (reason == "ok") || a.Reason != reason || a.Session == nil || a.Session.UserID != user || a.Session.Fields["cart"] != "3" {
			t.Errorf("%s: %v %s %s", role, a.Allowed, a.Reason, asJSON(a.Session))
		}
	}
	if a := c.must(t, call{Do: "api_check", URL: at.apiURL, Key: string(sessions.NewID().Key()), Roles: []string{"staff"}}); a.Allowed || a.Session != nil {
		t.Errorf("nothing is allowed: %s", asJSON(a))
	}
}

// testAPIHalf: what is no text is refused. UTF-8 in Java makes a question mark of it, which may be
// another user's ID, another role, or another value.
func testAPIHalf(t *testing.T, c *client, user string) {
	_, key := at.make(t, sessions.NewSession{UserID: user + "?", Roles: []string{"?"}})
	for name, it := range map[string]call{
		"user":  {Do: "api_revoke_user", UserID: user + c.half()},
		"role":  {Do: "api_check", Key: string(key), Roles: []string{c.half()}},
		"value": {Do: "api_add", Key: string(key), Fields: map[string]string{"cart": "canary-value" + c.half()}},
	} {
		it.URL = at.apiURL
		if a := c.do(t, it); a.Error != "unknown" || strings.Contains(a.Text, "canary") {
			t.Errorf("%s: %q %s", name, a.Error, a.Text)
		}
	}
	if s, err := at.manager.Inspect(t.Context(), key); err != nil || len(s.Fields) != 0 {
		t.Errorf("something was written, or ended: %v, %v", s, err)
	}
}

func testAPITouch(t *testing.T, c *client, user string) {
	id, key := at.make(t, sessions.NewSession{UserID: user, Roles: []string{"staff"}})
	at.redis.PExpire(t.Context(), string(key), time.Minute)
	c.must(t, call{Do: "api_check", URL: at.apiURL, ID: id, Roles: []string{"staff"}})
	if left := at.redis.PTTL(t.Context(), string(key)).Val(); left > time.Minute {
		t.Errorf("it slid to %v without being asked", left)
	}
	began := time.Now()
	if a := c.must(t, call{Do: "api_check", URL: at.apiURL, ID: id, Roles: []string{"staff"}, Touch: true}); !a.Allowed {
		t.Errorf("%s", asJSON(a))
	}
	wantIdle(t, key, began)
	for _, text := range malformed()[1:] { // whose URL answers nothing: they are not sent
		if a := c.must(t, call{Do: "api_check", URL: "http://127.0.0.1:1", ID: text, Roles: []string{"staff"}}); a.Allowed || a.Session != nil {
			t.Errorf("%q is allowed", text)
		}
	}
	if a := c.must(t, call{Do: "api_check_none", URL: "http://127.0.0.1:1"}); a.Allowed {
		t.Error("a request without a cookie has a session")
	}
}

func testAPIAdd(t *testing.T, c *client, user string) {
	_, key := at.make(t, sessions.NewSession{UserID: user})
	c.must(t, call{Do: "api_add", URL: at.apiURL, Key: string(key), Fields: map[string]string{"cart": "3 äpfel"}})
	if a := c.do(t, call{Do: "api_add", URL: at.apiURL, Key: string(key), Fields: map[string]string{"tenant": "acme", "cart": "4"}}); a.Error != "exists" {
		t.Errorf("%q %s", a.Error, a.Text)
	}
	if s, err := at.manager.Inspect(t.Context(), key); err != nil || !maps.Equal(s.Fields, map[string]string{"cart": "3 äpfel"}) {
		t.Errorf("%v, %v", s, err)
	}
	if a := c.do(t, call{Do: "api_add", URL: at.apiURL, Key: string(sessions.NewID().Key()), Fields: map[string]string{"cart": "4"}}); a.Error != "not_found" {
		t.Errorf("%q %s", a.Error, a.Text)
	}
}

func testAPIRevoke(t *testing.T, c *client, user string) {
	id, key := at.make(t, sessions.NewSession{UserID: user})
	for i, want := range []bool{true, false} {
		if a := c.must(t, call{Do: "api_revoke", URL: at.apiURL, Key: string(key)}); a.Ended != want {
			t.Errorf("time %d: %v", i, a.Ended)
		}
	}
	if status := ask(t, "go", "required", "whoami", cookie(id)).StatusCode; status != http.StatusUnauthorized {
		t.Errorf("Envoy answers %d", status)
	}
	_, stays := at.make(t, sessions.NewSession{UserID: user})
	at.make(t, sessions.NewSession{UserID: user})
	for i, want := range []int{1, 0} {
		if a := c.must(t, call{Do: "api_revoke_user", URL: at.apiURL, UserID: user, Key: string(stays)}); a.Revoked != want {
			t.Errorf("time %d: %d, want %d", i, a.Revoked, want)
		}
	}
	if a := c.must(t, call{Do: "api_revoke_user", URL: at.apiURL, UserID: user}); a.Revoked != 1 {
		t.Errorf("%d", a.Revoked)
	}
}

func testAPIRights(t *testing.T, c *client, user string) {
	id, key := at.make(t, sessions.NewSession{UserID: user, Roles: []string{"staff"}, Fields: map[string]string{"cart": "canary-value"}})
	at.as(t, poorToken)
	defer at.as(t, token)
	for _, it := range []call{
		{Do: "api_get", Names: []string{"cart"}}, {Do: "api_check", Roles: []string{"staff"}}, {Do: "api_check", ID: id, Roles: []string{"staff"}},
		{Do: "api_add", Fields: map[string]string{"tenant": "x"}}, {Do: "api_revoke"}, {Do: "api_revoke_user", UserID: user},
	} {
		it.URL, it.Key = at.apiURL, string(key)
		if a := c.do(t, it); a.Error != "unknown" || !strings.Contains(a.Text, "permission_denied") {
			t.Errorf("%s: %q %s", it.Do, a.Error, a.Text)
		}
	}
	c.must(t, call{Do: "api_get", URL: at.apiURL, Key: string(key), Names: []string{"tenant"}})
	const unfit = "a-token-\x01-that-fits-no-header"
	at.as(t, unfit)
	if a := c.do(t, call{Do: "api_get", URL: at.apiURL, Key: string(key)}); a.Error != "unknown" {
		t.Errorf("a token that is none: %q %s", a.Error, a.Text)
	}
	at.as(t, "a-token-that-no-caller-has-but-long-enough")
	if a := c.do(t, call{Do: "api_get", URL: at.apiURL, Key: string(key)}); a.Error != "unknown" || !strings.Contains(a.Text, "unauthenticated") {
		t.Errorf("%q %s", a.Error, a.Text)
	}
	for _, secret := range []string{"canary", id, token, poorToken, "fits-no-header"} {
		if strings.Contains(c.said.String()+c.stderr.String(), secret) {
			t.Errorf("an error holds %q", secret)
		}
	}
}

// testAPIAway: what is no answer of the API's never says that there is no session.
func testAPIAway(t *testing.T, c *client, user string) {
	id, key := at.make(t, sessions.NewSession{UserID: user})
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect is followed, with %q", r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusNotFound)
	}))
	defer elsewhere.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	stranger := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("a server with another CA's certificate is asked")
		answerJSON(w, 404, `{"code": "not_found"}`)
	}))
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer stranger.Close()
	urls := map[string]string{"no server": "http://127.0.0.1:1", "a silent server": "http://" + silent.Addr().String(), "another CA's": stranger.URL}
	for name, handler := range map[string]http.HandlerFunc{
		"a proxy's 404": http.NotFound,
		"a 404 in JSON": func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, 404, `{"error": "not_found"}`) },
		"an empty 404":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"a page":        func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>not_found</html>") },
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"code": `)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
		"a 503":      func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, 503, `{"code": "unavailable"}`) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"a lasting redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusPermanentRedirect)
		},
	} {
		server := httptest.NewServer(handler)
		defer server.Close()
		urls[name] = server.URL
	}
	for name, url := range urls {
		for _, it := range []call{{Do: "api_get", Key: string(key)}, {Do: "api_check", ID: id, Roles: []string{"a"}}, {Do: "api_revoke", Key: string(key)}, {Do: "api_add", Key: string(key), Fields: map[string]string{"a": "b"}}} {
			start := time.Now()
			it.URL = url
			if a := c.do(t, it); a.Error != "unknown" || a.Allowed {
				t.Errorf("%s: %s: %q %s", name, it.Do, a.Error, a.Text)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("%s: it took %v", name, took)
			}
		}
	}
}

// TestGoWatch: the client in Go sends its token with Watch, too, and Watch outlasts the second
// that other calls have.
func TestGoWatch(t *testing.T) {
	_, key := at.make(t, sessions.NewSession{UserID: "watched"})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: at.ca.Pool()}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	q := connect.NewRequest(&sessionsv1.WatchRequest{Sessions: []*sessionsv1.SessionName{service.ByKey(string(key))}})
	stream, err := service.NewAPI(client, at.apiURL, at.tokenFile).Watch(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() || stream.Msg().GetLive() != 1 {
		t.Fatalf("first: %v, %v", stream.Msg(), stream.Err())
	}
	time.Sleep(1500 * time.Millisecond)
	if err := at.manager.Revoke(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() || len(stream.Msg().GetEnded()) != 1 {
		t.Errorf("of the end: %v, %v", stream.Msg(), stream.Err())
	}
}

func answerJSON(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprint(w, text)
}
