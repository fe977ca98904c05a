package express_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/foreign/express"
)

// TestConfig: everything that is wrong is named, and no secret.
func TestConfig(t *testing.T) {
	good := express.Config{Secrets: []string{"hunter2"}, UserID: "id"}
	for what, change := range map[string]func(*express.Config){
		"no secret":           func(c *express.Config) { c.Secrets = nil },
		"secret 2":            func(c *express.Config) { c.Secrets = []string{"hunter2", ""} },
		"more than 16":        func(c *express.Config) { c.Secrets = make([]string, 17) },
		"user ID":             func(c *express.Config) { c.UserID = "" },
		"empty name":          func(c *express.Config) { c.UserID = "a..b" },
		"username":            func(c *express.Config) { c.Username = ".a" },
		"roles":               func(c *express.Config) { c.Roles = `a\` },
		"backslash":           func(c *express.Config) { c.Roles = `a\b` },
		"1 to 256 bytes":      func(c *express.Config) { c.Roles = "\xff" },
		"more than 16 names":  func(c *express.Config) { c.Roles = strings.Repeat("a.", 16) + "a" },
		"ttl":                 func(c *express.Config) { c.TTL = 1500 * time.Millisecond },
		"ttl -1s":             func(c *express.Config) { c.TTL = -time.Second },
		"cookie name":         func(c *express.Config) { c.Cookie = "a b" },
		"the prefix is at mo": func(c *express.Config) { c.Prefix = "a\n" },
	} {
		c := good
		change(&c)
		if _, err := express.New(c); err == nil || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := express.New(express.Config{Prefix: "\x00", TTL: 1}); err == nil || strings.Count(err.Error(), "\n") < 3 {
		t.Errorf("not all mistakes are named: %v", err)
	}
	if err := (sessions.Place{}).Validate(); err == nil {
		t.Error("an empty prefix is good")
	}
}

// TestSecrets: each of them verifies, a change holds at once, and a mistake changes nothing.
func TestSecrets(t *testing.T) {
	secrets, err := express.ReadSecrets([]byte("new secret\r\n\n old \n"))
	if err != nil || len(secrets) != 2 || secrets[0] != "new secret" || secrets[1] != " old " {
		t.Fatalf("%q, %v", secrets, err)
	}
	if _, err := express.ReadSecrets([]byte("\n\r\n")); err == nil {
		t.Error("no secret is good")
	}
	for _, text := range []string{"\ufeffnew secret\n", "\xff\xfen\x00e\x00w\x00", "\xfe\xff\x00n"} {
		if _, err := express.ReadSecrets([]byte(text)); err == nil || !strings.Contains(err.Error(), "byte order mark") {
			t.Errorf("%q: %v", text, err)
		}
	}
	f := format(t, express.Config{Secrets: secrets, UserID: "id"})
	holds := func(secret string) bool {
		id, err := f.Parse(express.Signed("sid", secret))
		if err != nil && !errors.Is(err, sessions.ErrMalformed) {
			t.Fatal(err)
		}
		return err == nil && id.Reveal() == "sid"
	}
	if !holds("new secret") || !holds(" old ") || holds("old") || holds("") {
		t.Error("other secrets verify than those that are set")
	}
	if err := f.SetSecrets(nil); err == nil || !holds(" old ") {
		t.Errorf("no secrets: %v", err)
	}
	if err := f.SetSecrets([]string{"third"}); err != nil || holds(" old ") || !holds("third") {
		t.Errorf("new secrets: %v", err)
	}
}

// TestValues: the forms of a cookie's value that Express takes, and those that it does not.
func TestValues(t *testing.T) {
	f := format(t, express.Config{Secrets: []string{"s"}, UserID: "id"})
	signed := express.Signed("abc", "s") // s:abc.MAC, encoded as a path, with its colon
	mac := signed[strings.LastIndex(signed, ".")+1:]
	raw := express.Unescaped(signed)
	for value, sid := range map[string]string{
		signed: "abc", raw: "abc", `"` + raw + `"`: "abc", " " + raw + "\t": "abc", strings.Replace(raw, "s:", "%73%3a", 1): "abc",
		raw + "=": "", strings.TrimPrefix(raw, "s:"): "", "j:" + raw: "", `"` + raw: "", raw + `"`: "", "'" + raw + "'": "", raw + "%": "",
		// One sequence that is not valid leaves all of them: s%3A is no s: then.
		strings.Replace(signed, "s:", "s%3A", 1) + "%zz": "", "s:." + mac: "", "s:abc": "", "s:abc.": "", "": "", "s:": "",
		express.Signed("a\x00b", "s"): "", express.Signed("a\nb", "s"): "", express.Signed("a\u0085b", "s"): "",
		express.Signed(strings.Repeat("x", 256), "s"): strings.Repeat("x", 256), express.Signed(strings.Repeat("x", 257), "s"): "",
		express.Signed(strings.Repeat("é", 128), "s"): strings.Repeat("é", 128), express.Unescaped(express.Signed("é", "s")): "",
		express.Signed("abc%", "s"): "abc%", express.Unescaped(express.Signed("a%zz", "s")): "a%zz", express.Unescaped(express.Signed("a%41", "s")): "",
		// Valid escapes of what is no UTF-8: Express leaves them as they are, and so signs them.
		express.Unescaped(express.Signed("a%ff", "s")): "a%ff", express.Unescaped(express.Signed("a%ed%a0%80", "s")): "a%ed%a0%80", express.Unescaped(express.Signed("a%c0%af", "s")): "a%c0%af",
	} {
		id, err := f.Parse(value)
		if id.Reveal() != sid || (err != nil) != (sid == "") {
			t.Errorf("%.80q: %.20q, %v", value, id.Reveal(), err)
		}
	}
}

// TestLookalikes: a signed cookie under another name may be the session's.
func TestLookalikes(t *testing.T) {
	f := format(t, express.Config{Secrets: []string{"s"}, UserID: "id"})
	names := f.Lookalikes(sessions.CookieHeader{Lines: []string{"sid=" + express.Signed("abc", "other") + "; a=b; connect.sid=" + express.Signed("abc", "s")}})
	if len(names) != 1 || names[0] != "sid" {
		t.Errorf("%q", names)
	}
}
