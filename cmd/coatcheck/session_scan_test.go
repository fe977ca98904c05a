package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/coatcheck/coatcheck/sessions"
)

// handles are those of a JSON array.
func (s *shell) handles(text string) (all []string) {
	s.Helper()
	var list []struct{ Handle string }
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		s.Fatalf("%v: %s", err, text)
	}
	for _, item := range list {
		all = append(all, sessions.KeyPrefix+item.Handle)
	}
	slices.Sort(all)
	return all
}

func (s *shell) same(what string, got []string, want ...string) {
	s.Helper()
	if slices.Sort(want); !slices.Equal(got, want) {
		s.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestListAll: who is signed in, by role, name and idleness, and how many.
func TestListAll(t *testing.T) {
	s := newShell(t)
	_, ada := s.create("--user-id", "42", "--username", "ada", "--role", "staff", "--role", "admin", "--field", "tenant=secret-tenant")
	_, grace := s.create("--user-id", "43", "--username", "Grace\x1b", "--role", "staff")
	_, idle := s.create("--user-id", "44", "--username", "ada")
	client := s.redis.Client()
	defer client.Close()
	client.PExpire(t.Context(), string(s.key(idle)), 15*time.Minute)
	client.HSet(t.Context(), "session:"+strings.Repeat("A", 43), "v", "1", "user_id", "45") // broken: who lives is asked
	for args, want := range map[string][]string{
		"":                             {ada, grace, idle},
		"--role admin":                 {ada},
		"--role staff":                 {ada, grace},
		"--role staf":                  {},
		"--username ADA":               {ada, idle},
		"--idle 10m":                   {idle},
		"--username ada --role staff":  {ada},
		"--username grace --idle 1m0s": {},
	} {
		flags := strings.Fields(args)
		out, _ := s.run(0, "", append([]string{"session", "list", "--all", "-o", "json"}, flags...)...)
		s.same("list --all "+args, s.handles(out), want...)
		out, _ = s.run(0, "", append([]string{"session", "count"}, flags...)...)
		s.wants(out, fmt.Sprintf("sessions  %d\n", len(want)))
	}
	out, errs := s.run(0, "", "session", "list", "--all")
	s.wants(out, "HANDLE        USER ID", strings.TrimPrefix(ada, sessions.KeyPrefix)+"  42            ada               staff, admin", "Grace\uFFFD")
	s.wants(errs, `"notice":"endless_record","session":"AAAAAAAAAAAA"`)
	if strings.Count(errs, "\n") != 1 || strings.Contains(out, "secret-tenant") || strings.Count(out, "\n") != 4 {
		t.Errorf("%s%s", out, errs)
	}
	_, errs = s.run(1, "", "session", "list", "--all", "--role", "nurse")
	s.wants(errs, "there is no such session")
	out, _ = s.run(0, "", "session", "list", "--all", "--role", "nurse", "-o", "json")
	s.wants(out, "[]\n")
	out, _ = s.run(0, "", "session", "count", "--roles")
	s.wants(out, "sessions    3\nrole staff  2\nrole admin  1\n")
	out, _ = s.run(0, "", "session", "count", "--roles", "-o", "json")
	s.wants(out, `"sessions": 3`, `"staff": 2`)
	for args, want := range map[string]string{
		"list --all 42": "takes no user's ID", "list 42 --role x": "need --all", "list": "or --all", "list --all --idle 30m": "session.idle_timeout is 30m0s here", "count --idle -1s": "--idle",
	} {
		_, errs := s.run(2, "", append([]string{"session"}, strings.Fields(args)...)...)
		s.wants(errs, want)
	}
}

// key is the whole key of a handle.
func (s *shell) key(handle string) sessions.Key {
	s.Helper()
	out, _ := s.run(0, "", "session", "show", handle, "-o", "json")
	var shown struct{ Key sessions.Key }
	if err := json.Unmarshal([]byte(out), &shown); err != nil {
		s.Fatal(err)
	}
	return shown.Key
}

// TestListOfAName: a name in place of the ID does not look like a user who has no
// session, and a program that reads JSON gets an array all the same.
func TestListOfAName(t *testing.T) {
	s := newShell(t)
	s.create("--user-id", "42", "--username", "ada")
	out, errs := s.run(1, "", "session", "list", "ada")
	s.wants(errs, `no session of the user ID "ada" is listed`, "--all --username NAME", "without listing them, --all")
	if out != "" {
		t.Errorf("printed is %s", out)
	}
	out, errs = s.run(0, "", "session", "list", "ada", "-o", "json")
	s.wants(out, "[]\n")
	s.wants(errs, `no session of the user ID "ada"`)
	_, errs = s.run(2, "", "session", "list", "--user", "42")
	if strings.Contains(errs, "session:-") {
		t.Errorf("no handle is meant here: %s", errs)
	}
	_, errs = s.run(1, "", "session", "revoke", "ada")
	s.wants(errs, `"ada": session not found; all sessions of a user: `, "--username")
	_, errs = s.run(1, "", "session", "revoke", "--all", "--user", "ada")
	s.wants(errs, `no session of the user ID "ada" is listed`, "--username", "--scan")
	if strings.Contains(errs, "session ended") {
		t.Errorf("no session has ended: %s", errs)
	}
}

// TestRevokeUsername: by a name, if it is one user's.
func TestRevokeUsername(t *testing.T) {
	s := newShell(t)
	for _, user := range [][]string{{"42", "ada"}, {"42", "ada"}, {"43", "grace"}, {"44", "Grace"}} {
		s.create("--user-id", user[0], "--username", user[1])
	}
	_, errs := s.run(1, "", "session", "revoke", "--username", "alan")
	s.wants(errs, `no live session has the username "alan"`)
	out, errs := s.run(1, "", "session", "revoke", "--username", "grace")
	s.wants(out, "user_id  43\nuser_id  44\n")
	s.wants(errs, "2 user IDs have this name, and no session was ended", "--user ID")
	out, _ = s.run(1, "", "session", "revoke", "--username", "grace", "-o", "json")
	s.wants(out, `"43",`, `"44"`)
	out, _ = s.run(0, "", "session", "count")
	s.wants(out, "sessions  4")

	out, errs = s.run(0, "", "session", "revoke", "--username", "ada", "--by", "grace, INC-7")
	s.wants(out, "user_id  42", "revoked  2")
	s.wants(errs, `"msg":"session ended"`, `"user_id":"42"`, `"why":"revoke_all"`, `"by":"`, `"asked_by":"grace, INC-7"`)
	if n := strings.Count(errs, `"sessions":1`); n != 2 || strings.Contains(errs, `"session":""`) || strings.Contains(errs, "ada") {
		t.Errorf("each end has a line, without the name: %s", errs)
	}
	_, errs = s.run(2, "", "session", "revoke", "--username", "ada", "--user", "42")
	s.wants(errs, "--username cannot be used with")
	_, errs = s.run(2, "", "session", "revoke", "--scan", "abc")
	s.wants(errs, "--scan needs --all or --username")
	_, errs = s.run(2, "", "session", "revoke", "--all", "--user", "42", "--by", "a\nb")
	s.wants(errs, "--by")
}

// TestRevokeUsernameOfTheSource: a user who is in the users file, and whose name a
// session of another user still has, is a second one.
func TestRevokeUsernameOfTheSource(t *testing.T) {
	s := newShell(t)
	hash, _ := s.run(0, "correct horse battery\n", "hash-password")
	path := filepath.Join(t.TempDir(), "users.yaml")
	if err := os.WriteFile(path, []byte("- {id: '7', username: Ada, password_hash: '"+strings.TrimSpace(hash)+"'}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.create("--user-id", "7", "--username", "old name")
	out, _ := s.run(0, "", "session", "revoke", "--username", "ada", "--login-users-file", path)
	s.wants(out, "user_id  7", "revoked  1")
	_, errs := s.run(1, "", "session", "revoke", "--username", "ada", "--login-users-file", path)
	s.wants(errs, `the user ID "7" has no session`)
	s.create("--user-id", "42", "--username", "ada")
	out, _ = s.run(1, "", "session", "revoke", "--username", "ada", "--login-users-file", path)
	s.wants(out, "user_id  42\nuser_id  7\n")
	_, errs = s.run(1, "", "session", "revoke", "--username", "alan", "--login-users-file", path)
	s.wants(errs, "no user in login.users_file")
	_, errs = s.run(1, "", "session", "revoke", "--username", "ada", "--login-users-file", path+"x")
	s.wants(errs, "login.users_file")
}

// TestRevokeScan: sessions that another program wrote and did not list, broken ones
// too, end with --scan alone.
func TestRevokeScan(t *testing.T) {
	s := newShell(t)
	s.create("--user-id", "42")
	client := s.redis.Client()
	defer client.Close()
	for _, user := range []string{"42", "42", "43"} {
		key := string(sessions.NewID().Key())
		client.HSet(t.Context(), key, "v", "1", "user_id", user, "expires_at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		client.Expire(t.Context(), key, time.Minute)
	}
	client.HSet(t.Context(), string(sessions.NewID().Key()), "user_id", "42") // broken, and without an end
	out, _ := s.run(0, "", "session", "revoke", "--all", "--user", "42")
	s.wants(out, "revoked  1\n")
	out, errs := s.run(0, "", "session", "revoke", "--all", "--user", "42", "--scan")
	s.wants(out, "revoked   3", "unlisted  3")
	if n := strings.Count(errs, `"why":"revoke_scan"`); n != 3 {
		t.Errorf("%d lines: %s", n, errs)
	}
	_, errs = s.run(1, "", "session", "revoke", "--all", "--user", "42", "--scan")
	s.wants(errs, `no session of the user ID "42", listed or not`)
	out, _ = s.run(0, "", "session", "count")
	s.wants(out, "sessions  1")
}

// TestRevokeNoOthers: no line of the log tells of an end where there was none.
func TestRevokeNoOthers(t *testing.T) {
	s := newShell(t)
	_, handle := s.create("--user-id", "42")
	out, errs := s.run(0, "", "session", "revoke", "--others", handle)
	s.wants(out, "revoked  0\n")
	if strings.Contains(errs, "session ended") {
		t.Errorf("the log says %s", errs)
	}
}

// TestHostileRecords: what another program wrote obeys no terminal and turns no line
// around, in any form: tables, JSON, lines of the log, errors.
func TestHostileRecords(t *testing.T) {
	s := newShell(t)
	client := s.redis.Client()
	defer client.Close()
	const bad = "\x1b[2J\u009b31m\x7f\u202e\u2066\u2028\xff\x9b"
	valid := strings.ToValidUTF8(bad, "")
	key := string(sessions.NewID().Key())
	client.HSet(t.Context(), key, "v", "1", "user_id", "42"+valid, "username", "ada", "roles", `["a\u009b\u202e"]`, "address", bad, "user_agent", bad, "field"+bad, bad,
		"expires_at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	client.Expire(t.Context(), key, time.Minute)
	handle := key[:len(sessions.KeyPrefix)+12]
	for _, command := range []string{"show " + handle, "list --all", "count --roles", "verify --all", "verify " + handle, "revoke --username ada", "revoke --username ada --scan"} {
		for _, output := range []string{"json", "table"} {
			status := 0
			if strings.HasPrefix(command, "verify") || command == "revoke --username ada" {
				status = 1 // the record has no good name of a field, and is not listed
			}
			if output == "table" && strings.Contains(command, "--scan") {
				status = 1 // it has ended
			}
			out, errs := s.run(status, "", append([]string{"session", "-o", output}, strings.Fields(command)...)...)
			for _, r := range out + errs {
				if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || strings.ContainsRune("\u202e\u2066\u2028", r) {
					t.Errorf("%s as %s prints %q in %q %q", command, output, r, out, errs)
					break
				}
			}
		}
	}
}

// TestVerifyCommand: mistakes of other programs, with the status that a script needs.
func TestVerifyCommand(t *testing.T) {
	s := newShell(t)
	id, handle := s.create("--user-id", "42", "--username", "ada")
	for _, args := range []string{handle, "-", "--stdin"} {
		out, _ := s.run(0, id, "session", "verify", args)
		s.wants(out, strings.TrimPrefix(handle, sessions.KeyPrefix)+"  good\n")
	}
	out, _ := s.run(0, "", "session", "verify", "--all")
	s.wants(out, "records: 1, all good\n")
	client := s.redis.Client()
	defer client.Close()
	foreign := sessions.NewID()
	client.HSet(t.Context(), string(foreign.Key()), "v", "1", "user_id", "secret-user", "roles", "secret-role", "expires_at", "secret-time", "secret\n", "x", foreign.Reveal(), "y")
	for _, args := range []string{string(foreign.Key()), "-", "--all"} {
		out, errs := s.run(1, foreign.Reveal(), "session", "verify", args)
		s.wants(out, foreign.Key().Handle()+"  refused  roles: is not a JSON array", "refused  expires_at: ", "refused  the key: it has no expiry, so the session would never idle out; send PEXPIREAT", "lives    the listing: ")
		s.wants(errs, "the contract of docs/sessions.md")
		if text := strings.ReplaceAll(out+errs, `"secret\n"`, ""); strings.Contains(text, "secret") || strings.Contains(text, foreign.Reveal()) {
			t.Errorf("a value, or the ID, is in %s", text)
		}
		out, _ = s.run(1, foreign.Reveal(), "session", "verify", args, "-o", "json")
		s.wants(out, `"refused":`, `"cure":`, `"field":`)
		if !json.Valid([]byte(out)) {
			t.Errorf("no JSON: %s", out)
		}
	}
	misplaced := sessions.NewID()
	client.HSet(t.Context(), "session:"+misplaced.Reveal()+"=", "v", "1")
	out, errs := s.run(1, "", "session", "verify", "--all")
	s.wants(errs, "keys below session: that are no session's, so that checks never find them: 1;", "2 of 3 records break")
	if strings.Contains(out+errs, misplaced.Reveal()) {
		t.Errorf("the key, which may be an ID, is in %s%s", out, errs)
	}
	_, errs = s.run(1, misplaced.Reveal(), "session", "verify", "-")
	s.wants(errs, "there is no record")
	_, errs = s.run(1, sessions.NewID().Reveal(), "session", "verify", "-")
	s.wants(errs, "there is no record", "milliseconds")
	_, errs = s.run(2, "", "session", "verify")
	s.wants(errs, "name one session")
	_, errs = s.run(2, "", "session", "verify", "--all", handle)
	s.wants(errs, "--all takes no session")
}

// many writes sessions without their listings.
func (s *shell) many(n int) {
	s.Helper()
	client := s.redis.Client()
	defer client.Close()
	p := client.Pipeline()
	for range n {
		key := string(sessions.NewID().Key())
		p.HSet(s.Context(), key, "v", "1", "user_id", "42", "expires_at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		p.Expire(s.Context(), key, 10*time.Minute)
	}
	if _, err := p.Exec(s.Context()); err != nil {
		s.Fatal(err)
	}
}

// A stopper stops a run when the first bytes are printed, as an operator does.
type stopper struct {
	bytes.Buffer
	stop func()
}

func (s *stopper) Write(b []byte) (int, error) {
	s.stop()
	return s.Buffer.Write(b)
}

// TestInterruptedList: what was printed until then can be read, and the status and the
// error say that it is not all.
func TestInterruptedList(t *testing.T) {
	s := newShell(t)
	s.many(20_000)
	ctx, stop := context.WithCancel(t.Context())
	out, errs := &stopper{stop: stop}, new(bytes.Buffer)
	if status := run(ctx, []string{"session", "list", "--all", "-o", "json"}, strings.NewReader(""), out, errs); status != 1 {
		t.Errorf("status %d", status)
	}
	s.wants(errs.String(), "coatcheck: interrupted, so this is not all\n")
	if n := len(s.handles(out.String())); n == 0 || n >= 20_000 {
		t.Errorf("%d sessions were listed", n)
	}
}

// TestProgress: on a terminal a line tells how far it is, and is gone in the end; lines
// of the list do not mix with it. Elsewhere there is no such line.
func TestProgress(t *testing.T) {
	s := newShell(t)
	s.many(5_000)
	screen, terminal := openTerminal(t)
	var out bytes.Buffer
	if status := run(t.Context(), []string{"session", "count"}, strings.NewReader(""), &out, terminal); status != 0 {
		t.Errorf("status %d", status)
	}
	text := screen(terminal)
	s.wants(text, " sessions looked at, ", " % of Redis")
	if !strings.HasSuffix(text, "\r\x1b[K") {
		t.Errorf("the line is left on the screen: %q", text)
	}
	s.wants(out.String(), "sessions  5000\n")
	if _, errs := s.run(0, "", "session", "count"); errs != "" {
		t.Errorf("without a terminal: %q", errs)
	}
}

// openTerminal makes a terminal. The function that it returns closes it, and returns
// what was shown.
func openTerminal(t *testing.T) (screen func(*os.File) string, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		_, _ = all.ReadFrom(master) // until the terminal is closed
		shown <- all.String()
	}()
	return func(terminal *os.File) string { _ = terminal.Close(); return <-shown }, terminal
}
