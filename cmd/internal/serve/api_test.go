package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/internal/testtools/testca"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

const apiToken = "a-token-of-the-shop-that-is-long-enough"

// withCallers writes a callers file, and the token file of the caller shop.
func withCallers(t *testing.T, text string) (path, tokenFile string) {
	t.Helper()
	dir := t.TempDir()
	path, tokenFile = filepath.Join(dir, "callers.yaml"), filepath.Join(dir, "token")
	writeAtAStroke(t, tokenFile, apiToken+"\n")
	writeAtAStroke(t, path, strings.ReplaceAll(text, "TOKEN", tokenFile))
	return path, tokenFile
}

const oneCaller = "callers:\n- {name: shop, token_file: TOKEN, rights: [get, check, touch, by_id], fields: [cart]}\n"

// apiAlone configures a process that serves the session API and nothing else.
func apiAlone(t *testing.T, redis string, callers string, more ...string) (c *config.Config, tokenFile string) {
	t.Helper()
	path, tokenFile := withCallers(t, callers)
	return configure(t, redis, append(more, "listen: ''", "api: {listen: \""+free(t)+"\", callers_file: "+path+", timeout: 9s}")...), tokenFile
}

// launchAPI starts it and waits until it serves.
func launchAPI(t *testing.T, c *config.Config) *running {
	t.Helper()
	r := launch(t, c)
	r.logs(t, `"msg":"serving the session API"`)
	return r
}

// curl posts JSON, and returns the status and the answer.
func curl(t *testing.T, client *http.Client, url, token, body string) (int, string) {
	t.Helper()
	q, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Content-Type", "application/json")
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	a, err := client.Do(q)
	if err != nil {
		return 0, err.Error()
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(text)
}

func apiURL(c *config.Config, method string) string {
	scheme := "http"
	if c.APITLS.CertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + c.APIListen + "/" + SessionService + "/" + method
}

func plainClient(t *testing.T) *http.Client {
	t.Helper()
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestAPIAlone: a process that serves the session API alone answers curl and gRPC on one
// port, tells probes that it is healthy, shows its services to callers alone, has the line of
// each call, and drains.
func TestAPIAlone(t *testing.T) {
	server := redistest.Start(t)
	id, _ := signIn(t, server)
	c, _ := apiAlone(t, server.Addr, oneCaller)
	r := launchAPI(t, c)
	body := `{"session": {"key": "` + string(id.Key()) + `"}, "fields": ["cart"]}`
	code, text := curl(t, plainClient(t), apiURL(c, "Get"), apiToken, body)
	var got struct {
		Session struct{ UserId, Key, Handle string }
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || code != 200 || got.Session.UserId != "42" || got.Session.Key != string(id.Key()) {
		t.Errorf("Get: %d %s, %v", code, text, err)
	}
	if code, text := curl(t, plainClient(t), apiURL(c, "Get"), "", body); code != 401 || strings.Contains(text, "42") {
		t.Errorf("without a token: %d %s", code, text)
	}
	a, err := plainClient(t).Get(apiURL(c, "Get") + "?encoding=json&message=%7B%7D")
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Body.Close()
	if a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %v", a)
	}
	conn, err := grpc.NewClient(c.APIListen, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r.health = healthv1.NewHealthClient(conn)
	for _, service := range []string{"", SessionService} {
		r.waits(t, service, healthv1.HealthCheckResponse_SERVING)
	}
	asCaller := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+apiToken)
	reply := new(pb.CheckResponse)
	question := &pb.CheckRequest{Session: &pb.SessionName{Name: &pb.SessionName_Id{Id: id.Reveal()}}, Question: &pb.CheckRequest_Request{Request: &pb.Request{Host: "shop.example", Path: "/"}}}
	if err := conn.Invoke(asCaller, sessionsv1connect.SessionServiceCheckProcedure, question, reply); err != nil || !reply.GetAllowed() || reply.GetReason() != "ok" {
		t.Errorf("Check by gRPC: %v, %v", reply, err)
	}
	for _, as := range []context.Context{t.Context(), asCaller} {
		services, err := reflected(as, conn)
		if as == asCaller && (err != nil || !strings.Contains(services, SessionService)) || as != asCaller && status.Code(err) != codes.Unauthenticated {
			t.Errorf("reflection: %q, %v", services, err)
		}
	}
	for _, want := range []string{`"msg":"api call","caller":"shop","call":"Get","session":"` + id.Key().Handle() + `","outcome":"ok"`,
		`"caller":"shop","call":"Check","session":"` + id.Key().Handle() + `","outcome":"ok","reason":"ok"`, `"call":"Get","outcome":"unauthenticated"`} {
		r.logs(t, want)
	}
	watch, err := r.health.Watch(asCaller, &healthv1.HealthCheckRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Errorf("a watch of health: %v", err)
	}
	r.stop()
	if err := <-r.ended; err != nil {
		t.Errorf("draining: %v", err)
	}
	if strings.Contains(r.log.String(), id.Reveal()) || strings.Contains(r.log.String(), apiToken) || strings.Contains(r.log.String(), "cut off") {
		t.Errorf("the log: %s", r.log)
	}
}

// reflected asks for the services of a port.
func reflected(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return "", err
	}
	defer func() { _ = stream.CloseSend() }()
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	answer, err := stream.Recv()
	if err != nil {
		return "", err
	}
	return answer.String(), nil
}

// TestAPIPolicies: Check by a policy, and by a request, decides as a check does, by the policy
// file as it is now, with and without checks beside it.
func TestAPIPolicies(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	id, _ := signIn(t, server)
	for _, listen := range []string{"''", free(t)} {
		policies := filepath.Join(t.TempDir(), "policies.yaml")
		writeAtAStroke(t, policies, "policies:\n- {name: ada, condition: 'session.user_id == \"42\"'}\n- {name: bob, condition: 'session.user_id == \"7\"'}\n"+
			"- {name: open, session: none}\nrules:\n- {path_prefix: /bob, policy: bob}\n- {path: /open, policy: open}\ndefault_policy: ada\n")
		path, _ := withCallers(t, oneCaller)
		c := configure(t, server.Addr, "listen: "+listen, "policy_file: "+policies, "api: {listen: \""+free(t)+"\", callers_file: "+path+", timeout: 9s}")
		r := launchAPI(t, c)
		named := func(question string) string {
			_, text := curl(t, plainClient(t), apiURL(c, "Check"), apiToken, `{"session": {"key": "`+string(id.Key())+`"}, `+question+`}`)
			var got struct {
				Allowed      bool
				Reason, Code string
			}
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Fatal(text, err)
			}
			if got.Allowed {
				return "allow " + got.Reason
			}
			return got.Code + got.Reason
		}
		for question, want := range map[string]string{
			`"policy": {"name": "ada"}`: "allow ok", `"policy": {"name": "bob"}`: "condition_false", `"policy": {"name": "eve"}`: "unknown_policy",
			`"request": {"host": "a.example", "path": "/"}`: "allow ok", `"request": {"host": "a.example", "path": "/bob"}`: "condition_false",
			`"request": {"host": "a.example", "path": "/open"}`: "allow public", `"request": {"host": "a.example", "path": "/a/../bob"}`: "noncanonical_path",
			`"request": {}`: "bad_request",
		} {
			if got := named(question); got != want {
				t.Errorf("listen %s: %s: %s, want %s", listen, question, got, want)
			}
		}
		writeAtAStroke(t, policies, "policies:\n- {name: ada, condition: 'session.user_id == \"8\"'}\ndefault_policy: ada\n")
		r.logs(t, "changed policies are in use")
		if got := named(`"policy": {"name": "ada"}`); got != "condition_false" {
			t.Errorf("listen %s: after the change: %s", listen, got)
		}
		gone := string(id.Key())[:len(id.Key())-4] + "AAAA"
		if code, text := curl(t, plainClient(t), apiURL(c, "Check"), apiToken, `{"session": {"key": "`+gone+`"}, "policy": {"name": "ada"}}`); code != 404 || !strings.Contains(text, "not_found") {
			t.Errorf("a session that is not there: %d %s", code, text)
		}
		r.stop()
		<-r.ended
	}
}

// TestAPIMutualTLS: a certificate's name is a caller, also over HTTP/2; another one, and none,
// are refused, and a token of the shop's by a stranger's connection, too.
func TestAPIMutualTLS(t *testing.T) {
	t.Parallel() // it waits
	i := newIdentities(t)
	i.issue("shop", testca.Leaf{Client: true, URIs: []string{"spiffe://example.org/shop"}})
	i.issue("stranger", testca.Leaf{Client: true, DNSNames: []string{"stranger.test"}})
	server := redistest.Start(t)
	id, _ := signIn(t, server)
	c, _ := apiAlone(t, server.Addr, "callers:\n- {name: shop, certificate: 'spiffe://example.org/shop', rights: [get]}\n- {name: stranger, certificate: Stranger.test, rights: [list]}\n- {name: other, token_file: TOKEN, rights: [get]}\n")
	c.APITLS.CertFile, c.APITLS.KeyFile, c.APITLS.CAFile = i.path("server.pem"), i.path("server.key"), i.path("ca.pem")
	r := launchAPI(t, c)
	body := `{"session": {"key": "` + string(id.Key()) + `"}}`
	for _, test := range []struct {
		certificate, token string
		want               int
	}{
		{"shop", "", 200}, {"stranger", "", 403}, {"envoy", "", 401}, {"", "", 401}, {"", apiToken, 200}, {"envoy", apiToken, 200}, {"stranger", apiToken, 401}, {"shop", "x" + apiToken, 401},
	} {
		transport := &http.Transport{TLSClientConfig: i.client(test.certificate), ForceAttemptHTTP2: true}
		code, text := curl(t, &http.Client{Transport: transport}, apiURL(c, "Get"), test.token, body)
		transport.CloseIdleConnections()
		if code != test.want {
			t.Errorf("certificate %q, token %q: %d %s, want %d", test.certificate, test.token, code, text, test.want)
		}
	}
	conn, err := grpc.NewClient(c.APIListen, grpc.WithTransportCredentials(i.as("shop")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reply := new(pb.GetResponse)
	if err := conn.Invoke(t.Context(), sessionsv1connect.SessionServiceGetProcedure, &pb.GetRequest{Session: &pb.SessionName{Name: &pb.SessionName_Key{Key: string(id.Key())}}}, reply); err != nil {
		t.Errorf("gRPC by mTLS: %v", err)
	}
	r.stop()
	<-r.ended
	c.APIClientNames = []string{"stranger.test"}
	launchAPI(t, c)
	if err := healthOf(t, c.APIListen, i.as("shop")); err == nil {
		t.Error("a certificate that bears none of api.client_names connects")
	}
	if err := healthOf(t, c.APIListen, i.as("stranger")); err != nil {
		t.Errorf("one that bears one: %v", err)
	}
	if err := healthOf(t, c.APIListen, insecureTLS(i)); err == nil {
		t.Error("a client without a certificate connects, in spite of api.client_names")
	}
}

func insecureTLS(i *identities) credentials.TransportCredentials { return i.as("") }

// TestAPIReload: changed callers and tokens are in use without a restart; a broken file keeps
// the former ones, and the log and the metric say so, with every mistake and no token.
func TestAPIReload(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	id, _ := signIn(t, server)
	c, tokens := apiAlone(t, server.Addr, oneCaller, "admin: {listen: "+free(t)+"}")
	r := launchAPI(t, c)
	ask := func(token string) int {
		code, _ := curl(t, plainClient(t), apiURL(c, "Get"), token, `{"session": {"key": "`+string(id.Key())+`"}}`)
		return code
	}
	const next = "the-next-token-of-the-shop-which-is-longer"
	writeAtAStroke(t, tokens, apiToken+"\n"+next+"\n")
	r.logs(t, "changed callers are in use")
	if ask(apiToken) != 200 || ask(next) != 200 {
		t.Error("one of the two tokens is refused")
	}
	writeAtAStroke(t, tokens, "short\n"+next+"\n")
	r.logs(t, "the callers file cannot be used; the callers as they were before stay in use")
	awaits(t, c.AdminListen, `coatcheck_reload_failing{source="callers"} 1`)
	if ask(apiToken) != 200 {
		t.Error("a broken file has ended the former tokens")
	}
	writeAtAStroke(t, tokens, next+"\n")
	awaits(t, c.AdminListen, `coatcheck_reload_failing{source="callers"} 0`)
	if ask(apiToken) != 401 || ask(next) != 200 {
		t.Error("the former token is not refused")
	}
	text, err := os.ReadFile(c.APICallersFile)
	if err != nil {
		t.Fatal(err)
	}
	writeAtAStroke(t, c.APICallersFile, strings.Replace(string(text), "get, check", "check", 1))
	awaits(t, c.AdminListen, `coatcheck_reloads_total{result="ok",source="callers"} 3`)
	if got := ask(next); got != 403 {
		t.Errorf("without the right: %d", got)
	}
	if log := r.log.String(); strings.Contains(log, next) || strings.Contains(log, apiToken) || strings.Contains(log, `"short"`) {
		t.Errorf("the log repeats a token: %s", log)
	}
}

// TestAPIRights: with callers that may add, revoke or list, it starts only if its Redis user
// may; the user of the page may; where Redis is away at the start, a notice says it later.
func TestAPIRights(t *testing.T) {
	server := redistest.Start(t)
	all := strings.Replace(oneCaller, "by_id]", "by_id, add, revoke, list]", 1)
	for name, callers := range map[string]string{"coatcheck-check": oneCaller, "coatcheck-api": all} {
		c, _ := apiAlone(t, server.Addr, callers, "")
		c.RedisUsername = user(t, server, name)
		id, _ := signIn(t, server)
		r := launchAPI(t, c)
		if code, text := curl(t, plainClient(t), apiURL(c, "Check"), apiToken, `{"session": {"id": "`+id.Reveal()+`"}, "roles": {"any_of": ["x"]}, "touch": true}`); code != 200 {
			t.Errorf("%s: Check: %d %s", name, code, text)
		}
		if callers == all {
			for _, call := range [][2]string{
				{"AddFields", `{"session": {"key": "` + string(id.Key()) + `"}, "fields": {"cart": "1"}}`}, {"ListUserSessions", `{"user_id": "42"}`},
				{"RevokeUser", `{"user_id": "42", "except": {"key": "` + string(id.Key()) + `"}}`}, {"Revoke", `{"session": {"key": "` + string(id.Key()) + `"}}`}, {"RevokeUser", `{"user_id": "42"}`},
			} {
				if code, text := curl(t, plainClient(t), apiURL(c, call[0]), apiToken, call[1]); code != 200 {
					t.Errorf("%s: %s: %d %s", name, call[0], code, text)
				}
			}
		}
		r.stop()
		<-r.ended
		if log := r.log.String(); strings.Contains(log, `"level":"ERROR"`) || strings.Contains(log, "NOPERM") {
			t.Errorf("%s: the log has errors: %s", name, log)
		}
	}
	for _, right := range []string{"add", "revoke", "list"} {
		c, _ := apiAlone(t, server.Addr, strings.Replace(oneCaller, "by_id]", right+"]", 1))
		c.RedisUsername = "coatcheck-check"
		err := Run(t.Context(), c, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "api.callers_file") || !strings.Contains(err.Error(), "+eval") {
			t.Errorf("a caller with %s and the user of checks: %v", right, err)
		}
	}
	former := firstTimeout
	firstTimeout = time.Second // which the start waits for
	t.Cleanup(func() { firstTimeout = former })
	away, err := redistest.NewProxy(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	away.Cut()
	c, _ := apiAlone(t, away.Addr, all, "admin: {listen: "+free(t)+"}")
	c.RedisUsername = "coatcheck-check"
	r := launchAPI(t, c)
	away.Heal()
	r.logs(t, `"notice":"`+string(notice.APIRights)+`"`)
}

// TestAPIRedisAway: Redis that is paused, or away, is UNAVAILABLE within the time of the call,
// and never NOT_FOUND or a denial.
func TestAPIRedisAway(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	id, _ := signIn(t, server)
	c, _ := apiAlone(t, server.Addr, strings.Replace(oneCaller, "by_id]", "by_id, add, revoke, list]", 1))
	c.APITimeout = 150 * time.Millisecond
	r := launchAPI(t, c)
	name := `"session": {"key": "` + string(id.Key()) + `"}`
	calls := [][2]string{
		{"Get", `{` + name + `}`}, {"Check", `{` + name + `, "roles": {"any_of": ["x"]}}`}, {"Check", `{` + name + `, "request": {"host": "a", "path": "/"}}`},
		{"AddFields", `{` + name + `, "fields": {"cart": "1"}}`}, {"Revoke", `{` + name + `}`}, {"RevokeUser", `{"user_id": "42"}`}, {"ListUserSessions", `{"user_id": "42"}`},
	}
	for _, state := range []string{"paused", "away"} {
		if state == "paused" {
			if err := server.Pause(); err != nil {
				t.Fatal(err)
			}
		} else {
			_ = server.Resume()
			server.Kill()
		}
		for _, call := range calls {
			began := time.Now()
			code, text := curl(t, plainClient(t), apiURL(c, call[0]), apiToken, call[1])
			if took := time.Since(began); code != 503 || !strings.Contains(text, "unavailable") || took > 6*time.Second { // a call has nine
				t.Errorf("%s: %s: %d %s after %v", state, call[0], code, text, took)
			}
		}
	}
	r.logs(t, `"outcome":"unavailable","cause":"`)
	if strings.Contains(r.log.String(), string(id.Key())) {
		t.Error("the log has a key")
	}
}

// TestAPIStart: what the configuration and the callers file have wrong is named, all of it.
func TestAPIStart(t *testing.T) {
	c, _ := apiAlone(t, "127.0.0.1:1", "callers:\n- {name: -, rights: [gett], fields: [user_id], token_file: /nowhere}\n- {name: a, certificate: x, rights: [get], fieldss: []}\n- {name: a, certificate: x, rights: [get]}\n- {name: b, rights: []}\n")
	err := Run(t.Context(), c, io.Discard)
	for _, want := range []string{"api.callers_file", "/nowhere", "fieldss", "line 5", "neither a certificate nor a token", "no rights"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
	c, _ = configureExpress(t, "127.0.0.1:1")
	c.APIListen = free(t)
	c.APICallersFile, _ = withCallers(t, strings.Replace(oneCaller, "[cart]", "[cart, user..plan]", 1))
	if err := Run(t.Context(), c, io.Discard); err == nil || !strings.Contains(err.Error(), "api.callers_file") || !strings.Contains(err.Error(), `caller shop: field "user..plan" is no path`) {
		t.Errorf("a field that no session can have: %v", err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	c, _ = apiAlone(t, "127.0.0.1:1", oneCaller)
	c.APIListen = busy.Addr().String()
	if err := Run(t.Context(), c, io.Discard); err == nil || !strings.Contains(err.Error(), "api.listen") {
		t.Errorf("a port in use: %v", err)
	}
}

// TestAPICertificatesInVain: a caller that is known by a certificate alone, where no client can
// present one, is a mistake at the start, and at a reload, where the former callers stay.
func TestAPICertificatesInVain(t *testing.T) {
	t.Parallel() // it waits
	const vain = "- {name: billing, certificate: billing.test, rights: [get]}\n"
	server := redistest.Start(t)
	id, _ := signIn(t, server)
	c, _ := apiAlone(t, server.Addr, oneCaller+vain)
	if err := Run(t.Context(), c, io.Discard); err == nil || !strings.Contains(err.Error(), "api.callers_file") ||
		!strings.Contains(err.Error(), "line 3: caller billing: api.tls.client_ca_file (COATCHECK_API_TLS_CLIENT_CA_FILE, --api-tls-client-ca-file): it is not set") {
		t.Errorf("at the start: %v", err)
	}
	// One that has a token, too, can be known by that.
	c, tokens := apiAlone(t, server.Addr, strings.Replace(oneCaller, "name: shop", "name: shop, certificate: shop.test", 1))
	r := launchAPI(t, c)
	text, err := os.ReadFile(c.APICallersFile)
	if err != nil {
		t.Fatal(err)
	}
	writeAtAStroke(t, c.APICallersFile, string(text)+vain)
	r.logs(t, "the callers file cannot be used; the callers as they were before stay in use")
	if log := r.log.String(); !strings.Contains(log, "caller billing: api.tls.client_ca_file") || !strings.Contains(log, c.APICallersFile) {
		t.Errorf("the log: %s", log)
	}
	if code, text := curl(t, plainClient(t), apiURL(c, "Get"), apiToken, `{"session": {"key": "`+string(id.Key())+`"}}`); code != 200 {
		t.Errorf("after the reload: %d %s", code, text)
	}
	writeAtAStroke(t, c.APICallersFile, string(text)+"- {name: chat, token_file: "+tokens+"2, rights: [get]}\n")
	writeAtAStroke(t, tokens+"2", "x"+apiToken+"\n")
	r.logs(t, `"msg":"changed callers are in use"`)
}

// TestLasting: a stream goes on beyond the time that the server gives to a call.
func TestLasting(t *testing.T) {
	slow := httptest.NewUnstartedServer(lasting(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(300 * time.Millisecond)
		_, _ = io.WriteString(w, "late")
	})))
	slow.Config.WriteTimeout, slow.Config.ReadTimeout = 100*time.Millisecond, 100*time.Millisecond
	slow.Start()
	defer slow.Close()
	code, text := curl(t, plainClient(t), slow.URL, "", "")
	for range 20 { // a busy machine may be too late to send the call
		if code != 0 {
			break
		}
		code, text = curl(t, plainClient(t), slow.URL, "", "")
	}
	if code != 200 || text != "late" {
		t.Errorf("%d %s", code, text)
	}
}
