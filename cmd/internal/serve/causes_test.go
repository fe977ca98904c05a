package serve

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestCauseLines: a cause that begins is a line, one that goes on is no further one, one
// that comes and goes is one a minute, and each that was said has its end.
func TestCauseLines(t *testing.T) {
	var log bytes.Buffer
	now, failed, tried := time.Now(), map[redisstore.Cause]uint64{}, 0
	w := newCauseWatch(new(redisstore.Store), slog.New(slog.NewJSONHandler(&log, nil)))
	w.now = func() time.Time { return now }
	w.failures = func() map[redisstore.Cause]uint64 { return failed }
	w.openedBy = func() []redisstore.Cause { return []redisstore.Cause{redisstore.CauseTimeout} }
	w.try = func(context.Context) error { tried++; return errors.New("refused") }
	looks := func(n int, failing ...redisstore.Cause) {
		for range n {
			for _, cause := range failing {
				failed[cause] += 10
			}
			w.look(t.Context())
			now = now.Add(time.Second)
		}
	}
	lines := func() (begun, ended int) {
		ended = strings.Count(log.String(), `"msg":"no longer so: operations on Redis fail`)
		return strings.Count(log.String(), "operations on Redis fail") - ended, ended
	}
	looks(10)
	if log.Len() > 0 || tried > 0 {
		t.Errorf("in health: %d tries, %s", tried, &log)
	}
	looks(120, redisstore.CauseReadOnly, redisstore.CauseBreaker)
	if begun, ended := lines(); begun != 2 || ended != 0 || tried < 100 {
		t.Errorf("%d begin, %d end, %d tries: %s", begun, ended, tried, &log)
	}
	for _, want := range []string{`"level":"ERROR"`, `"cause":"read_only"`, `"cure":"let redis.addresses name the master`, `"cause":"breaker","opened_by":["timeout"]`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %s in %s", want, &log)
		}
	}
	looks(10)
	if begun, ended := lines(); begun != 2 || ended != 2 || !strings.Contains(log.String(), `"cause":"read_only","lasted":"1m59s","failed":1200}`) {
		t.Errorf("%d begin, %d end: %s", begun, ended, &log)
	}
	log.Reset()
	tried = 0
	if looks(10); tried > 0 {
		t.Errorf("%d tries afterwards", tried)
	}
	for range 60 { // ten minutes of it
		looks(1, redisstore.CauseRefused)
		looks(9)
	}
	if begun, ended := lines(); begun != 10 || ended != 10 {
		t.Errorf("in ten minutes of coming and going %d begin, %d end: %s", begun, ended, &log)
	}
	// One that comes back within the minute and stays is said when the minute is over: the
	// last line would say that it is no longer so.
	looks(120)
	log.Reset()
	looks(1, redisstore.CauseRefused)
	looks(9)
	looks(120, redisstore.CauseRefused)
	if begun, ended := lines(); begun != 2 || ended != 1 || strings.LastIndex(log.String(), "no longer so") > strings.LastIndex(log.String(), `"level":"ERROR"`) {
		t.Errorf("of one that stays %d begin, %d end: %s", begun, ended, &log)
	}
	looks(10)
	if begun, ended := lines(); begun != 2 || ended != 2 || !strings.Contains(log.String(), `"lasted":"1m59s"`) {
		t.Errorf("at the end of it %d begin, %d end: %s", begun, ended, &log)
	}
}

// logsLike waits until a line of the log matches.
func (r *running) logsLike(t *testing.T, pattern string) {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(time.Minute); !expression.MatchString(r.log.String()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no line of the log is like %s:\n%s", pattern, r.log)
		}
	}
}

// causeMetric is how many operations have failed by a cause.
func causeMetric(t *testing.T, c *config.Config, cause string) string {
	t.Helper()
	_, body := get(t, "http://"+c.AdminListen+"/metrics")
	found := regexp.MustCompile(`(?m)^coatcheck_redis_failures_total\{cause="` + cause + `"\} (\S+)$`).FindStringSubmatch(body)
	if found == nil {
		t.Fatalf("no metric of %s", cause)
	}
	return found[1]
}

// TestCauseOfA503: a master that refuses writes answers no check, although it would read.
// The decision, a metric and a line name the cause; the line of its end comes without any
// request.
func TestCauseOfA503(t *testing.T) {
	t.Parallel() // it waits
	for command, cause := range map[string]string{
		"config set min-replicas-to-write 1": "no_replicas", "replicaof 127.0.0.1 1": "read_only",
	} {
		t.Run(cause, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			_, cookie := signIn(t, server)
			admin := server.Client()
			defer admin.Close()
			c := configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}")
			r := start(t, c)
			if got := r.check(t, cookie); got != 200 {
				t.Fatalf("at first: %d", got)
			}
			must := func(command string) {
				var args []any
				for _, word := range strings.Fields(command) {
					args = append(args, word)
				}
				if err := admin.Do(t.Context(), args...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			must(command)
			for range 20 {
				if got := r.check(t, cookie); got != 503 {
					t.Fatalf("a check is answered %d", got)
				}
			}
			r.logs(t, `"cause":"`+cause+`","error":`)
			r.logsLike(t, `"msg":"operations on Redis fail: [^"]*","cause":"`+cause+`","cure":"`)
			if causeMetric(t, c, cause) == "0" {
				t.Error("the metric does not count it")
			}
			must("config set min-replicas-to-write 0")
			must("replicaof no one")
			r.logsLike(t, `"msg":"no longer so: operations on Redis fail: [^"]*","cause":"`+cause+`","lasted":"`)
			if got := r.check(t, cookie); got != 200 {
				t.Errorf("afterwards: %d", got)
			}
		})
	}
}

// TestRedisEmptied: a check process, which only reads the epoch, says that Redis has lost
// its sessions; with a hold a missing session is a 503 until the data are back, and a new
// one is admitted meanwhile.
func TestRedisEmptied(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	admin := server.Client()
	defer admin.Close()
	login, _ := withLogin(t, server.Addr, "listen: ''")
	login.RedisUsername = user(t, server, "coatcheck-login")
	atLogin := launch(t, login)
	c := configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+free(t)+"}")
	c.RedisEmptiedHold = time.Hour
	c.RedisUsername = user(t, server, "coatcheck-check")
	r := start(t, c)
	epoch := func() string { return admin.HGet(t.Context(), "coatcheck:state", "epoch").Val() }
	for deadline := time.Now().Add(time.Minute); epoch() == "" && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	former := epoch()
	_, cookie := signIn(t, server)
	time.Sleep(3500 * time.Millisecond) // some looks
	if n := r.said(notice.RedisEmptied) + r.said(notice.EpochUnread) + atLogin.said(notice.RedisEmptied); n != 0 || r.check(t, cookie) != 200 {
		t.Fatalf("in health: said %d times: %s", n, r.log)
	}
	dump := admin.Dump(t.Context(), "coatcheck:state").Val()

	admin.FlushAll(t.Context())
	r.logs(t, `"notice":"redis_emptied","key":"coatcheck:state","redis.emptied_hold":"1h0m0s","cure":`)
	atLogin.logs(t, `"notice":"redis_emptied"`)
	if got := r.check(t, cookie); got != 503 || !stands(t, c, notice.RedisEmptied) {
		t.Errorf("a missing session: %d", got)
	}
	r.logsLike(t, `"reason":"unavailable","status":503,.*"cause":"emptied"`)
	_, body := get(t, "http://"+c.AdminListen+"/metrics")
	if !strings.Contains(body, "\ncoatcheck_redis_emptied_total 1\n") {
		t.Error("the metric does not count it")
	}
	if _, fresh := signIn(t, server); r.check(t, fresh) != 200 {
		t.Error("a new session is refused")
	}
	for deadline := time.Now().Add(time.Minute); epoch() == "" && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if now := epoch(); now == "" || now == former {
		t.Errorf("login has left the epoch %q, it was %q", now, former)
	}

	admin.RestoreReplace(t.Context(), "coatcheck:state", 0, dump) // and nothing else
	r.logs(t, "no longer so: Redis has lost its sessions")
	if got := r.check(t, cookie); got != 401 || r.said(notice.RedisEmptied) != 1 {
		t.Errorf("a missing session afterwards: %d, said %d times", got, r.said(notice.RedisEmptied))
	}
}

// TestHoldEnds by itself, and without one a missing session is missing.
func TestHoldEnds(t *testing.T) {
	t.Parallel() // it waits
	server := redistest.Start(t)
	admin := server.Client()
	defer admin.Close()
	admin.HSet(t.Context(), "coatcheck:state", "epoch", "one")
	_, cookie := signIn(t, server)
	run := func(hold time.Duration) *running {
		c := configure(t, server.Addr, "listen: "+free(t))
		c.RedisEmptiedHold = hold
		return start(t, c)
	}
	held, plain := run(3*time.Second), run(0)
	time.Sleep(3 * time.Second) // some looks
	admin.FlushAll(t.Context())
	admin.HSet(t.Context(), "coatcheck:state", "epoch", "two")
	held.logs(t, `"notice":"redis_emptied"`)
	a := held.check(t, cookie)
	plain.logs(t, `"notice":"redis_emptied"`)
	if b := plain.check(t, cookie); a != 503 || b != 401 {
		t.Errorf("with a hold %d, without %d", a, b)
	}
	held.logs(t, `"msg":"checks answer again that a missing session is missing","why":"redis.emptied_hold is over"`)
	if got := held.check(t, cookie); got != 401 {
		t.Errorf("afterwards: %d", got)
	}
}
