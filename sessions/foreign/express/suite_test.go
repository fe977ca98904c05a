package express_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/coatcheck/coatcheck/internal/testtools/testleaks"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign/express"
	"github.com/coatcheck/coatcheck/sessions/foreign/foreigntest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testleaks.Patient(m)) }

// A recording is a session that Express made, by the packages of those versions.
type recording struct {
	Name       string            `json:"name"`
	Cookie     string            `json:"cookie"`
	Key        string            `json:"key"`
	Value      string            `json:"value"`
	TTL        int               `json:"ttl"`
	Secrets    []string          `json:"secrets"`
	CookieName string            `json:"cookie_name"`
	Prefix     string            `json:"prefix"`
	UserIDPath string            `json:"user_id_path"`
	UserID     string            `json:"user_id"`
	Username   string            `json:"username"`
	Roles      []string          `json:"roles"`
	Fields     map[string]string `json:"fields"`
	TTLOption  int               `json:"ttl_option"`
	Lifetime   int               `json:"lifetime"`
	Anonymous  bool              `json:"anonymous"`
}

func recordings(t testing.TB) (all []recording) {
	t.Helper()
	text, err := os.ReadFile("testdata/recorded.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil || len(all) == 0 {
		t.Fatal(err)
	}
	return all
}

// config is how the application was configured which made the session.
func (r recording) config() express.Config {
	c := express.Config{
		Cookie: r.CookieName, Secrets: r.Secrets, Prefix: r.Prefix,
		UserID: r.UserIDPath, TTL: time.Duration(r.TTLOption) * time.Second,
	}
	if strings.HasPrefix(r.UserIDPath, "user.") {
		c.Username, c.Roles = "user.username", "user.roles"
	}
	return c
}

func (r recording) sample() foreigntest.Sample {
	return foreigntest.Sample{
		Cookie: r.Cookie, Key: r.Key, Value: r.Value, TTL: time.Duration(r.TTL) * time.Second, Lifetime: time.Duration(r.Lifetime) * time.Second,
		Session: sessions.Session{UserID: r.UserID, Username: r.Username, Roles: r.Roles, Fields: r.Fields},
	}
}

// made is a session as Express would make it.
func made(cookie, sid, secret, value string, lifetime time.Duration, s sessions.Session) foreigntest.Sample {
	return foreigntest.Sample{Cookie: cookie + "=" + express.Signed(sid, secret), Key: "sess:" + sid, Value: value, Session: s, Lifetime: lifetime}
}

// TestFormat runs the suite by the configuration of each recorded session.
func TestFormat(t *testing.T) {
	for i, r := range recordings(t) {
		c := r.config()
		name := r.CookieName
		if name == "" {
			name = express.DefaultCookie
		}
		subject := foreigntest.Subject{
			Format: func() sessions.Format { return format(t, c) },
			Broken: []string{"", "null", "[]", `"text"`, "1", "{", `{"user":{"userId":"secret-user"},"passport":{"user":"secret-user"}}`, `{"cookie":null,"passport":{"user":1}}`, "\xff\xfe", `{"cookie":{}}{}`},
		}
		if r.Anonymous {
			subject.Anonymous = append(subject.Anonymous, r.sample())
		} else {
			subject.SignedIn = append(subject.SignedIn, r.sample())
		}
		key := strings.Split(r.UserIDPath, ".")
		for _, sid := range []string{"0123456789abcdefghijklmnopqrstuv", "another.with-dots_and.more"} {
			other := made(name, sid, r.Secrets[0], `{"cookie":{"originalMaxAge":30000},"`+key[0]+`":{"`+key[1]+`":0},"locale":"de"}`, 30*time.Second,
				sessions.Session{UserID: "0", Fields: map[string]string{"locale": "de"}})
			other.Key = r.Prefix + sid
			subject.SignedIn = append(subject.SignedIn, other)
		}
		anonymous := made(name, "of.no.user", r.Secrets[0], `{"cookie":{"originalMaxAge":null},"csrf":"x"}`, 0, sessions.Session{})
		anonymous.Key = r.Prefix + "of.no.user"
		subject.Anonymous = append(subject.Anonymous, anonymous)
		run := foreigntest.RunAlone
		if i == 0 || r.CookieName != "" { // by passport, and with everything that can be set
			run = foreigntest.Run
		}
		t.Run(r.Name, func(t *testing.T) { run(t, subject) })
	}
}

// TestDisabledTouch: with disableTouch a use moves no end.
func TestDisabledTouch(t *testing.T) {
	foreigntest.Run(t, foreigntest.Subject{
		Format: func() sessions.Format {
			return format(t, express.Config{Secrets: []string{"s"}, UserID: "id", DisableTouch: true})
		},
		SignedIn: []foreigntest.Sample{
			made("connect.sid", "one", "s", `{"cookie":{"originalMaxAge":60000},"id":"1"}`, 0, sessions.Session{UserID: "1"}),
			made("connect.sid", "two", "s", `{"cookie":{"originalMaxAge":null},"id":"2"}`, 0, sessions.Session{UserID: "2"}),
		},
	})
}

func format(t testing.TB, c express.Config) *express.Format {
	t.Helper()
	f, err := express.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
