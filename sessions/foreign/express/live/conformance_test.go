package live_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// everyApp runs a test with each application of each setting, but for the one whose
// story has a test of its own.
func everyApp(t *testing.T, test func(t *testing.T, v *site, a *app)) {
	for _, s := range settings {
		for i, p := range s.programs {
			if p.name != nest.name {
				t.Run(p.name, func(t *testing.T) { v := theSite(t, s.name); test(t, v, v.apps[i]) })
			}
		}
	}
}

const ada = "uid=42&name=Ada+L%C3%B6we&roles=admin,user"

// TestLogin: a user who signed in at the application is known to services behind Envoy
// by headers, no value in Redis changes, and the cookie goes on to the application.
func TestLogin(t *testing.T) {
	everyApp(t, func(t *testing.T, v *site, a *app) {
		v.ask(t, a, "GET /echo", "").came(t, http.StatusUnauthorized)
		p := v.signIn(t, a, ada)
		before := v.value(t, p)
		got := v.ask(t, a, "GET /echo", p.cookie).came(t, http.StatusOK).headers(t)
		v.isAda(t, got)
		if got["cookie"] != p.cookie {
			t.Error("the upstream did not receive the cookie as it was: the application needs it")
		}
		for name, value := range got {
			if name != "cookie" && (strings.Contains(value, p.sid) || name == "x-user-session") {
				t.Errorf("the header %s shows the session to upstreams", name)
			}
		}
		if v.value(t, p) != before {
			t.Error("a check changed the value in Redis")
		}
		v.ask(t, a, "GET /echo/admin", p.cookie).came(t, http.StatusOK)
		bob := v.signIn(t, a, "uid=7&name=bob&roles=user")
		v.ask(t, a, "GET /echo/admin", bob.cookie).came(t, http.StatusForbidden)
		if got := v.ask(t, a, "GET /page", p.cookie).came(t, http.StatusOK).user(t); got != "42" {
			t.Errorf("behind Envoy the application knows the user as %q", got)
		}
	})
}

func (v *site) isAda(t *testing.T, got map[string]string) {
	t.Helper()
	want := map[string]string{"x-user-id": "42", "x-user-roles": "admin,user"}
	if v.named {
		want["x-user-name"] = "Ada%20L%C3%B6we"
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, not %q", name, got[name], value)
		}
	}
}

// TestZero: the ID 0 is a user, as it is to passport.
func TestZero(t *testing.T) {
	everyApp(t, func(t *testing.T, v *site, a *app) {
		p := v.signIn(t, a, "uid=0&name=root")
		if got := v.ask(t, a, "GET /echo", p.cookie).came(t, http.StatusOK).headers(t)["x-user-id"]; got != "0" {
			t.Errorf("x-user-id is %q", got)
		}
	})
}

// TestVisitors: a session without a user does not authenticate, also that which a logout leaves.
func TestVisitors(t *testing.T) {
	everyApp(t, func(t *testing.T, v *site, a *app) {
		visitor := v.person(t, a.ask(t, "GET /anon", "").cookie(v.cookie))
		v.value(t, visitor) // it has a record
		v.ask(t, a, "GET /echo", visitor.cookie).came(t, http.StatusUnauthorized)
		got := v.ask(t, a, "GET /echo/optional", visitor.cookie).came(t, http.StatusOK).headers(t)
		for name := range got {
			if strings.HasPrefix(name, "x-user-") {
				t.Errorf("a visitor has the header %s", name)
			}
		}
		if !strings.Contains(v.Coatcheck.Output(), `"reason":"not_found"`) {
			t.Error("a visitor's record is not told as none of a session")
		}
		p := v.signIn(t, a, ada)
		w := v.ask(t, a, "GET /logout", p.cookie).came(t, http.StatusFound)
		v.ask(t, a, "GET /echo", p.cookie).came(t, http.StatusUnauthorized)
		if left := w.cookie(v.cookie); left != "" {
			v.ask(t, a, "GET /echo", left).came(t, http.StatusUnauthorized)
		}
	})
}

// TestCookies: what is no cookie of the application's authenticates no user, and where
// the application and Coatcheck read a cookie in two ways, Coatcheck refuses it.
func TestCookies(t *testing.T) {
	everyApp(t, func(t *testing.T, v *site, a *app) {
		p, other := v.signIn(t, a, ada), v.signIn(t, a, "uid=7&name=bob")
		for what, value := range v.spellings(t, p, other) {
			v.agree(t, a, what, v.cookie+"="+value)
		}
		for what, header := range map[string]string{
			"twice, with two values": p.cookie + "; " + other.cookie, "twice, with one value": p.cookie + "; " + p.cookie,
			"twice, one unsigned": v.cookie + "=x; " + p.cookie, "twice, the second unsigned": p.cookie + "; " + v.cookie + "=",
			"twice, quoted": v.cookie + `="x"; ` + p.cookie, "on two lines": p.cookie + "\n" + other.cookie, "on two lines, with one value": p.cookie + "\n" + p.cookie,
		} {
			if w := v.ask(t, a, "GET /echo", header); w.status != http.StatusUnauthorized {
				t.Errorf("%s: %d", what, w.status)
			}
		}
		for _, header := range []string{"a=b; " + p.cookie, p.cookie + "; a=b", "a=b;" + p.cookie, "a=b\n" + p.cookie} {
			v.isAda(t, v.ask(t, a, "GET /echo", header).came(t, http.StatusOK).headers(t))
		}
	})
}

// spellings are values of the cookie, most of which sign no user in.
func (v *site) spellings(t *testing.T, p, other person) map[string]string {
	t.Helper()
	sent := strings.TrimPrefix(p.cookie, v.cookie+"=")
	secret, _, _ := strings.Cut(v.secrets, ",")
	whole := signed(p.sid, secret)
	mac := whole[len("s:"+p.sid+"."):]
	all := map[string]string{
		"as sent": sent, "as it is": whole, "quoted": `"` + whole + `"`, "quoted and encoded": `"` + sent + `"`,
		"encoded twice": strings.ReplaceAll(sent, "%", "%25"), "each byte encoded": hexed(whole), "lower case escapes": strings.ReplaceAll(sent, "%3A", "%3a"),
		"half quoted": `"` + whole, "a blank before": " " + sent, "padded": whole + "=", "padded and encoded": sent + "%3D",
		"unsigned": p.sid, "no mac": "s:" + p.sid, "an empty mac": "s:" + p.sid + ".", "no prefix": p.sid + "." + mac, "a JSON cookie": "j:" + p.sid + "." + mac,
		"another's mac": "s:" + p.sid + "." + signed(other.sid, secret)[len("s:"+other.sid+"."):], "a wrong secret": encoded(signed(p.sid, "guessed")),
		"no secret": encoded(signed(p.sid, "")), "base64url": encoded(strings.NewReplacer("+", "-", "/", "_").Replace(whole)), "a star in a key": encoded(signed("*", secret)),
		"empty": "", "an empty ID": encoded(signed("", secret)), "an ID that has no record": encoded(signed("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", secret)),
		"S:": "S:" + whole[2:], "a broken escape": whole + "%", "upside down": whole[:10] + strings.ToUpper(whole[10:]), "a null": sent + "%00",
		"with another's key": encoded(signed(p.sid+"\x00", secret)), "a long ID": encoded(signed(strings.Repeat("a", 5000), secret)),
	}
	for _, n := range []int{1, 2, 10, len(mac), len(mac) + 1, len(mac) + 20} {
		all[fmt.Sprintf("%d bytes short", n)] = whole[:len(whole)-n]
	}
	for i := 2; i < len(whole); i += 7 {
		all[fmt.Sprintf("another byte %d", i)] = encoded(whole[:i] + string(rune(whole[i]^1)) + whole[i+1:])
	}
	return all
}

// hexed escapes each byte.
func hexed(value string) string {
	var b strings.Builder
	for i := range len(value) {
		fmt.Fprintf(&b, "%%%02X", value[i])
	}
	return b.String()
}

// agree holds that Coatcheck allows no user whom the application does not know by this
// Cookie header, and that it allows the cookie that the application has set.
func (v *site) agree(t *testing.T, a *app, what, header string) {
	t.Helper()
	w := v.ask(t, a, "GET /echo", header)
	known := a.ask(t, "GET /me", header).user(t)
	switch w.status {
	case http.StatusOK:
		if got := w.told(t); got != known {
			t.Errorf("%s: Coatcheck allows %q, and to the application it is %q", what, got, known)
		}
	case http.StatusUnauthorized:
		if what == "as sent" || what == "as it is" {
			t.Errorf("%s: 401, and the application knows %q", what, known)
		}
	default:
		t.Errorf("%s: %d: %s", what, w.status, w.body)
	}
}

// TestRotatedSecret: a cookie that the old secret signed is taken by the application
// and by Coatcheck alike.
func TestRotatedSecret(t *testing.T) {
	v := theSite(t, "rolling")
	a := v.apps[0]
	p := v.signIn(t, a, ada)
	for _, secret := range strings.Split(v.secrets, ",") {
		cookie := v.cookie + "=" + encoded(signed(p.sid, secret))
		if known := a.ask(t, "GET /me", cookie).user(t); known != "42" {
			t.Fatalf("the application does not take a secret of its list")
		}
		v.isAda(t, v.ask(t, a, "GET /echo", cookie).came(t, http.StatusOK).headers(t))
	}
	// The application sets its rolling cookie through Envoy, and signs it anew.
	old := v.cookie + "=" + encoded(signed(p.sid, "keyboard cat"))
	rolled := v.ask(t, a, "GET /page", old).came(t, http.StatusOK).cookie(v.cookie)
	if want := v.cookie + "=" + encoded(signed(p.sid, "new secret")); rolled != want {
		t.Error("a cookie by the old secret was not set anew through Envoy, by the new one")
	}
}

// TestTouch: Coatcheck gives a session the time that the application's own touch gives it,
// never less than it has, and the application knows its user after 50 slides.
func TestTouch(t *testing.T) {
	everyApp(t, func(t *testing.T, v *site, a *app) {
		p := v.signIn(t, a, ada)
		before := v.value(t, p)
		v.expire(t, p, 30*time.Second)
		a.ask(t, "GET /me", p.cookie)
		byApp := v.ttl(t, p)
		v.slide(t, a, p)
		byCoatcheck := v.ttl(t, p)
		if d := byApp - byCoatcheck; d < -1500*time.Millisecond || d > 1500*time.Millisecond {
			t.Errorf("the application gives a session %v, Coatcheck %v", byApp, byCoatcheck)
		}
		if want := time.Duration(v.lifetime) * time.Second; byApp > want || byApp < want-5*time.Second {
			t.Errorf("the application gives a session %v, not %v: does the test know it?", byApp, want)
		}
		v.expire(t, p, 48*time.Hour)
		v.ask(t, a, "GET /echo", p.cookie).came(t, http.StatusOK)
		time.Sleep(100 * time.Millisecond) // a slide would come behind the answer
		if left := v.ttl(t, p); left < 47*time.Hour {
			t.Errorf("a check left %v of 48 hours", left)
		}
		for range 50 {
			v.slide(t, a, p)
		}
		if v.value(t, p) != before {
			t.Error("50 checks changed the value in Redis")
		}
		if known := a.ask(t, "GET /me", p.cookie).user(t); known != "42" {
			t.Errorf("after 50 slides the application knows %q", known)
		}
	})
}

// slide has the session end soon, and a check slide it, which it does behind its answer.
// A slide that is not quite done when its session is set back stands for the next one,
// too; outside of a test no session ages by a day within it.
func (v *site) slide(t *testing.T, a *app, p person) {
	t.Helper()
	v.expire(t, p, 30*time.Second)
	for range 3 {
		v.ask(t, a, "GET /echo", p.cookie).came(t, http.StatusOK)
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
			if v.ttl(t, p) > time.Minute {
				return
			}
		}
	}
	t.Fatal("three checks slide no session")
}

// TestStaleDate: the date in the record's own cookie is not its end: the application's
// touch does not write it.
func TestStaleDate(t *testing.T) {
	v := theSite(t, "rolling")
	a := v.apps[0]
	p := v.signIn(t, a, ada)
	record := v.value(t, p)
	stale := regexp.MustCompile(`"expires":"[^"]*"`).ReplaceAllString(record, `"expires":"2001-01-01T00:00:00.000Z"`)
	if stale == record {
		t.Fatal("the record has no date")
	}
	v.set(t, p.key, stale, 10*time.Minute)
	w := v.ask(t, a, "GET /echo", p.cookie)
	if known := a.ask(t, "GET /me", p.cookie).user(t); known != "42" || w.status != http.StatusOK {
		t.Errorf("with a date in the past the application knows %q, and Coatcheck answers %d", known, w.status)
	}
}

// TestRecords: what is no record of a signed-in user authenticates none.
func TestRecords(t *testing.T) {
	everyApp(t, func(t *testing.T, v *site, a *app) {
		p := v.signIn(t, a, ada)
		record := v.value(t, p)
		for what, value := range map[string]string{
			"empty": "", "garbage": "\x80\x04\x95(not JSON", "a mebibyte": `{"cookie":{},"user":"` + strings.Repeat("a", 1<<20) + `"}`,
			"cut": record[:len(record)-1], "more behind it": record + "x", "twice": record + record, "null": "null", "a list": "[" + record + "]", "a text": `"42"`, "a number": "42", "no cookie": `{"user":{"userId":42},"passport":{"user":42}}`,
			"an empty object": "{}", "no user": `{"cookie":{"originalMaxAge":null,"expires":null,"httpOnly":true,"path":"/"}}`,
			"deep": strings.Repeat(`{"a":`, 100000) + "1" + strings.Repeat("}", 100000), "not UTF-8": strings.Replace(record, "4", "\xff", 1),
		} {
			v.set(t, p.key, value, time.Hour)
			w := v.ask(t, a, "GET /echo", p.cookie)
			if got := v.value(t, p); got != value {
				t.Errorf("%s: a check changed the value", what)
			}
			if known := a.ask(t, "GET /me", p.cookie).user(t); w.status != http.StatusUnauthorized && (w.status != http.StatusOK || known == "" || known != w.told(t)) {
				t.Errorf("%s: Coatcheck answers %d, and the application knows %q", what, w.status, known)
			}
		}
		v.wrongTypes(t, a, p, record)
	})
}

func (v *site) wrongTypes(t *testing.T, a *app, p person, record string) {
	t.Helper()
	ctx := t.Context()
	for what, fill := range map[string]func() error{
		"a hash": func() error { return v.redis.HSet(ctx, p.key, "user", record).Err() },
		"a list": func() error { return v.redis.RPush(ctx, p.key, record).Err() },
		"a set":  func() error { return v.redis.SAdd(ctx, p.key, record).Err() },
		"a stream": func() error {
			return v.redis.XAdd(ctx, &redis.XAddArgs{Stream: p.key, Values: []string{"a", record}}).Err()
		},
		"gone":          func() error { return nil },
		"without a TTL": func() error { return v.redis.Set(ctx, p.key, record, 0).Err() },
	} {
		v.redis.Del(ctx, p.key)
		if err := fill(); err != nil {
			t.Fatal(err)
		}
		if w := v.ask(t, a, "GET /echo", p.cookie); w.status != http.StatusUnauthorized {
			t.Errorf("%s: %d", what, w.status)
		}
		if left := v.redis.PTTL(ctx, p.key).Val(); left > 0 {
			t.Errorf("%s: a check gave the key an end", what)
		}
	}
	v.redis.Del(ctx, p.key)
}

// TestRedisAway: an outage signs no user out: 503, the cookie stays, and works afterwards.
func TestRedisAway(t *testing.T) {
	v := ownSite(t, "rolling")
	a := v.apps[0]
	p := v.signIn(t, a, ada)
	v.ask(t, a, "GET /echo", p.cookie).came(t, http.StatusOK)
	v.link.Cut()
	for _, path := range []string{"GET /echo", "GET /echo/optional", "GET /echo/admin"} {
		w := v.ask(t, a, path, p.cookie).came(t, http.StatusServiceUnavailable)
		if w.header.Get("Retry-After") == "" || len(w.header.Values("Set-Cookie")) > 0 {
			t.Errorf("%s: Retry-After is %q, Set-Cookie %d times", path, w.header.Get("Retry-After"), len(w.header.Values("Set-Cookie")))
		}
	}
	v.ask(t, a, "GET /echo", v.cookie+"=forged").came(t, http.StatusUnauthorized) // without Redis
	v.link.Heal()
	eventually(t, "the session is known again", func() bool { return v.ask(t, a, "GET /echo", p.cookie).status == http.StatusOK })
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

func (v *site) value(t testing.TB, p person) string {
	t.Helper()
	value, err := v.redis.Get(context.Background(), p.key).Result()
	if err != nil {
		t.Fatalf("the record of a session is not where the test looks for it: %v", err)
	}
	return value
}

func (v *site) set(t testing.TB, key, value string, ttl time.Duration) {
	t.Helper()
	if err := v.redis.Set(t.Context(), key, value, ttl).Err(); err != nil {
		t.Fatal(err)
	}
}

func (v *site) expire(t testing.TB, p person, ttl time.Duration) {
	t.Helper()
	if set, err := v.redis.PExpire(t.Context(), p.key, ttl).Result(); err != nil || !set {
		t.Fatalf("the session is gone: %v", err)
	}
}

func (v *site) ttl(t testing.TB, p person) time.Duration {
	t.Helper()
	ttl, err := v.redis.PTTL(t.Context(), p.key).Result()
	if err != nil {
		t.Fatal(err)
	}
	return ttl
}
