package serve

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// gauge waits until a gauge of the server has a value, and returns the last one.
func gauge(t *testing.T, address, name, want string) (value string) {
	t.Helper()
	pattern := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`)
	for range 1200 {
		_, metrics := get(t, "http://"+address+"/metrics")
		value = ""
		if found := pattern.FindStringSubmatch(metrics); found != nil {
			value = found[1]
		}
		if value == want {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if value != want {
		t.Errorf("%s is %q, want %q", name, value, want)
	}
	return value
}

// TestGaugesOfSessions: how many keys there are is known to every server, and how many
// sessions live to one that is told to count them, which may be all that it does.
func TestGaugesOfSessions(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	for range 3 {
		signIn(t, server)
	}
	client := server.Client()
	defer client.Close()
	client.HSet(t.Context(), "session:"+strings.Repeat("A", 43), "v", "1") // lives for no check
	client.Set(t.Context(), "other", "x", 0)

	c := configure(t, server.Addr, "admin: {listen: "+free(t)+"}", "listen: ''", "login: {listen: ''}", "session: {count_every: 1h}")
	alone := launch(t, c)
	alone.logs(t, `"msg":"serving"`)
	gauge(t, c.AdminListen, "coatcheck_redis_keys", "6") // three sessions, one listing, and the two
	gauge(t, c.AdminListen, "coatcheck_sessions_live", "3")

	c = configure(t, server.Addr, "admin: {listen: "+free(t)+"}", "listen: "+free(t))
	c.RedisDatabase = 1
	start(t, c)
	gauge(t, c.AdminListen, "coatcheck_redis_keys", "0")
	gauge(t, c.AdminListen, "coatcheck_sessions_live", "")
}

// TestCountNeedsScan: where the Redis user may not SCAN, the log names the right, once,
// and no number is made up.
func TestCountNeedsScan(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	signIn(t, server)
	if err := server.SetUser("coatcheck-check", "on", ">"+redistest.Password, "~session:*", "+hmget", "+pexpireat", "+pttl", "+time", "+info"); err != nil {
		t.Fatal(err)
	}
	c := configure(t, server.Addr, "admin: {listen: "+free(t)+"}", "listen: "+free(t))
	c.RedisUsername, c.CountEvery = "coatcheck-check", 50*time.Millisecond
	r := start(t, c)
	gauge(t, c.AdminListen, "coatcheck_redis_keys", "2")
	time.Sleep(200 * time.Millisecond)
	gauge(t, c.AdminListen, "coatcheck_sessions_live", "NaN")
	if n := strings.Count(r.log.String(), "+scan"); n != 1 {
		t.Errorf("the log names +scan %d times:\n%s", n, r.log.String())
	}
}
