package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/coatcheck/coatcheck/sessions"
)

// ofExpress is the least that sessions of Express need, with more keys of the section.
func ofExpress(more string) string {
	return "session: {format: express, express: {secret_file: secrets, user_id_path: user.userId" + more + "}}\n"
}

// TestFormatDefaults: the cookie is the application's, and goes on to it, unless the
// operator says otherwise by any source.
func TestFormatDefaults(t *testing.T) {
	for _, c := range []struct {
		file, variable, flag string
		name                 string
		keep                 bool
	}{
		{"", "", "", sessions.DefaultCookieName, false},
		{ofExpress(""), "", "", "connect.sid", true},
		{ofExpress("") + "cookie: {name: sid}", "", "", "sid", true},
		{ofExpress("") + "cookie: {keep: false}", "", "", "connect.sid", false},
		{ofExpress(""), "COATCHECK_COOKIE_KEEP=false", "--cookie-name=sid", "sid", false},
		{ofExpress("") + "cookie: {name: __Host-session}", "", "", sessions.DefaultCookieName, true},
	} {
		flags := []string{redisFlag}
		if c.flag != "" {
			flags = append(flags, c.flag)
		}
		got, err := loadText(t, c.file, []string{c.variable}, flags)
		if err != nil || got.CookieName != c.name || got.CookieKeep != c.keep {
			t.Errorf("%+v: %v, %+v", c, err, got)
		}
		if err == nil && (got.ExtAuthz().Format != nil) != (c.file != "") {
			t.Errorf("%+v: the format of checks is %v", c, got.ExtAuthz().Format)
		}
	}
}

// TestFormatYAML: the configuration as it is printed loads again, and says the same.
func TestFormatYAML(t *testing.T) {
	c := mustLoad(t, ofExpress(", roles_path: user.roles, ttl: 1h, no_ttl: accept, disable_touch: true"))
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again := mustLoad(t, text)
	of := func(c *Config) expressSettings { return *c.settingsOf(expressFormat).(*expressSettings) }
	if of(again) != of(c) || again.CookieName != "connect.sid" || !again.CookieKeep || of(again).TTL != time.Hour {
		t.Errorf("%+v", of(again))
	}
}

// TestFormatFaults: everything that the format lacks, or that cannot go with it, is named in
// one error.
func TestFormatFaults(t *testing.T) {
	for file, want := range map[string][]string{
		"session: {format: express}":                            {"session.express.secret_file", "session.express.user_id_path"},
		"session: {format: django}":                             {"session.format"},
		"session: {format: express, expres: {}}":                {"session.expres", "session.express.secret_file", "session.express.user_id_path"},
		ofExpress(", username_path: .a"):                        {"session.express.username_path"},
		ofExpress(", roles_path: a..b"):                         {"session.express.roles_path"},
		ofExpress(", prefix: ''"):                               {"session.express.prefix"},
		ofExpress(", ttl: 1500ms, step: 2h"):                    {"session.express.ttl", "session.express.step"},
		ofExpress(", ttl: 0s"):                                  {"session.express.ttl"},
		ofExpress(", no_ttl: maybe"):                            {"session.express.no_ttl"},
		ofExpress(", disable_touch: often"):                     {"session.express.disable_touch"},
		ofExpress("") + "bearer: true":                          {"bearer"},
		ofExpress("") + "near_cache: {enabled: true}":           {"near_cache.enabled"},
		ofExpress("") + "headers: {fields: [a..b]}":             {"headers.fields"},
		"session: {format: express}\nheaders: {fields: [a..b]}": {"session.express.secret_file", "session.express.user_id_path", "headers.fields"},
		ofExpress("") + "login: {users_file: u.yaml}":           {"session.format"},
		"session: {format: express, idle_timeout: 5m, absolute_timeout: 1h, idle_step: 1s, max_per_user: 1, count_every: 1m, express: {secret_file: s, user_id_path: id}}": {
			"session.idle_timeout", "session.absolute_timeout", "session.idle_step", "session.max_per_user", "session.count_every"},
		"session: {express: {secret_file: s, roles_path: r, no_ttl: accept}}": {"session.express.secret_file", "session.express.roles_path", "session.express.no_ttl"},
	} {
		lines := faults(t, file, nil, []string{redisFlag})
		for _, key := range want {
			if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, key) }) {
				t.Errorf("%s: %s is not named in\n%s", file, key, strings.Join(lines, "\n"))
			}
		}
		if len(lines) > len(want) {
			t.Errorf("%s:\n%s", file, strings.Join(lines, "\n"))
		}
	}
}

// TestFormatSecrets: they come from a file, of which no error repeats anything.
func TestFormatSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	c := mustLoad(t, strings.Replace(ofExpress(""), "secret_file: secrets", "secret_file: "+path, 1))
	if _, err := c.Format(); err == nil || !strings.Contains(err.Error(), "session.express.secret_file") {
		t.Errorf("no file: %v", err)
	}
	for text, good := range map[string]bool{"": false, "\n\n": false, secret: true, secret + "\nother\n": true, strings.Repeat(secret+"\n", 17): false, strings.Repeat(secret, 400): false} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := c.Format()
		if (err == nil) != good || err != nil && (strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "session.express.secret_file")) {
			t.Errorf("%.30q: %v", text, err)
		}
		if err == nil && (f.Use([]byte("\n")) == nil || f.Use([]byte("another")) != nil) {
			t.Errorf("%.30q: changes of the file", text)
		}
	}
	if f, err := mustLoad(t, "").Format(); f != nil || err != nil {
		t.Errorf("of Coatcheck's own: %v, %v", f, err)
	}
}

// TestFormatFingerprint: replicas that read in other ways differ, and the file's path does
// not count. The fingerprint of Coatcheck's own sessions is what it was.
func TestFormatFingerprint(t *testing.T) {
	of := func(text string) string { return mustLoad(t, text).Settings().Fingerprint() }
	one := of(ofExpress(""))
	if one != of(strings.Replace(ofExpress(""), "secrets", "elsewhere", 1)) || one == of(ofExpress(", prefix: app")) || one == of("cookie: {name: connect.sid}") {
		t.Error("the fingerprint says something else")
	}
	if err := mustLoad(t, ofExpress("")).OnlyReads("add to them", "do so there"); err == nil || !strings.Contains(err.Error(), "session.format") {
		t.Errorf("adding: %v", err)
	}
	if err := mustLoad(t, "").OnlyReads("add to them", "do so there"); err != nil {
		t.Errorf("adding to our own: %v", err)
	}
}

// A tinySettings has a format with one key, for what the table gives to each row.
type tinySettings struct{ table string }

func (s *tinySettings) keys() []key {
	return []key{{name: "session.tiny.table", value: text(&s.table, "sessions"), usage: "where the sessions are"}}
}
func (s *tinySettings) validate() []error {
	return []error{About(needed(s.table, "it is needed"), "session.tiny.table")}
}
func (*tinySettings) validateField(string) error      { return nil }
func (*tinySettings) open(string) (*Format, error)    { return &Format{}, nil }
func (*tinySettings) unsigned(string) sessions.Format { return nil }

// TestFormatRow: a row is all that a further format needs: the choice, the keys, the
// defaults, the refusals and the fingerprint follow from it.
func TestFormatRow(t *testing.T) {
	of := func(text string) string { return mustLoad(t, text).Settings().Fingerprint() }
	before := of(ofExpress(""))
	former := formats
	defer func() { formats = former }()
	formats = append(slices.Clone(formats), &format{
		name: "tiny", made: "tiny", cookieName: "tinyid", settings: func() formatSettings { return new(tinySettings) },
	})
	if of(ofExpress("")) != before || of("session: {format: tiny}") == of("session: {format: tiny, tiny: {table: t}}") {
		t.Error("the fingerprint is of other keys than those of the format in use")
	}
	c := mustLoad(t, "session: {format: tiny, tiny: {table: t}}")
	if f, err := c.Format(); f == nil || err != nil || c.CookieName != "tinyid" || c.CookieKeep {
		t.Errorf("%v, %v, %+v", f, err, c)
	}
	for file, key := range map[string]string{
		"session: {tiny: {table: t}}":                                    "session.tiny.table",
		ofExpress(", prefix: a") + "bearer: true":                        "bearer",
		strings.TrimSuffix(ofExpress(""), "}\n") + ", tiny: {table: t}}": "session.tiny.table",
		"session: {format: tiny, tiny: {table: ''}}":                     "session.tiny.table",
		"session: {format: tiny, express: {prefix: a}}":                  "session.express.prefix",
		"session: {format: tiny, idle_timeout: 5m}":                      "session.idle_timeout",
	} {
		if lines := faults(t, file, nil, []string{redisFlag}); len(lines) != 1 || !strings.Contains(lines[0], key) {
			t.Errorf("%s:\n%s", file, strings.Join(lines, "\n"))
		}
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	Flags(flags)
	for flag, says := range map[string]string{
		"session-format": "or tiny", "cookie-name": "with session.format tiny it is tinyid", "cookie-keep": "with session.format tiny it is false", "session-tiny-table": "where the sessions are",
	} {
		if f := flags.Lookup(flag); f == nil || !strings.Contains(f.Usage, says) {
			t.Errorf("--%s: %+v", flag, f)
		}
	}
}

// TestFormatsAlone: what is a format's own stands in the file of its row, so that a further
// one changes no other. The table names the rows.
func TestFormatsAlone(t *testing.T) {
	names := regexp.MustCompile(`\b[Ee]xpress\b|\bexpress[A-Z]|connect\.sid|connect-redis`)
	found := false
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		own := filepath.ToSlash(path) == "../../internal/config/express.go"
		found = found || own
		if filepath.ToSlash(path) == "../../internal/config/formats.go" {
			text = []byte(strings.Replace(string(text), "a file like express.go", "", 1))
			text = []byte(strings.Replace(string(text), "{expressFormat}", "", 1))
		}
		if at := names.Find(text); at != nil && !own {
			t.Errorf("%s names %q", path, at)
		}
		return err
	})
	if err != nil || !found {
		t.Errorf("%v, the row was found: %v", err, found)
	}
}
