package config

import (
	"slices"
	"strings"
	"testing"
)

// fromYAML loads a file's text over what every configuration needs.
func fromYAML(t *testing.T, text string) *Config {
	t.Helper()
	c, err := load([]byte("redis: {addresses: [\"127.0.0.1:6379\"]}\n"+text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSettings: what differs is named with both values; what only checks or only login
// make use of is no difference between the two.
func TestSettings(t *testing.T) {
	const users = "login: {users_file: users.yaml}\n"
	login := fromYAML(t, users+"cookie: {domain: example.com, name: sid}\nsession: {max_per_user: 3}")
	for text, want := range map[string][]string{
		"cookie: {name: sid}": nil,
		"cookie: {name: sid, keep: true}\nheaders: {prefix: x-me-}\ntimeout: 100ms": nil,
		"": {"cookie.name is __Host-session here and sid at login"},
		"bearer: true\nsession: {idle_timeout: 5m, absolute_timeout: 90m}\ncookie: {name: sid}": {
			"bearer is true here and false at login", "session.absolute_timeout is 1h30m here and 12h at login", "session.idle_timeout is 5m here and 30m at login",
		},
		users + "cookie: {name: sid}": {"cookie.domain is empty here and example.com at login", "session.max_per_user is 50 here and 3 at login"},
	} {
		read, err := ReadSettings(login.Settings().Encode())
		if err != nil {
			t.Fatal(err)
		}
		ours := fromYAML(t, text).Settings()
		got := ours.Differences(read)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%q, want\n%q", text, got, want)
		}
		agree := !slices.ContainsFunc(want, func(s string) bool { name, _, _ := strings.Cut(s, " "); return slices.Contains(agreed, name) })
		if (ours.Fingerprint() == login.Settings().Fingerprint()) != agree {
			t.Errorf("%s: the fingerprints are %s and %s", text, ours.Fingerprint(), login.Settings().Fingerprint())
		}
	}
}

// TestSettingsHoldNoSecret: every key is a setting, and no secret, whose value a
// fingerprint could give away.
func TestSettingsHoldNoSecret(t *testing.T) {
	known := make(map[string]Key)
	for _, k := range Keys() {
		known[k.Name] = k
	}
	for _, name := range slices.Concat(agreed, ofLogin) {
		if k, ok := known[name]; !ok || k.Secret || k.File || strings.HasPrefix(name, "redis.") {
			t.Errorf("%s: %+v", name, k)
		}
	}
	alone := []string{"cookie.keep", "session.count_every"} // what one process may do otherwise than another
	for _, k := range new(Config).formatKeys() {            // of which login makes no use
		alone = append(alone, k.name)
	}
	for name, k := range known {
		if section, _, _ := strings.Cut(name, "."); (section == "session" || section == "cookie") && !slices.Contains(slices.Concat(agreed, ofLogin, alone), name) {
			t.Errorf("%+v is not among the settings", k)
		}
	}
	if !slices.IsSorted(agreed) || len((Settings{}).Fingerprint()) != 12 {
		t.Error("the fingerprint hangs on an order")
	}
}

// TestReadSettings: what another program, or another version, has left does no harm.
func TestReadSettings(t *testing.T) {
	ours := fromYAML(t, "").Settings()
	for _, text := range []string{"", "{}", "[]", "null", "x", `{"settings":[]}`, `{"settings":{"cookie.name":1}}`} {
		if _, err := ReadSettings(text); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
	read, err := ReadSettings(`{"more":1,"settings":{"cookie.later":"x","cookie.name":"` + strings.Repeat("a", 100) + `\u001b[2J"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := ours.Differences(read); len(got) != 1 || len(got[0]) > 150 || strings.Contains(got[0], "\x1b") {
		t.Errorf("%q", got)
	}
	read["cookie.name"] = "\x1b[2J"
	if got := ours.Differences(read); len(got) != 1 || !strings.HasSuffix(got[0], `"\x1b[2J" at login`) {
		t.Errorf("%q", got)
	}
}

func TestWarnings(t *testing.T) {
	for text, want := range map[string][]string{
		"":                             nil,
		"session: {idle_timeout: 12h}": nil,
		"session: {idle_timeout: 24h}": {"session.idle_timeout is 24h, session.absolute_timeout 12h"},
		"timeout: 199ms":               nil,
		"timeout: 1s\nsession: {absolute_timeout: 10m}":            {"session.idle_timeout is 30m, session.absolute_timeout 10m", "timeout is 1s"},
		"timeout: 1s\nlisten: ''\nlogin: {users_file: users.yaml}": nil,
	} {
		var got []string
		for _, w := range fromYAML(t, text).Warnings() {
			got = append(got, w.Values)
			if s := w.String(); !strings.Contains(s, w.Values) || len(s) < len(w.Values)+50 {
				t.Errorf("without text and cure: %s", s)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
