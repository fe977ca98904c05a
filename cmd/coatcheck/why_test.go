package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/coatcheck/coatcheck/cmd/internal/story"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/internal/docstest"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
)

const told = `{"time":"2026-11-26T10:00:00Z","level":"INFO","msg":"login","outcome":"success","address":"192.0.2.1","user_id":"42","session":"3fK9aBcDeFgH"}
{"time":"2026-11-26T10:00:01Z","level":"INFO","msg":"check","verdict":"deny","reason":"missing_role","status":403,"route":"required roles=admin","policy":"admins","session":"3fK9aBcDeFgH","method":"GET","host":"shop.example","path":"/admin","request_id":"r1","duration":1500,"lookup_duration":1000,"had":["staff"]}
{"time":"2026-11-26T10:00:02Z","level":"INFO","msg":"check","verdict":"deny","reason":"missing_role","status":403,"route":"required roles=admin","policy":"admins","session":"3fK9aBcDeFgH","method":"GET","host":"shop.example","path":"/admin","request_id":"r2","duration":1500,"lookup_duration":1000,"had":["staff"]}
{"time":"2026-11-26T10:00:03Z","level":"INFO","msg":"check","verdict":"allow","reason":"ok","status":0,"route":"required","session":"3fK9aBcDeFgH","method":"GET","host":"shop.example","path":"/","request_id":"r3","duration":1500,"lookup_duration":1000}
{"time":"2026-11-26T10:00:04Z","level":"INFO","msg":"session ended","by":"root","session":"3fK9aBcDeFgH","user_id":"42","sessions":1,"why":"revoke"}
{"time":"2026-11-26T10:00:05Z","level":"INFO","msg":"check","verdict":"deny","reason":"not_found","status":401,"route":"required","session":"3fK9aBcDeFgH","method":"GET","host":"shop.example","path":"/","request_id":"r5","duration":1500,"lookup_duration":1000}
{"time":"2026-11-26T10:00:06Z","lev
`

// TestWhy: the story of a user, and what is said where there is none.
func TestWhy(t *testing.T) {
	s := newShell(t)
	s.redis.Kill() // it is not needed
	t.Setenv("COATCHECK_REDIS_ADDRESSES", "")
	out, errs := s.run(0, told, "why", "--user", "42")
	s.wants(errs, "1 of 7 lines cannot be read, the first of them line 7")
	want := `2026-11-26T10:00:00Z  signed in     user 42, session 3fK9aBcDeFgH, from 192.0.2.1
2026-11-26T10:00:01Z  refused       GET shop.example/admin: 403, missing_role (2 times, last at 2026-11-26T10:00:02Z)
                        cause       the session lacks a role that the route or the policy asks for
                        cure        CURE
                        policy      admins
                        session     3fK9aBcDeFgH
                        route       required roles=admin
                        request_id  r2
                        had         staff
2026-11-26T10:00:03Z  allowed       GET shop.example/: ok
2026-11-26T10:00:04Z  ended         session 3fK9aBcDeFgH of user 42, by root: an operator ended it (revoke)
2026-11-26T10:00:05Z  refused       GET shop.example/: 401, not_found
                        cause       session never issued, revoked, or idle for too long
                        because     2026-11-26T10:00:04Z ended session 3fK9aBcDeFgH of user 42, by root: an operator ended it (revoke)
`
	for _, r := range extauthz.Reasons() { // the sentence is that of the table
		if r.Reason == extauthz.MissingRole {
			want = strings.Replace(want, "CURE", plainText(r.Cure), 1)
		}
	}
	if !strings.HasPrefix(out, want) {
		t.Errorf("told:\n%s\nwant:\n%s", out, want)
	}
	out, _ = s.run(0, told, "why", "--handle", "session:3fK9", "-o", "json", "--since", "2026-11-26T10:00:05Z")
	var got struct {
		Events []struct {
			Reason  string
			Values  map[string]string
			Because struct{ By string }
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Events) != 1 || got.Events[0].Values["request_id"] != "r5" || got.Events[0].Because.By != "root" {
		t.Errorf("%v, %+v", err, got)
	}
	s.wants(out, `"reason": "not_found"`, `"status": 401`, `"why": "revoke"`, `"request_id": "r5"`, `"unreadable": 1`)
	path := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(path, []byte(told), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ = s.run(0, "", "why", "--request-id", "r1", path)
	s.wants(out, "signed in", "missing_role\n", "ended")

	for _, test := range []struct {
		status int
		log    string
		args   []string
		want   string
	}{
		{1, told, []string{"--user", "ada"}, "the log holds no line of this user, in 7 lines of which 6 are Coatcheck's; --user takes the user's ID; for the name, there is --username"},
		{1, strings.SplitAfter(told, "\n")[1], []string{"--request-id", "r3"}, "no line of this request, in 1 lines of which 1 are Coatcheck's; it has no allowed request at all, as with log.decisions: denied or faults"},
		{1, "GET /\n", []string{"--handle", "3fK9"}, "no line of this session, in 1 lines of which 0 are Coatcheck's; is it the log of coatcheck serve"},
		{1, told, []string{"--user", "42", "--since", "1s"}, "what was before --since is left out"},
		{1, told, []string{"--user", "42", "nowhere.log"}, "nowhere.log: no such file"},
		{2, told, nil, "name one of --user, --username, --handle and --request-id"},
		{2, told, []string{"--user", "1", "--handle", "a"}, "name one of"},
		{2, told, []string{"--handle", "a b"}, "other characters"},
		{2, told, []string{"--user", "1", "--since", "yesterday"}, `"yesterday" is neither`},
		{2, told, []string{"--user", "1", "--since", "-1h"}, `is neither`},
		{2, told, []string{"--user", "1", "-o", "xml"}, `"xml"`},
		{1, told, []string{"--username", "secret"}, "no line of a log has a username: name the source of users or the Redis"},
	} {
		_, errs := s.run(test.status, test.log, append([]string{"why"}, test.args...)...)
		s.wants(errs, "coatcheck: ", test.want)
	}
	if strings.Contains(s.printed.String(), "secret") {
		t.Error("an error repeats what was given as a username")
	}
}

// TestWhyUsername: the user ID comes from the users file, or else from live sessions.
func TestWhyUsername(t *testing.T) {
	s := newShell(t)
	id, _ := s.create("--user-id", "42", "--username", "ada")
	s.create("--user-id", "43", "--username", "bob")
	s.create("--user-id", "44", "--username", "bob")
	out, _ := s.run(0, told, "why", "--username", "Ada")
	s.wants(out, "signed in", "user 42")
	_, errs := s.run(1, told, "why", "--username", "bob")
	s.wants(errs, "several users have this name: 43, 44\n", "no line of this user")
	_, errs = s.run(1, told, "why", "--username", "hunter2")
	s.wants(errs, "the live sessions have no user of this name", "give --user ID")

	hash, err := passwords.HashPassword("p")
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(users, fmt.Appendf(nil, "- {id: '42', username: eve, password_hash: %q}\n", hash), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COATCHECK_REDIS_ADDRESSES", "")
	out, _ = s.run(0, told, "why", "--username", "eve", "--login-users-file", users)
	s.wants(out, "signed in", "user 42")
	_, errs = s.run(1, told, "why", "--username", "hunter2", "--login-users-file", users)
	s.wants(errs, "the users of login.users_file have no user of this name")
	_, errs = s.run(1, told, "why", "--username", "hunter2", "--login-users-file", "nowhere.yaml")
	s.wants(errs, "login.users_file", "nowhere.yaml")
	for _, secret := range []string{"hunter2", id} {
		if strings.Contains(s.printed.String(), secret) {
			t.Errorf("printed is %s", secret)
		}
	}
}

// FuzzWhy: a client chooses method, host, path and request ID, and can choose neither
// how many lines are printed, nor what a terminal does, nor that an ID is shown. The
// oracle is the story of a harmless client.
func FuzzWhy(f *testing.F) {
	f.Add("GET", "shop.example", "/", "r1")
	f.Add("\x1b]0;x\a", "a\nb", "/\u202e\u2028\u009b2J\t", "{\"msg\":\"session ended\"}")
	f.Add("\xff\xfe", strings.Repeat("a", 300), "/x?\r\n2026-11-26T10:00:00Z  signed in", "\U000e0041")
	f.Add("0", "0", "/\xe9\x9b", "\xffb")
	f.Add("GET", "shop.example", "/", strings.Repeat("\xff", 14<<10)) // in JSON three times as long
	for _, cut := range []int{1 << 10, 2 << 10} {                     // the ID stands where a field is cut
		f.Add("GET", "shop.example", "/"+strings.Repeat("-/", cut/2-17), "r1")
	}
	id := sessions.NewID().Reveal()
	f.Fuzz(func(t *testing.T, method, host, path, request string) {
		tell := func(o string, method, host, path, request string) string {
			var log bytes.Buffer
			for _, handler := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
				slog.New(handler).Info("check", "verdict", "deny", "reason", string(extauthz.MissingRole), "status", 403, "session", "3fK9aBcDeFgH",
					"method", method, "host", host, "path", path+id, "request_id", request, "error", request+"\n"+path)
			}
			opened, err := story.Open(nil, bytes.NewReader(log.Bytes()))
			if err != nil {
				t.Fatal(err)
			}
			told, err := story.Tell(t.Context(), opened, story.Query{Handle: "3fK9"})
			if err != nil || len(told.Events) == 0 || told.Unreadable > 0 {
				t.Fatalf("%v: %+v", err, told)
			}
			var out bytes.Buffer
			if o == "json" {
				err = encode(&out, told)
			} else {
				err = printStory(&out, told)
			}
			if err != nil {
				t.Fatal(err)
			}
			return out.String()
		}
		for _, o := range outputs {
			got := tell(o, method, host, path, request)
			folded := strings.Count(got, "missing_role") == 1 // not if the two forms differ: bytes that are not UTF-8
			want := tell(o, "GET", "shop.example", "/", "r1")
			if a, b := strings.Count(got, "\n"), strings.Count(want, "\n"); folded && a != b && method != "" && host != "" && path != "" && request != "" {
				t.Fatalf("%d lines, want %d:\n%s", a, b, got)
			}
			if bad := strings.IndexFunc(got, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); bad >= 0 && o == "table" {
				t.Fatalf("%q is printed in\n%s", got[bad:min(len(got), bad+4)], got)
			}
			if strings.Contains(got, id[:30]) || strings.ContainsFunc(got, func(r rune) bool { return r != '\n' && unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
				t.Fatalf("printed is an ID or a control character:\n%q", got)
			}
		}
	})
}

// TestWhyAllReasons: each reason that refuses comes with its cause and its cure, in
// words for a terminal.
func TestWhyAllReasons(t *testing.T) {
	for _, r := range extauthz.Reasons() {
		if r.Status() == 0 {
			continue
		}
		var log, out, errs bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("check", "verdict", "deny", "reason", string(r.Reason), "status", r.Status(), "request_id", "r")
		if status := run(t.Context(), []string{"why", "--request-id", "r"}, &log, &out, &errs); status != 0 {
			t.Fatal(errs.String())
		}
		if text := out.String(); !strings.Contains(text, r.Cause) || !strings.Contains(text, "cure ") || strings.Contains(text, "](") {
			t.Errorf("%s: %s", r.Reason, text)
		}
	}
}

// TestDocsWhy: docs/operations.md shows what the command says.
func TestDocsWhy(t *testing.T) {
	t.Chdir(t.TempDir())
	log := strings.ReplaceAll(strings.SplitAfter(told, "not_found")[0], `,"had":["staff"]`, "")
	if err := os.WriteFile("coatcheck.log", []byte(log[:strings.LastIndexByte(log, '\n')+1]), 0o600); err != nil {
		t.Fatal(err)
	}
	const command = "why --user 42 coatcheck.log"
	docstest.PartIsCurrent(t, "docs/operations.md", "why", "```\n$ coatcheck "+command+"\n"+output(t, strings.Fields(command)...)+"```\n")
}

// TestSince: a time, or how long ago.
func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"": {}, "90m": now.Add(-90 * time.Minute), "2026-11-26T09:00:00+01:00": now.Add(-2 * time.Hour)} {
		if got, err := since(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

// TestWhyNamesTheCause: of a check without an answer of Redis it says which of the causes it
// was, and what to look at.
func TestWhyNamesTheCause(t *testing.T) {
	s := newShell(t)
	s.redis.Kill()
	t.Setenv("COATCHECK_REDIS_ADDRESSES", "")
	const line = `{"time":"2026-11-26T10:00:01Z","level":"ERROR","msg":"check","verdict":"deny","reason":"unavailable","status":503,"route":"required","session":"3fK9aBcDeFgH","method":"GET","host":"shop.example","path":"/","request_id":"r1","duration":1500,"lookup_duration":1000,"cause":"read_only","error":"READONLY You can't write against a read only replica."}` + "\n"
	out, _ := s.run(0, line, "why", "--request-id", "r1")
	s.wants(out, "cause       the session store refuses", "redis       read_only: the Redis that is asked is a replica", "look at     let redis.addresses name the master")
}
