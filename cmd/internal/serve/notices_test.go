package serve

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// said is how often the log has a notice as a line, its end not counted.
func (r *running) said(name notice.Name) int {
	all := 0
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, `"notice":"`+string(name)+`"`) && !strings.Contains(line, "no longer so") {
			all++
		}
	}
	return all
}

// stands reports what the metric says of a notice.
func stands(t *testing.T, c *config.Config, name notice.Name) bool {
	t.Helper()
	_, body := get(t, "http://"+c.AdminListen+"/metrics")
	found := regexp.MustCompile(`(?m)^coatcheck_notices\{notice="` + string(name) + `"\} ([01])$`).FindStringSubmatch(body)
	if found == nil {
		t.Fatalf("no metric of %s", name)
	}
	return found[1] == "1"
}

// user gives Redis a user with the rules that docs/sessions.md has for it, and returns
// the configuration of a process that logs in as it.
func user(t *testing.T, server *redistest.Server, name string, more ...string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(docstest.Root, "docs", "sessions.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^user ` + name + ` on >PASSWORD (.*)$`).FindStringSubmatch(string(page))
	if found == nil {
		t.Fatalf("no user %s", name)
	}
	if err := server.SetUser(name, append([]string{"reset", "on", ">" + redistest.Password}, append(strings.Fields(found[1]), more...)...)...); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestSettingsDiffer: a check whose settings are not those of login says which keys and
// both values, and that it is over when they agree; one that agrees says nothing.
func TestSettingsDiffer(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	login, _ := withLogin(t, server.Addr, "listen: ''", "session: {idle_timeout: 5m}", "cookie: {domain: example.com, name: sid}")
	first := launch(t, login)
	first.logs(t, `"msg":"serving login"`)
	checks := func(more ...string) (*config.Config, *running) {
		c := configure(t, server.Addr, append(more, "listen: "+free(t), "admin: {listen: "+free(t)+"}")...)
		c.RedisUsername = user(t, server, "coatcheck-check")
		return c, start(t, c)
	}
	same, like := checks("session: {idle_timeout: 5m}", "cookie: {name: sid}", "headers: {prefix: x-me-}")
	other, unlike := checks("cookie: {name: sid}")
	unlike.logs(t, `"differ":["session.idle_timeout is 30m here and 5m at login"]`)
	time.Sleep(1500 * time.Millisecond) // a look or two
	if n := unlike.said(notice.SettingsDiffer); n != 1 || !stands(t, other, notice.SettingsDiffer) {
		t.Errorf("said %d times", n)
	}
	if n := like.said(notice.SettingsDiffer) + first.said(notice.SettingsDiffer); n != 0 || stands(t, same, notice.SettingsDiffer) {
		t.Errorf("settings that agree differ: %s %s", like.log, first.log)
	}
	fingerprint := func(c *config.Config) string {
		_, body := get(t, "http://"+c.AdminListen+"/metrics")
		return regexp.MustCompile(`coatcheck_build_info\{[^}]*settings="([0-9a-f]{12})"`).FindStringSubmatch(body)[1]
	}
	if fingerprint(same) != fingerprint(login) || fingerprint(same) == fingerprint(other) {
		t.Errorf("the fingerprints are %s, %s, %s", fingerprint(same), fingerprint(login), fingerprint(other))
	}

	// A second login counts, since it has started last: the first one hears of it.
	second, _ := withLogin(t, server.Addr, "listen: ''", "cookie: {name: sid}")
	launch(t, second)
	unlike.logs(t, `no longer so: settings differ`)
	first.logs(t, `"cookie.domain is example.com here and empty at login","session.idle_timeout is 5m here and 30m at login"`)
	like.logs(t, `"session.idle_timeout is 5m here and 30m at login"`)
}

// TestSettingsLeftAmiss: what another program has left, or nothing at all, is no notice,
// and neither is a Redis without the hash. Login leaves its settings again if they are
// gone.
func TestSettingsLeftAmiss(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	client := server.Client()
	defer client.Close()
	c := configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}")
	r := start(t, c)
	for _, text := range []string{"", "{", `{"settings":{"cookie.later":"x"}}`} {
		if text != "" {
			client.HSet(t.Context(), "coatcheck:state", "settings", text)
		}
		time.Sleep(1200 * time.Millisecond)
	}
	if n := r.said(notice.SettingsDiffer) + r.said(notice.SettingsUnread); n != 0 {
		t.Errorf("said %d times: %s", n, r.log)
	}
	client.Del(t.Context(), "coatcheck:state")
	login, _ := withLogin(t, server.Addr, "listen: ''")
	launch(t, login)
	for range 2 {
		text := ""
		for deadline := time.Now().Add(time.Minute); text == "" && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			text = client.HGet(t.Context(), "coatcheck:state", "settings").Val()
		}
		if !strings.Contains(text, `"session.idle_timeout":"30m0s"`) || strings.Contains(text, redistest.Password) {
			t.Errorf("login has left %q", text)
		}
		client.Del(t.Context(), "coatcheck:state")
	}
}

// TestFormerRights: with the rights that a former version needed, checks and logins work;
// one line says what goes unnoticed.
func TestFormerRights(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	_, cookie := signIn(t, server)
	c := configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}")
	c.RedisUsername = user(t, server, "coatcheck-check", "resetkeys", "~session:*")
	r := start(t, c)
	r.logs(t, `"notice":"settings_unread"`)
	time.Sleep(1200 * time.Millisecond)
	if n := r.said(notice.SettingsUnread); n != 1 || !strings.Contains(r.log.String(), "%R~coatcheck:state") {
		t.Errorf("said %d times: %s", n, r.log)
	}
	if got := r.check(t, cookie); got != 200 {
		t.Errorf("a check: %d", got)
	}
	user(t, server, "coatcheck-check")
	r.logs(t, "no longer so: coatcheck:state")
}

// TestLoginWithTheUserOfChecks says at start which rights are missing, and when they are
// there.
func TestLoginWithTheUserOfChecks(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	c, _ := withLogin(t, server.Addr, "listen: ''")
	c.RedisUsername = user(t, server, "coatcheck-check")
	r := launch(t, c)
	r.logs(t, `"notice":"login_rights","redis.username":"coatcheck-check","missing":["+hset",`)
	for _, want := range []string{`"level":"ERROR"`, `"+eval"`, `"~user-sessions:*"`, "docs/sessions.md"} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("no %s: %s", want, r.log)
		}
	}
	r.logs(t, `"msg":"serving login"`)
	if !stands(t, c, notice.LoginRights) || r.said(notice.LoginRights) != 1 {
		t.Errorf("said %d times: %s", r.said(notice.LoginRights), r.log)
	}
	page, err := os.ReadFile(filepath.Join(docstest.Root, "docs", "sessions.md"))
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`(?m)^user coatcheck-login on >PASSWORD (.*)$`).FindStringSubmatch(string(page))[1]
	if err := server.SetUser("coatcheck-check", append([]string{"on", ">" + redistest.Password}, strings.Fields(rules)...)...); err != nil {
		t.Fatal(err)
	}
	r.logs(t, "no longer so: Redis answers, but login lacks rights")
	if status, _ := post(t, c, "ada", "correct horse battery"); stands(t, c, notice.LoginRights) || status >= 500 {
		t.Errorf("afterwards: %d", status)
	}
}

// TestLoginWithoutRedis: a Redis that is away at the start lacks no right.
func TestLoginWithoutRedis(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	server.Kill()
	c, _ := withLogin(t, server.Addr, "listen: ''")
	r := launch(t, c)
	r.logs(t, `"msg":"serving login"`)
	time.Sleep(1200 * time.Millisecond)
	if strings.Contains(r.log.String(), `"notice":"login_rights"`) || strings.Contains(r.log.String(), `"notice":"settings`) {
		t.Errorf("an outage is a notice: %s", r.log)
	}
}

// TestClocksApart: the clocks of Redis and of this machine.
func TestClocksApart(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.StartWith(t, redistest.Options{Clock: true})
	if err := server.SetClock(time.Hour); err != nil {
		t.Fatal(err)
	}
	c := configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}")
	r := start(t, c)
	r.logsLike(t, `"notice":"clocks_apart","redis_ahead_by":"(1h0m|59m5)[0-9]+s"`) // half of a round trip, of a busy machine
	if err := server.SetClock(0); err != nil {
		t.Fatal(err)
	}
	r.logs(t, "no longer so: the clocks")
	if n := r.said(notice.ClocksApart); n != 1 || stands(t, c, notice.ClocksApart) {
		t.Errorf("said %d times: %s", n, r.log)
	}
}

// TestDeadlineOfCalls: calls that say that their caller waits no longer than timeout are
// one notice; a few, or such with enough time, are none.
func TestDeadlineOfCalls(t *testing.T) {
	server := redistest.Start(t)
	c := configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}")
	c.Timeout = time.Minute
	r := start(t, c)
	ask := func(n int, given time.Duration) {
		for range n {
			ctx, cancel := context.WithTimeout(t.Context(), given)
			if _, err := r.Check(ctx, &authv3.CheckRequest{}); err != nil {
				t.Error(err)
			}
			cancel()
		}
	}
	ask(5*enoughCalls, 5*time.Minute)
	for range 2 * enoughCalls { // without any deadline
		if _, err := r.Check(context.Background(), &authv3.CheckRequest{}); err != nil {
			t.Error(err)
		}
	}
	ask(enoughCalls-1, 50*time.Second)
	if n := r.said(notice.EnvoyDeadline); n != 0 {
		t.Errorf("said %d times: %s", n, r.log)
	}
	ask(3*enoughCalls, 50*time.Second)
	if n := r.said(notice.EnvoyDeadline); n != 1 || !stands(t, c, notice.EnvoyDeadline) {
		t.Errorf("said %d times: %s", n, r.log)
	}
	r.logsLike(t, `"envoy":"(50|4[0-9][.0-9]*)s","timeout":"1m0s"`)
}

// TestSaidAtStart: what the configuration alone tells.
func TestSaidAtStart(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	c := configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}", "session: {idle_timeout: 24h}")
	r := start(t, c)
	r.logs(t, `"msg":"serving"`)
	for name, want := range map[notice.Name]string{
		notice.IdleBeyondMaximum: `"level":"WARN"`, notice.LongTimeout: "timeout is 9s", notice.SecureCookie: "needs https",
	} {
		if r.said(name) != 1 || !stands(t, c, name) || !strings.Contains(r.log.String(), want) {
			t.Errorf("%s: %s", name, r.log)
		}
	}
	c = configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}", "cookie: {name: sid, insecure: true}")
	c.Timeout = 150 * time.Millisecond
	r = start(t, c)
	r.logs(t, `"msg":"serving"`)
	for _, name := range notice.Names() {
		if r.said(name) != 0 {
			t.Errorf("%s: %s", name, r.log)
		}
	}
}

// TestNoticesAreAllExported: every notice of the list is a series of a server that checks
// and signs in, and says nothing about itself.
func TestNoticesAreAllExported(t *testing.T) {
	t.Parallel() // it waits
	c, _ := withLogin(t, redistest.Start(t).Addr, "listen: "+free(t))
	start(t, c).logs(t, `"msg":"serving"`)
	for _, name := range notice.Names() {
		if stands(t, c, name) != (name == notice.LongTimeout || name == notice.SecureCookie) {
			t.Errorf("%s stands, or does not", name)
		}
	}
}
