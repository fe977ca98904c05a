package e2e_test

import (
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/internal/testtools/testcollector"
	"github.com/coatcheck/coatcheck/sessions"
)

// Secrets that are looked for. Each is long enough to be found by a part of it.
const (
	typedAsName   = "canary-typed-as-a-name-by-mistake"
	wrongPassword = "canary-wrong-password-of-a-user"
	nextRedis     = "canary-next-password-of-redis"
)

// TestCanaries pushes session IDs and passwords through every way into a real process,
// with the most talkative log, through faults of Redis and to a crash: nothing of them is
// in what the process prints, in its metrics, profiles or traces, or in its errors.
func TestCanaries(t *testing.T) {
	t.Parallel()
	collector := testcollector.Start(t)
	profiles, err := testtools.Addr()
	must(t, err)
	s := pages(t, rig.Options{
		Environment: append(rig.Credentials(rig.LoginUser), "GOTRACEBACK=all"),
		Arguments:   []string{"--log-level", "debug", "--tracing-endpoint", collector.Addr, "--admin-pprof-listen", profiles},
	})
	m := manager(t, s, sessions.Config{})
	id, _, err := m.Create(t.Context(), sessions.NewSession{UserID: "7"})
	must(t, err)
	ada := from(t, s, "127.0.0.2").post(t, "/.auth/login", credentials("Ada", password)).came(t, 303)
	secrets := []string{
		id.Reveal(), strings.TrimPrefix(ada, sessions.DefaultCookieName+"="), sessions.NewID().Reveal(), password,
		typedAsName, wrongPassword, rig.RedisPassword(rig.LoginUser), nextRedis,
	}
	text := new(strings.Builder)
	everyWay(t, s, secrets)
	for _, page := range []string{s.Operator + "/metrics", "http://" + profiles + "/debug/pprof/goroutine?debug=2", "http://" + profiles + "/debug/pprof/heap?debug=1", "http://" + profiles + "/debug/pprof/cmdline"} {
		fmt.Fprintln(text, body(t, page))
	}

	// Redis has another password, is gone, and is back without a user.
	admin := s.Redis.Client()
	must(t, admin.Do(t.Context(), "ACL", "SETUSER", rig.LoginUser, "resetpass", ">"+nextRedis).Err())
	must(t, admin.Do(t.Context(), "CLIENT", "KILL", "USER", rig.LoginUser).Err())
	_ = admin.Close()
	everyWay(t, s, secrets)
	s.Redis.Kill()
	everyWay(t, s, secrets)
	fmt.Fprintln(text, body(t, s.Operator+"/metrics"))

	// Spans are sent every few seconds. Then the process dies as of a bug, in the middle.
	time.Sleep(6 * time.Second)
	eventually(t, "no span comes", func() bool { return len(collector.Spans()) > 0 })
	must(t, s.Coatcheck.Signal(syscall.SIGQUIT))
	<-s.Coatcheck.Exited()
	output := s.Coatcheck.Output()
	if !strings.Contains(output, "goroutine ") || !strings.Contains(output, id.Key().Handle()) {
		t.Error("the process printed neither its stacks nor the handle: does the test see what it prints?")
	}
	spans := collector.Spans()
	if len(spans) == 0 {
		t.Error("no span came")
	}
	for _, span := range spans {
		fmt.Fprintln(text, span.Text)
	}
	leaks(t, text.String()+output, secrets)
}

// leaks looks for secrets, and for halves of them, which cut texts may hold.
func leaks(t *testing.T, text string, secrets []string) {
	t.Helper()
	for i, secret := range secrets {
		for _, part := range []string{secret[:min(len(secret), 24)], secret[len(secret)-min(len(secret), 24):], url.QueryEscape(secret)} {
			if at := strings.Index(text, part); at >= 0 {
				t.Errorf("secret %d is out: %q", i, text[max(0, at-200):min(len(text), at+80)])
				break
			}
		}
	}
}

// everyWay shows secrets in each place in which clients put them, to Envoy, to login
// and to the gRPC port. Only an ID is known by its form, so that only IDs are where a
// log has the text of a client.
func everyWay(t *testing.T, s *rig.Stack, secrets []string) {
	t.Helper()
	browser := from(t, s, "127.0.0.3")
	for _, secret := range secrets {
		escaped := url.QueryEscape(secret)
		lines := []string{"Cookie: " + sessions.DefaultCookieName + "=" + escaped + "; a=" + escaped, "Authorization: Bearer " + escaped, "Accept: text/html"}
		paths := []string{"/x", "/optional?sid=" + escaped, "/public", "/.auth/session", "/.auth/sessions", "/.auth/login?rd=/?a=" + escaped}
		if _, err := sessions.ParseID(secret); err == nil { // other secrets are not known by their form
			paths = append(paths, "/x/"+secret, "/public/"+secret, "/.auth/"+secret, "/.auth/login?rd=/"+secret)
			lines = append(lines, "X-Request-Id: "+secret, "Referer: https://shop.example/?s="+secret, "User-Agent: "+secret, "Accept-Language: "+secret, "Origin: https://"+secret+".example")
		}
		for _, path := range paths {
			send(t, s, "GET "+path, lines...)
		}
		send(t, s, "GET /x", "Cookie: "+sessions.DefaultCookieName+"="+escaped+"; "+sessions.DefaultCookieName+"="+escaped)
		for _, body := range []string{
			credentials("Ada", wrongPassword), credentials(typedAsName, password), credentials(secret, secret), "username=" + escaped, "%zz" + escaped,
			`{"username":"` + typedAsName + `","password":"` + secret + `"}`, `{"username":"` + secret, `{"` + secret + `":1}`, `{"username":"Ada","password":"` + wrongPassword + `","bearer":true}`,
		} {
			browser.post(t, "/.auth/login?password="+escaped, body, "Cookie: "+sessions.DefaultCookieName+"="+escaped)
		}
		browser.post(t, "/.auth/logout", "sid="+escaped, "Cookie: a="+escaped)
		callWith(t, s, secret)
	}
}

// callWith puts a secret where gRPC, and an Envoy that is set up wrongly, would have it.
func callWith(t *testing.T, s *rig.Stack, secret string) {
	t.Helper()
	conn, err := grpc.NewClient(s.Checks, grpc.WithTransportCredentials(plaintext))
	must(t, err)
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret, "x-sid", secret)
	request := &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/x?" + secret, Host: "shop.example", Headers: map[string]string{
		"cookie": sessions.DefaultCookieName + "=" + secret, "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}}
	routes := []map[string]string{nil}
	if _, err := sessions.ParseID(secret); err == nil {
		request.Path, request.Host, request.Headers["x-request-id"] = "/"+secret, secret, secret
		routes = append(routes, map[string]string{"coatcheck.x": secret}, map[string]string{"coatcheck.session": secret})
	}
	for _, extensions := range routes {
		_, err := authv3.NewAuthorizationClient(conn).Check(ctx, &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
			ContextExtensions: extensions, Request: &authv3.AttributeContext_Request{Http: request},
		}})
		must(t, err)
	}
	if err := conn.Invoke(ctx, "/"+url.PathEscape(secret)+"/Check", new(authv3.CheckRequest), new(authv3.CheckResponse)); err == nil {
		t.Error("a method that is not there answers")
	}
}
