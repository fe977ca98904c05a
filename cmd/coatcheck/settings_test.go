package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// TestCreateComparesSettings: a session that is made by other settings than login's is
// made, with a warning; the first settings are left for the others.
func TestCreateComparesSettings(t *testing.T) {
	s := newShell(t)
	client := s.redis.Client()
	defer client.Close()
	left := func() string { return client.HGet(t.Context(), "coatcheck:state", "settings").Val() }
	if _, errs := s.run(0, "", "session", "create", "--user-id", "42", "--session-absolute-timeout", "1h"); errs != "" || left() != "" {
		t.Errorf("of one session is left %q: %s", left(), errs)
	}
	epoch := client.HGet(t.Context(), "coatcheck:state", "epoch").Val()
	t.Setenv("COATCHECK_SESSION_IDLE_TIMEOUT", "5m")
	if _, errs := s.run(0, "", "session", "create", "--user-id", "42"); errs != "" || !strings.Contains(left(), `"session.idle_timeout":"5m0s"`) {
		t.Errorf("left is %q: %s", left(), errs)
	}
	if _, errs := s.run(0, "", "session", "create", "--user-id", "42"); errs != "" {
		t.Errorf("the same settings: %s", errs)
	}
	before := left()
	t.Setenv("COATCHECK_SESSION_IDLE_TIMEOUT", "30m")
	_, errs := s.run(0, "", "session", "create", "--user-id", "42")
	s.wants(errs, `"notice":"settings_differ"`, "session.idle_timeout is 30m here and 5m at login", "cure")
	if _, errs := s.run(0, "", "session", "create", "--user-id", "42", "--session-absolute-timeout", "1h"); errs != "" {
		t.Errorf("settings of one session: %s", errs)
	}
	if left() != before {
		t.Errorf("left is %q, was %q", left(), before)
	}
	if now := client.HGet(t.Context(), "coatcheck:state", "epoch").Val(); now == "" || now != epoch {
		t.Errorf("the epoch is %q, was %q", now, epoch)
	}
	client.Del(t.Context(), "coatcheck:state")
	client.Set(t.Context(), "coatcheck:state", "another program's", 0)
	if out, errs := s.run(0, "", "session", "create", "--user-id", "42"); errs != "" || out == "" {
		t.Errorf("%s%s", out, errs)
	}
}

// TestCommandsNoticeRecords: the commands warn of records that another program wrote
// without an expiry, or without listing them.
func TestCommandsNoticeRecords(t *testing.T) {
	s := newShell(t)
	client := s.redis.Client()
	defer client.Close()
	key := string(sessions.NewID().Key())
	client.HSet(t.Context(), key, "v", "1", "user_id", "42", "expires_at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	handle := sessions.Key(key).Handle()
	_, errs := s.run(1, "", "session", "show", "session:"+handle)
	s.wants(errs, `"notice":"endless_record","session":"`+handle+`"`, "its key has no expiry")
	_, errs = s.run(0, "", "session", "revoke", "session:"+handle)
	s.wants(errs, `"notice":"unlisted_record","user_id":"42","sessions":1,"session":"`+handle+`"`, "docs/sessions.md")
}

// TestCheckWarns: what is allowed but probably not meant.
func TestCheckWarns(t *testing.T) {
	s := newShell(t)
	path := filepath.Join(t.TempDir(), "coatcheck.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte("redis: {addresses: [a:1]}\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("timeout: 1s\nsession: {idle_timeout: 24h}\n")
	out, _ := s.run(0, "", "config", "check", path)
	s.wants(out, path+": good\n", path+": warning: session.idle_timeout is longer than session.absolute_timeout",
		"(session.idle_timeout is 24h, session.absolute_timeout 12h); make session.idle_timeout the shorter one", "(timeout is 1s); set the timeout of ext_authz")
	write("")
	if out, _ := s.run(0, "", "config", "check", path); out != path+": good\n" {
		t.Error(out)
	}
}
