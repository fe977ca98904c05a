package serve

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

const (
	expressSID    = "hzA1Fb15vkgDrCT7hR96BFYnxz1WUJZZ"
	expressSecret = "keyboard cat"
	expressUser   = `{"cookie":{"originalMaxAge":600000,"expires":"2001-01-01T00:00:00.000Z","httpOnly":true,"path":"/"},"user":{"userId":42,"username":"ada","roles":["admin","staff"],"plan":"gold"},"tenant":"acme"}`
)

// expressCookie is what a browser sends that has the cookie of express-session.
func expressCookie(sid, secret string) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(sid))
	return "connect.sid=" + url.QueryEscape("s:"+sid+"."+base64.RawStdEncoding.EncodeToString(h.Sum(nil)))
}

// configureExpress configures a server for sessions of Express, and writes their secrets.
func configureExpress(t *testing.T, redis string, more ...string) (c *config.Config, secrets string) {
	t.Helper()
	secrets = filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(secrets, []byte("new secret\n"+expressSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return configure(t, redis, append([]string{
		"listen: " + free(t),
		"session: {format: express, express: {secret_file: " + secrets + ", user_id_path: user.userId, username_path: user.username, roles_path: user.roles}}",
		"headers: {fields: [tenant, user.plan=x-user-plan]}",
	}, more...)...), secrets
}

func (r *running) ask(t *testing.T, cookie, path string) *authv3.CheckResponse {
	t.Helper()
	response, err := r.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Id: expressSID, Method: "GET", Path: path, Host: "shop.example",
			Headers: map[string]string{"cookie": cookie, "x-user-session": "forged", "x-user-id": "forged", "X_User_Session": "forged"},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// restricted is the ACL user of docs/express.md.
func restricted(t *testing.T, server *redistest.Server) (admin *redis.Client) {
	t.Helper()
	admin = server.Client()
	t.Cleanup(func() { _ = admin.Close() })
	rules := strings.Fields(redisRules(t, "coatcheck-express"))
	args := []any{"acl", "setuser", "coatcheck-express", "on", ">" + redistest.Password}
	for _, rule := range rules {
		args = append(args, rule)
	}
	if err := admin.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	return admin
}

// redisRules are those of a user in docs/express.md, without its password.
func redisRules(t *testing.T, user string) string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/express.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "user "+user+" on ")
	if !ok {
		t.Fatalf("docs/express.md has no user %s", user)
	}
	line, _, _ := strings.Cut(rest, "\n")
	_, rules, _ := strings.Cut(line, " ")
	return rules
}

// TestExpress: sessions of Express are checked with the rights that the docs give, slid, and
// shown nowhere.
func TestExpress(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	admin := restricted(t, server)
	c, secrets := configureExpress(t, server.Addr, "admin: {listen: \""+free(t)+"\"}")
	c.RedisUsername = "coatcheck-express"
	key := "sess:" + expressSID
	write := func(value string, ttl time.Duration) {
		if err := admin.Set(t.Context(), key, value, ttl).Err(); err != nil {
			t.Fatal(err)
		}
	}
	write(expressUser, time.Minute)
	r := start(t, c)
	cookie := expressCookie(expressSID, expressSecret)

	response := r.ask(t, "a=b; "+cookie, "/"+expressSID+"/x?sid="+expressSID)
	ok := response.GetOkResponse()
	if ok == nil {
		t.Fatalf("refused: %v\n%s", response, r.log)
	}
	set := make(map[string]string)
	for _, h := range ok.GetHeaders() {
		set[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	want := map[string]string{"x-user-id": "42", "x-user-name": "ada", "x-user-roles": "admin,staff", "x-user-tenant": "acme", "x-user-plan": "gold"}
	for name, value := range want {
		if set[name] != value {
			t.Errorf("%s: %q, want %q", name, set[name], value)
		}
	}
	if len(set) != len(want) {
		t.Errorf("headers that are set: %v", set)
	}
	for _, name := range []string{"x-user-session", "X_User_Session"} {
		if !slices.Contains(ok.GetHeadersToRemove(), name) {
			t.Errorf("%s is not removed: %v", name, ok.GetHeadersToRemove())
		}
	}
	if slices.Contains(ok.GetHeadersToRemove(), "cookie") {
		t.Error("the application does not get its cookie")
	}
	for deadline := time.Now().Add(time.Minute); admin.PTTL(t.Context(), key).Val() < 9*time.Minute; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is not slid: %v\n%s", admin.PTTL(t.Context(), key).Val(), r.log)
		}
	}
	if admin.Get(t.Context(), key).Val() != expressUser {
		t.Error("the record was changed")
	}

	for what, is := range map[string]struct {
		cookie, value string
		ttl           time.Duration
		reason        string
	}{
		"no cookie":     {"", expressUser, time.Hour, "no_cookie"},
		"other secret":  {expressCookie(expressSID, "guess"), expressUser, time.Hour, "malformed_cookie"},
		"two cookies":   {cookie + "; " + cookie, expressUser, time.Hour, "ambiguous_cookie"},
		"unknown":       {expressCookie("unknown", expressSecret), expressUser, time.Hour, "not_found"},
		"anonymous":     {cookie, `{"cookie":{}}`, time.Hour, "not_found"},
		"no end":        {cookie, expressUser, 0, "broken_record"},
		"user is a map": {cookie, `{"cookie":{},"user":{"userId":{}}}`, time.Hour, "broken_record"},
		"too large":     {cookie, expressUser + strings.Repeat(" ", 256<<10), time.Hour, "broken_record"},
	} {
		write(is.value, is.ttl)
		response := r.ask(t, is.cookie, "/x")
		if got := response.GetDynamicMetadata().GetFields()["reason"].GetStringValue(); got != is.reason || response.GetDeniedResponse().GetStatus().GetCode() != 401 {
			t.Errorf("%s: %q, %v", what, got, response)
		}
	}

	write(expressUser, time.Hour)
	if err := os.WriteFile(secrets, []byte("third\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.logs(t, "changed secrets of sessions are in use")
	if r.check(t, cookie) != 401 || r.check(t, expressCookie(expressSID, "third")) != 200 {
		t.Error("the former secrets are in use")
	}
	if err := os.WriteFile(secrets, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.logs(t, "the changed secrets of sessions cannot be used")
	if r.check(t, expressCookie(expressSID, "third")) != 200 {
		t.Error("a file without a secret has ended the former ones")
	}

	metrics := read(t, "http://"+c.AdminListen+"/metrics")
	handle := base64.RawURLEncoding.EncodeToString(sum(expressSID))[:12]
	if !strings.Contains(r.log.String(), `"session":"`+handle+`"`) {
		t.Errorf("the log has no handle %s:\n%s", handle, r.log)
	}
	for where, text := range map[string]string{"log": r.log.String(), "metrics": metrics} {
		for _, secret := range []string{expressSID, expressSecret, "new secret", "third", redistest.Password, "acme", "gold"} {
			if strings.Contains(text, secret) {
				t.Errorf("the %s holds %s:\n%s", where, secret, text)
			}
		}
	}
	for _, bad := range []string{"NOPERM", "but not to a check", "cannot read the settings", `"level":"WARN","msg":"Redis`} {
		if strings.Contains(r.log.String(), bad) {
			t.Errorf("the rights of the docs are not enough (%s):\n%s", bad, r.log)
		}
	}
}

func sum(s string) []byte {
	h := sha256.Sum256([]byte(s))
	return h[:]
}

func read(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestExpressWithoutRights: the log says which right is missing, and checks go on where
// sessions can be read.
func TestExpressWithoutRights(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	admin := restricted(t, server)
	for rule, line := range map[string]string{"-expire": "sessions cannot be slid", "-getrange": "a check cannot read sessions"} {
		if err := admin.Do(t.Context(), "acl", "setuser", "coatcheck-express", "+expire", "+getrange", rule).Err(); err != nil {
			t.Fatal(err)
		}
		if err := admin.Set(t.Context(), "sess:"+expressSID, expressUser, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		c, _ := configureExpress(t, server.Addr)
		c.RedisUsername = "coatcheck-express"
		r := start(t, c)
		r.logs(t, line)
		want := 200
		if rule == "-getrange" {
			want = 503
		}
		if got := r.check(t, expressCookie(expressSID, expressSecret)); got != want {
			t.Errorf("%s: %d", rule, got)
		}
	}
}

// TestExpressEmptied: checks of sessions that are missing wait where Redis has lost its
// data.
func TestExpressEmptied(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	admin := restricted(t, server)
	if err := admin.Do(t.Context(), append([]any{"acl", "setuser", "coatcheck-express"}, selectors(redisRules(t, "coatcheck-express-hold"))...)...).Err(); err != nil {
		t.Fatal(err)
	}
	c, _ := configureExpress(t, server.Addr)
	c.RedisUsername, c.RedisEmptiedHold = "coatcheck-express", time.Minute
	if err := admin.Set(t.Context(), "sess:"+expressSID, expressUser, time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	r := start(t, c)
	cookie := expressCookie(expressSID, expressSecret)
	for deadline := time.Now().Add(time.Minute); admin.HGet(t.Context(), "coatcheck:state", "epoch").Val() == ""; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("there is no epoch\n%s", r.log)
		}
	}
	time.Sleep(1500 * time.Millisecond) // it is known from the next look on
	if got := r.check(t, cookie); got != 200 {
		t.Fatalf("live: %d", got)
	}
	if err := admin.FlushAll(context.WithoutCancel(t.Context())).Err(); err != nil {
		t.Fatal(err)
	}
	r.logs(t, "redis_emptied")
	for deadline := time.Now().Add(time.Minute); r.check(t, cookie) != 503; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("what is missing is not held\n%s", r.log)
		}
	}
	if strings.Contains(r.log.String(), "NOPERM") {
		t.Errorf("the rights of the docs are not enough:\n%s", r.log)
	}
}

// selectors splits rules of an ACL, of which one in brackets is one argument.
func selectors(rules string) (all []any) {
	for rules = strings.TrimSpace(rules); rules != ""; rules = strings.TrimSpace(rules) {
		end := strings.IndexByte(rules+" ", ' ')
		if rules[0] == '(' {
			end = strings.IndexByte(rules, ')') + 1
		}
		all, rules = append(all, rules[:end]), rules[end:]
	}
	return all
}

// TestExpressOnCluster: the same on a Cluster, whose nodes share the sessions.
func TestExpressOnCluster(t *testing.T) {
	t.Parallel() // it waits
	cluster := redistest.StartCluster(t, 0, nil)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs(), Password: redistest.Password})
	defer client.Close()
	c, _ := configureExpress(t, cluster.Addrs()[0])
	c.RedisCluster = true
	r := start(t, c)
	for _, sid := range []string{"one-one-one-one-one", "two-two-two-two-two", "three-three-three-three", "four-four-four-four"} {
		if err := client.Set(t.Context(), "sess:"+sid, expressUser, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		if got := r.check(t, expressCookie(sid, expressSecret)); got != 200 {
			t.Errorf("%s: %d\n%s", sid, got, r.log)
		}
		for deadline := time.Now().Add(time.Minute); client.PTTL(t.Context(), "sess:"+sid).Val() < 9*time.Minute; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s is not slid\n%s", sid, r.log)
			}
		}
	}
	if strings.Contains(r.log.String(), `"level":"ERROR"`) {
		t.Errorf("errors:\n%s", r.log)
	}
}

// TestAPIExpress: services ask for sessions of Express by the cookie's value or the handle,
// never by a key, which is the browser's secret; what the application alone does is refused
// by its reason, and no answer and no line of the log has the ID.
func TestAPIExpress(t *testing.T) {
	server := redistest.Start(t)
	admin := server.Client()
	defer admin.Close()
	if err := admin.Set(t.Context(), "sess:"+expressSID, expressUser, 10*time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	path, _ := withCallers(t, "callers:\n- {name: shop, token_file: TOKEN, rights: [get, check, touch, add, revoke, list, watch, by_id], fields: [tenant]}\n")
	c, _ := configureExpress(t, server.Addr, "api: {listen: \""+free(t)+"\", callers_file: "+path+", timeout: 5s}")
	r := launchAPI(t, c)
	id, err := sessions.ForeignID(expressSID)
	if err != nil {
		t.Fatal(err)
	}
	value, handle := strings.TrimPrefix(expressCookie(expressSID, expressSecret), "connect.sid="), id.Key().Handle()
	for _, call := range []struct {
		method, body string
		code         int
		has          string
	}{
		{"Get", `{"session": {"id": "` + value + `"}, "fields": ["tenant"]}`, 200, `"acme"`},
		{"Get", `{"session": {"handle": "` + handle + `"}}`, 200, `"userId":"42"`},
		{"Check", `{"session": {"handle": "` + handle + `"}, "roles": {"anyOf": ["admin"]}, "touch": true}`, 200, `"allowed":true`},
		{"Check", `{"session": {"id": "` + value + `"}, "request": {"host": "shop.example", "path": "/"}}`, 200, `"allowed":true`},
		{"Get", `{"session": {"id": "` + value[:len(value)-3] + `AAA"}}`, 404, "not_found"},
		{"Get", `{"session": {"key": "session:` + strings.Repeat("A", 43) + `"}}`, 400, ""},
		{"AddFields", `{"session": {"handle": "` + handle + `"}, "fields": {"tenant": "x"}}`, 501, ""},
		{"Revoke", `{"session": {"handle": "` + handle + `"}}`, 501, ""},
		{"RevokeUser", `{"userId": "42"}`, 501, ""},
		{"ListUserSessions", `{"userId": "42"}`, 501, ""},
	} {
		code, text := curl(t, plainClient(t), apiURL(c, call.method), apiToken, call.body)
		if code != call.code || !strings.Contains(strings.ReplaceAll(text, ": ", ":"), call.has) {
			t.Errorf("%s %s: %d %s, want %d with %q", call.method, call.body, code, text, call.code, call.has)
		}
		if strings.Contains(text, expressSID) || strings.Contains(text, "sess:") {
			t.Errorf("%s says %s", call.method, text)
		}
	}
	if now, err := admin.Get(t.Context(), "sess:"+expressSID).Result(); err != nil || now != expressUser {
		t.Errorf("the record is now %q, %v", now, err)
	}
	r.logs(t, `"call":"Get"`)
	if log := r.log.String(); strings.Contains(log, expressSID) {
		t.Error("the log has the ID")
	}
}

// TestAPIExpressHandles: callers that name sessions by their handles alone need the right to
// SCAN, which is missed by its name; a call without it is told so, and not that Redis is away.
// A caller that may name them by ID may never need it.
func TestAPIExpressHandles(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	admin := restricted(t, server)
	if err := admin.Set(t.Context(), "sess:"+expressSID, expressUser, 10*time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	id, err := sessions.ForeignID(expressSID)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"session": {"handle": "` + id.Key().Handle() + `"}}`
	for rights, needed := range map[string]bool{"[get]": true, "[get, add, by_id]": false} {
		path, _ := withCallers(t, "callers:\n- {name: shop, token_file: TOKEN, rights: "+rights+"}\n")
		c, _ := configureExpress(t, server.Addr, "api: {listen: \""+free(t)+"\", callers_file: "+path+", timeout: 5s}")
		c.RedisUsername = "coatcheck-express"
		r := launchAPI(t, c)
		if needed {
			r.logs(t, `"notice":"`+string(notice.APIRights)+`","missing":["+scan"]`)
		}
		if code, text := curl(t, plainClient(t), apiURL(c, "Get"), apiToken, body); code != 503 || !strings.Contains(text, "lacks a right") {
			t.Errorf("%s: without the right: %d %s", rights, code, text)
		}
		r.logs(t, `"outcome":"unavailable","cause":"no_permission"`)
		if err := admin.Do(t.Context(), "acl", "setuser", "coatcheck-express", "+scan").Err(); err != nil {
			t.Fatal(err)
		}
		if needed {
			r.logs(t, `"msg":"no longer so: Redis answers, but the session API lacks rights`)
		}
		if code, text := curl(t, plainClient(t), apiURL(c, "Get"), apiToken, body); code != 200 {
			t.Errorf("%s: with the right: %d %s", rights, code, text)
		}
		if said := strings.Contains(r.log.String(), string(notice.APIRights)); said != needed {
			t.Errorf("%s: the notice is said: %v", rights, said)
		}
		if err := admin.Do(t.Context(), "acl", "setuser", "coatcheck-express", "-scan").Err(); err != nil {
			t.Fatal(err)
		}
		r.stop()
		<-r.ended
	}
}
