package express_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign/express"
)

func decode(t testing.TB, c express.Config, value string, fields ...string) (sessions.ForeignSession, error) {
	t.Helper()
	c.Secrets = []string{"s"}
	return format(t, c).Decode(sessions.ForeignRecord{Value: []byte(value), TTL: time.Hour}, fields)
}

// TestUserID: what stands at the path is the user's ID, exactly, or there is none.
func TestUserID(t *testing.T) {
	const none, refused = "\x00none", "\x00refused"
	for value, want := range map[string]string{
		`"u"`: "u", `"42"`: "42", `42`: "42", `0`: "0", `-7`: "-7", `9007199254740991`: "9007199254740991", `-9007199254740991`: "-9007199254740991",
		`"0"`: "0", `" "`: " ", `"é"`: "é", `"\u00e9"`: "é", `"\ud83d\ude00"`: "😀", `"a\u0000b"`: "a\x00b", `"\\ud800"`: `\ud800`,
		`null`: none, `""`: none,
		`1.5`: refused, `1.0`: refused, `1e2`: refused, `-0`: refused, `9007199254740992`: refused, `-9007199254740992`: refused,
		`123456789012345678901234567890`: refused, `1e999`: refused,
		`true`: refused, `false`: refused, `{}`: refused, `{"id":1}`: refused, `[]`: refused, `["u"]`: refused,
		`"\ud800"`: refused, `"\udc00"`: refused, `"a\ud800b"`: refused, `"\udc00\ud800"`: refused, `"\ud800\ud800\udc00"`: refused, `"\ud83d\\ude00"`: refused,
	} {
		found, err := decode(t, express.Config{UserID: "passport.user"}, `{"cookie":{},"passport":{"user":`+value+`}}`)
		switch {
		case want == none && errors.Is(err, sessions.ErrNotFound), want == refused && errors.Is(err, sessions.ErrBroken):
		case err != nil || found.Session == nil || found.Session.UserID != want:
			t.Errorf("%s: %+v, %v, want %q", value, found.Session, err, want)
		}
	}
}

// TestPaths: names lead through objects alone, and nothing is inherited.
func TestPaths(t *testing.T) {
	for _, c := range []struct{ path, value, want string }{
		{"user.userId", `{"cookie":{},"user":{"userId":"u"}}`, "u"},
		{"userId", `{"cookie":{},"userId":"u"}`, "u"},
		{`https://x\.example/id`, `{"cookie":{},"https://x.example/id":"u"}`, "u"},
		{`a\\b.c`, `{"cookie":{},"a\\b":{"c":"u"}}`, "u"},
		{"user.userId", `{"cookie":{},"\u0075ser":{"user\u0049d":"u"}}`, "u"},
		{"user.userId", `{"cookie":{},"user":"userId"}`, ""},
		{"user.length", `{"cookie":{},"user":"text"}`, ""},
		{"user.0", `{"cookie":{},"user":["u"]}`, ""},
		{"user.userId", `{"cookie":{},"user":null}`, ""},
		{"user.userId", `{"cookie":{},"USER":{"userId":"u"},"User":{"userId":"u"}}`, ""},
		// Of a key that stands twice the last one counts, as a whole.
		{"user.userId", `{"cookie":{},"user":{"userId":"first"},"user":{"userId":"u"}}`, "u"},
		{"user.userId", `{"cookie":{},"user":{"userId":"first"},"\u0075ser":{"userId":"u"}}`, "u"},
		{"user.userId", `{"cookie":{},"user":{"userId":"first","userId":"u"}}`, "u"},
		{"user.userId", `{"cookie":{},"user":{"userId":"first"},"user":{"roles":[]}}`, ""},
		{"user.userId", `{"cookie":{},"user":{"userId":"first"},"user":null}`, ""},
		{"user.userId", `{"cookie":{},"user":{"userId":"first","userId":null}}`, ""},
		// __proto__ is a key like another.
		{"user.userId", `{"cookie":{},"__proto__":{"user":{"userId":"u"}}}`, ""},
		{"user.userId", `{"cookie":{},"user":{"__proto__":{"userId":"u"}}}`, ""},
		{"user.constructor", `{"cookie":{},"user":{}}`, ""},
		{"__proto__.id", `{"cookie":{},"__proto__":{"id":"u"}}`, "u"},
	} {
		found, err := decode(t, express.Config{UserID: c.path}, c.value)
		switch {
		case c.want == "" && errors.Is(err, sessions.ErrNotFound):
		case err != nil || found.Session.UserID != c.want:
			t.Errorf("%s in %s: %+v, %v", c.path, c.value, found.Session, err)
		}
	}
}

// TestRoles: an array of strings, or none at all.
func TestRoles(t *testing.T) {
	for value, want := range map[string]string{
		`["admin","staff"]`: "admin,staff", `[]`: "", `null`: "", `["\ud83d\ude00"]`: "😀",
		`"admin"`: "refused", `["admin",1]`: "refused", `[null]`: "refused", `[["admin"]]`: "refused", `{"0":"admin"}`: "refused",
		`true`: "refused", `0`: "refused", `["\ud800"]`: "refused", `["admin",true]`: "refused",
	} {
		found, err := decode(t, express.Config{UserID: "id", Roles: "roles"}, `{"cookie":{},"id":1,"roles":`+value+`}`)
		switch {
		case want == "refused" && errors.Is(err, sessions.ErrBroken):
		case err != nil || strings.Join(found.Session.Roles, ",") != want:
			t.Errorf("%s: %+v, %v", value, found.Session, err)
		}
	}
	if found, err := decode(t, express.Config{UserID: "id", Roles: "roles"}, `{"cookie":{},"id":1}`); err != nil || len(found.Session.Roles) != 0 {
		t.Errorf("no roles: %v", err)
	}
}

// TestLifetime: as express-session and connect-redis reckon it.
func TestLifetime(t *testing.T) {
	day := 24 * time.Hour
	for cookie, want := range map[string]time.Duration{
		`{}`: day, `{"originalMaxAge":null}`: day, `{"originalMaxAge":600000}`: 10 * time.Minute, `{"originalMaxAge":600001}`: 601 * time.Second,
		`{"originalMaxAge":1}`: time.Second, `{"originalMaxAge":0.5}`: time.Second, `{"originalMaxAge":0}`: 0, `{"originalMaxAge":-1}`: 0, `{"originalMaxAge":-1e300}`: 0,
		`{"originalMaxAge":1e300}`: 10 * 365 * day, `{"originalMaxAge":2592000000}`: 30 * day,
		// The date of the login is never looked at.
		`{"originalMaxAge":null,"expires":"2001-01-01T00:00:00.000Z"}`: day, `{"originalMaxAge":60000,"expires":"2001-01-01T00:00:00.000Z"}`: time.Minute,
		`{"originalMaxAge":1,"originalMaxAge":60000}`: time.Minute,
	} {
		found, err := decode(t, express.Config{UserID: "id"}, `{"cookie":`+cookie+`,"id":1}`)
		if err != nil || found.Lifetime != want {
			t.Errorf("%s: %v, %v, want %v", cookie, found.Lifetime, err, want)
		}
	}
	for _, cookie := range []string{`null`, `[]`, `"x"`, `1`, `{"originalMaxAge":"60000"}`, `{"originalMaxAge":true}`, `{"originalMaxAge":{}}`, `{"originalMaxAge":1e999}`} {
		if _, err := decode(t, express.Config{UserID: "id"}, `{"cookie":`+cookie+`,"id":1}`); !errors.Is(err, sessions.ErrBroken) {
			t.Errorf("%s: %v", cookie, err)
		}
	}
}

// TestFields: scalars at paths.
func TestFields(t *testing.T) {
	const value = `{"cookie":{},"id":1,"s":"text","n":-1.50,"t":true,"f":false,"z":null,"o":{"in":{"er":"x"}},"a":["x"],"h":"\ud800","a.b":"dotted","long":1` + "0000000000000000000000000000000000000000000000000000" + `}`
	found, err := decode(t, express.Config{UserID: "id"}, value, "s", "n", "t", "f", "z", "o", "o.in.er", "a", "a.0", "h", `a\.b`, "long", "none", "", ".")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"s": "text", "n": "-1.50", "t": "true", "f": "false", "o.in.er": "x", `a\.b`: "dotted"}
	for name, text := range want {
		if found.Session.Fields[name] != text {
			t.Errorf("%s: %q", name, found.Session.Fields[name])
		}
	}
	if len(found.Session.Fields) != len(want) {
		t.Errorf("fields: %q", found.Session.Fields)
	}
	all := format(t, express.Config{Secrets: []string{"s"}, UserID: "id"}).Fields(sessions.ForeignRecord{Value: []byte(value)})
	if len(all) != len(want) || all[`a\.b`] != "dotted" {
		t.Errorf("all fields: %q", all)
	}
}

// TestDepth: what is nested too deeply is refused before it is decoded.
func TestDepth(t *testing.T) {
	nested := func(n int) string {
		return `{"cookie":{},"id":1,"x":"[[[\"{{{","y":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
	}
	if _, err := decode(t, express.Config{UserID: "id"}, nested(63)); err != nil {
		t.Error(err)
	}
	for _, n := range []int{64, 5000, 100_000} {
		if _, err := decode(t, express.Config{UserID: "id"}, nested(n)); !errors.Is(err, sessions.ErrBroken) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// TestManyValues: a record of many small values is refused before it is decoded.
func TestManyValues(t *testing.T) {
	many := func(n int) string {
		return `{"cookie":{},"id":1,"x":"` + strings.Repeat("[,{", 20_000) + `","y":[1` + strings.Repeat(",1", n-1) + `]}`
	}
	if _, err := decode(t, express.Config{UserID: "id"}, many(9_990)); err != nil {
		t.Error(err)
	}
	for _, text := range []string{many(10_001), many(30_000), `{"cookie":{},"id":1,"y":[{}` + strings.Repeat(",{}", 6_000) + `]}`} {
		if _, err := decode(t, express.Config{UserID: "id"}, text); !errors.Is(err, sessions.ErrBroken) || !strings.Contains(err.Error(), "more than 10000 values") {
			t.Errorf("%.80s: %v", text, err)
		}
	}
}

// TestErrorsHideValues: what is wrong is named by its path, and never by a value.
func TestErrorsHideValues(t *testing.T) {
	for _, value := range []string{
		`{"cookie":{"originalMaxAge":"hunter2"},"id":1}`, `{"cookie":"hunter2","id":1}`, `{"cookie":{},"id":{"x":"hunter2"}}`, `{"cookie":{},"id":"hunter2\ud800"}`,
		`{"cookie":{},"id":1,"roles":"hunter2"}`, `{"cookie":{},"id":1,"roles":["hunter2",1]}`, `{"cookie":{},"id":1,"name":["hunter2"]}`, `hunter2`, `{"cookie":{},hunter2}`,
	} {
		_, err := decode(t, express.Config{UserID: "id", Username: "name", Roles: "roles"}, value)
		if !errors.Is(err, sessions.ErrBroken) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", value, err)
		}
	}
}

// TestValidateField: a field that no session can have has no path for a name.
func TestValidateField(t *testing.T) {
	f := format(t, express.Config{Secrets: []string{"s"}, UserID: "id"})
	for name, good := range map[string]bool{
		"tenant": true, "user.plan": true, `a\.b.c`: true, "a..b": false, ".a": false, "a.": false, `a\b`: false, `a\`: false,
		strings.Repeat("a.", 16) + "a": false, strings.Repeat("a", 257): false,
	} {
		if err := f.ValidateField(name); (err == nil) != good || err != nil && !strings.Contains(err.Error(), "no path") {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}
