package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestAPIPaths: a path that is none of the port's is 404, and a spelling that a mux would clean
// is no redirect, whose Location would repeat a session ID in the query.
func TestAPIPaths(t *testing.T) {
	const marker = "SECRETMARKER"
	server := redistest.Start(t)
	c, _ := apiAlone(t, server.Addr, oneCaller)
	r := launchAPI(t, c)
	client := plainClient(t)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead, http.MethodOptions} {
		for _, path := range []string{
			"//" + SessionService + "/Get", "/" + SessionService, "/" + SessionService + "/", "/" + SessionService + "/Get/", "/x/../" + SessionService + "/Get",
			"/" + SessionService + "/./Get", "/" + SessionService + "%2fGet", "/" + SessionService + "/get", "/grpc.health.v1.Health//Check", "/" + marker, "/",
		} {
			q, err := http.NewRequestWithContext(t.Context(), method, "http://"+c.APIListen+path+"?id="+marker, nil)
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Authorization", "Bearer "+apiToken)
			a, err := client.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			var all bytes.Buffer
			_ = a.Header.Write(&all)
			_, _ = io.Copy(&all, a.Body)
			_ = a.Body.Close()
			called := strings.HasSuffix(path, "%2fGet") // which is another spelling, and no other path
			if strings.Contains(all.String(), marker) || !called && a.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s: %d %s", method, path, a.StatusCode, &all)
			}
		}
	}
	if strings.Contains(r.log.String(), marker) {
		t.Errorf("the log: %s", r.log)
	}
}

// TestAPIRightsOfChangedCallers: callers that are taken into use while Redis does not answer may
// more than its user; that is said when it answers again, and no longer when they may less.
func TestAPIRightsOfChangedCallers(t *testing.T) {
	reloads, looks := reloadEvery, lookEvery
	reloadEvery, lookEvery = 50*time.Millisecond, time.Minute // rights are missed without waiting for the next look
	t.Cleanup(func() { reloadEvery, lookEvery = reloads, looks })
	server := redistest.Start(t)
	way, err := redistest.NewProxy(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer way.Close()
	c, tokens := apiAlone(t, way.Addr, oneCaller)
	c.RedisUsername = user(t, server, "coatcheck-check")
	r := launchAPI(t, c)
	way.Cut()
	writeAtAStroke(t, c.APICallersFile, strings.ReplaceAll(strings.Replace(oneCaller, "by_id]", "by_id, add]", 1), "TOKEN", tokens))
	r.logs(t, "changed callers are in use")
	way.Heal()
	r.logs(t, `"notice":"`+string(notice.APIRights)+`"`)
	writeAtAStroke(t, c.APICallersFile, strings.ReplaceAll(oneCaller, "TOKEN", tokens))
	r.logs(t, `"msg":"no longer so: `)
}

// TestAPIRightTakenAway: a right that the Redis user loses while callers need it is missed.
func TestAPIRightTakenAway(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	c, _ := apiAlone(t, server.Addr, oneCaller)
	c.RedisUsername = user(t, server, "coatcheck-check")
	r := launchAPI(t, c)
	user(t, server, "coatcheck-check", "-pexpireat")
	r.logs(t, `"notice":"`+string(notice.APIRights)+`","missing":["+pexpireat"]`)
	user(t, server, "coatcheck-check")
	r.logs(t, `"msg":"no longer so: `)
}

// TestAPIEmptied: to services, too, a session that is missing after Redis has lost its data is
// none that is certain to be gone.
func TestAPIEmptied(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client()
	defer client.Close()
	store := redisstore.New(client, redisstore.Config{})
	manager, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	of := answering{&timed{Manager: manager, missing: store.Missing}}
	gone := sessions.NewID().Key()
	for _, held := range []bool{true, false} {
		want := sessions.ErrNotFound
		if store.HoldMissing(time.Time{}); held {
			want = redisstore.ErrEmptied
			store.HoldMissing(time.Now().Add(time.Minute))
		}
		_, _, fetched := of.Fetch(t.Context(), gone, sessions.Fetch{})
		for call, err := range map[string]error{
			"Fetch": fetched, "Add": of.Add(t.Context(), gone, map[string]string{"cart": "1"}), "Revoke": of.Revoke(t.Context(), gone),
		} {
			if !errors.Is(err, want) {
				t.Errorf("held %v: %s: %v, want %v", held, call, err, want)
			}
		}
	}
}

// TestAPIConnectionAge: an old connection takes one more call, so that the next one is made with
// the certificates and the authorities of now.
func TestAPIConnectionAge(t *testing.T) {
	longer := connectionAge
	connectionAge = 300 * time.Millisecond
	t.Cleanup(func() { connectionAge = longer })
	i := newIdentities(t)
	server := redistest.Start(t)
	id, _ := signIn(t, server)
	c, _ := apiAlone(t, server.Addr, oneCaller)
	c.APITLS.CertFile, c.APITLS.KeyFile, c.APITLS.CAFile = i.path("server.pem"), i.path("server.key"), i.path("ca.pem")
	launchAPI(t, c)
	for _, http2 := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: i.client(""), ForceAttemptHTTP2: http2}
		if !http2 {
			transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
		used := make(map[string]int)
		call := func() {
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(g httptrace.GotConnInfo) { used[g.Conn.LocalAddr().String()]++ }})
			q, err := http.NewRequestWithContext(ctx, http.MethodPost, apiURL(c, "Get"), strings.NewReader(`{"session": {"key": "`+string(id.Key())+`"}}`))
			if err != nil {
				t.Fatal(err)
			}
			q.Header.Set("Content-Type", "application/json")
			q.Header.Set("Authorization", "Bearer "+apiToken)
			a, err := transport.RoundTrip(q)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, a.Body)
			_ = a.Body.Close()
			if a.StatusCode != 200 || (a.ProtoMajor == 2) != http2 {
				t.Errorf("HTTP/2 %v: %v", http2, a)
			}
		}
		call()
		call()
		if len(used) != 1 {
			t.Errorf("HTTP/2 %v: two calls at once made %d connections", http2, len(used))
		}
		time.Sleep(connectionAge + 100*time.Millisecond)
		call()
		time.Sleep(100 * time.Millisecond) // for GOAWAY
		call()
		if len(used) != 2 {
			t.Errorf("HTTP/2 %v: %d connections, want 2", http2, len(used))
		}
		transport.CloseIdleConnections()
	}
}

// TestAPIProbes: clients without a credential that are slow to send a message cannot have more
// calls at once than there may be.
func TestAPIProbes(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	c, _ := apiAlone(t, server.Addr, oneCaller)
	c.APIMaxInFlight = 2
	launchAPI(t, c)
	slow := func() {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", c.APIListen)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	}
	probe := func() int {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.APIListen+"/grpc.health.v1.Health/Check", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", "application/json")
		a, err := plainClient(t).Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_ = a.Body.Close()
		return a.StatusCode
	}
	slow()
	for deadline := time.Now().Add(20 * time.Second); probe() != http.StatusServiceUnavailable; time.Sleep(10 * time.Millisecond) {
		slow() // the one before may have come while a probe had its place
		if time.Now().After(deadline) {
			t.Fatal("a third call is taken beside two that do not end")
		}
	}
	for deadline := time.Now().Add(30 * time.Second); probe() != http.StatusOK; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no call is taken when the slow ones have ended")
		}
	}
}
