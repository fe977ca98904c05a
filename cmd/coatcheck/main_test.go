package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A shell runs the command against a Redis of its own and keeps all that it
// printed, for the canary.
type shell struct {
	*testing.T
	redis   *redistest.Server
	printed bytes.Buffer
}

func newShell(t *testing.T) *shell {
	s := &shell{T: t, redis: redistest.Start(t)}
	t.Setenv("COATCHECK_REDIS_ADDRESSES", s.redis.Addr)
	t.Setenv("COATCHECK_REDIS_PASSWORD", redistest.Password)
	return s
}

// run runs the command line, in words, and returns its output and its errors.
func (s *shell) run(status int, stdin string, args ...string) (stdout, stderr string) {
	s.Helper()
	var out, errs bytes.Buffer
	if got := run(s.Context(), args, strings.NewReader(stdin), &out, &errs); got != status {
		s.Errorf("coatcheck %q: status %d, want %d: %s%s", args, got, status, out.String(), errs.String())
	}
	if len(args) > 1 && args[1] != "create" {
		s.printed.Write(out.Bytes())
	}
	s.printed.Write(errs.Bytes())
	return out.String(), errs.String()
}

// create makes a session by the command. The handle comes behind "session:": one
// in 64 begins with a dash.
func (s *shell) create(args ...string) (id, handle string) {
	s.Helper()
	out, _ := s.run(0, "", append([]string{"session", "create", "-o", "json"}, args...)...)
	var made struct{ ID, Handle string }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		s.Fatal(err)
	}
	if _, err := sessions.ParseID(made.ID); err != nil {
		s.Fatalf("%v: %s", err, out)
	}
	return made.ID, sessions.KeyPrefix + made.Handle
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestFullDisk: what could not be printed is an error of every command, and said once.
func TestFullDisk(t *testing.T) {
	for _, args := range []string{
		"config", "config keys", "version", "version --output json", "--version", "--help", "session --help", "completion bash",
		"explain https://shop.example/", "doctor ../../envoy/envoy.yaml", "doctor --output json ../../envoy/envoy.yaml", "hash-password",
	} {
		var errs bytes.Buffer
		status := run(t.Context(), strings.Fields(args), strings.NewReader("correct horse battery staple"), full{}, &errs)
		if status != 1 || errs.String() != "coatcheck: no space left on device\n" {
			t.Errorf("coatcheck %s: status %d, %q", args, status, errs.String())
		}
	}
}

func (s *shell) wants(text string, parts ...string) {
	s.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			s.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

func TestSession(t *testing.T) {
	s := newShell(t)
	id, handle := s.create("--user-id", "42", "--username", "Ada\x1b[31m", "--role", "staff", "--role", "admin", "--field", "tenant=acme")
	other, _ := s.create("--user-id", "42")
	third, _ := s.create("--user-id", "42")
	s.create("--user-id", "43")

	out, _ := s.run(0, "", "session", "show", handle)
	s.wants(out, handle, "Ada\uFFFD[31m", "staff, admin", "field tenant", "acme", "idle_expires_at")
	out, _ = s.run(0, "", "session", "show", handle[:len("session:")+8], "--user", "42", "-o", "json")
	s.wants(out, `"key": "`+handle, `"roles": [`, `"tenant": "acme"`)
	out, _ = s.run(0, id+"\n", "session", "show", "--stdin")
	s.wants(out, handle)

	s.run(0, "", "session", "add", handle, "locale=de", "empty=")
	_, errs := s.run(1, "", "session", "add", handle, "theme=dark", "locale=en")
	s.wants(errs, "field exists already")
	_, errs = s.run(1, "", "session", "add", handle, "roles=[]")
	s.wants(errs, "reserved name", `"roles"`)
	out, _ = s.run(0, id, "session", "show", "--stdin")
	s.wants(out, "field locale  ")
	if strings.Contains(out, "theme") {
		t.Errorf("all or nothing: %s", out)
	}

	out, _ = s.run(0, "", "session", "list", "42")
	s.wants(out, "HANDLE", strings.TrimPrefix(handle, sessions.KeyPrefix))
	if n := strings.Count(out, "\n"); n != 4 {
		t.Errorf("%d lines: %s", n, out)
	}
	out, _ = s.run(0, "", "session", "list", "unknown", "-o", "json")
	if out != "[]\n" {
		t.Errorf("the sessions of an unknown user are %s", out)
	}

	out, errs = s.run(0, "", "session", "revoke", "--others", handle)
	s.wants(out, "revoked", "2")
	s.wants(errs, `"msg":"session ended"`, `"by":"`, `"session":"`+strings.TrimPrefix(handle, sessions.KeyPrefix)+`"`, `"user_id":"42"`, `"sessions":2`, `"why":"revoke_others"`)
	_, errs = s.run(1, other, "session", "show", "--stdin")
	s.wants(errs, "session not found")
	s.run(1, third, "session", "revoke", "--stdin")
	_, errs = s.run(0, "", "session", "revoke", handle)
	s.wants(errs, `"msg":"session ended"`, `"by":"`, `"session":"`+strings.TrimPrefix(handle, sessions.KeyPrefix)+`"`, `"user_id":"42"`, `"sessions":1`, `"why":"revoke"`)
	_, errs = s.run(1, "", "session", "revoke", handle)
	s.wants(errs, "session not found")
	out, errs = s.run(0, "", "session", "revoke", "--all", "--user", "43")
	s.wants(errs, `"msg":"session ended"`, `"by":"`, `"user_id":"43"`, `"why":"revoke_all"`)
	s.wants(out, "1")

	for _, secret := range []string{id, other, third, redistest.Password} {
		if strings.Contains(s.printed.String(), secret) {
			t.Errorf("printed is %s in\n%s", secret, s.printed.String())
		}
	}
}

// TestMistakes: what went wrong in one sentence, with status 2 where it is in
// how the command was called, and never with what should stay secret.
func TestMistakes(t *testing.T) {
	s := newShell(t)
	id, handle := s.create("--user-id", "42")
	for _, test := range []struct {
		name   string
		status int
		stdin  string
		args   []string
		want   string
	}{
		{"no such command", 2, "", []string{"sesion"}, `unknown command "sesion" for "coatcheck"; did you mean session?`},
		{"no such flag", 2, "", []string{"serve", "--lissten", ":1"}, "unknown flag: --lissten; did you mean --listen?"},
		{"a secret as a flag", 2, "", []string{"serve", "--redis-password", id}, "set COATCHECK_REDIS_PASSWORD"},
		{"no such topic", 2, "", []string{"help", "sesion"}, `no command "sesion"`},
		{"too much", 2, "", []string{"serve", "now"}, "serve takes no arguments"},
		{"no user", 2, "", []string{"session", "create"}, "--user-id"},
		{"no handle", 2, "", []string{"session", "show"}, "handle"},
		{"two handles", 2, "", []string{"session", "show", "a", "b"}, "1 arguments"},
		{"handle and ID", 2, id, []string{"session", "revoke", "--stdin", handle}, "name one session"},
		{"nothing to add", 2, "", []string{"session", "add", handle}, "arguments"},
		{"no value", 2, "", []string{"session", "add", handle, "a"}, "name=value"},
		{"field twice", 2, "", []string{"session", "add", handle, "a=1", "a=2"}, "twice"},
		{"all without a user", 2, "", []string{"session", "revoke", "--all"}, "--user"},
		{"all and one", 2, "", []string{"session", "revoke", "--all", "--user", "42", handle}, "--all"},
		{"no such output", 2, "", []string{"session", "list", "42", "-o", "xml"}, `"xml"`},
		{"no ID on stdin", 1, "", []string{"session", "show", "--stdin"}, "malformed session ID"},
		{"half an ID on stdin", 1, id[:40], []string{"session", "show", "--stdin"}, "malformed session ID"},
		{"a dash in front", 2, "", []string{"session", "show", "-_abc"}, "session:-"},
		{"a glob", 1, "", []string{"session", "show", "*"}, "a handle has"},
		{"unknown handle", 1, "", []string{"session", "show", "zzzzzzzz"}, "session not found"},
		{"bad configuration", 1, "", []string{"serve", "--timeout", "5", "--log-level", "loud"}, "timeout (COATCHECK_TIMEOUT, --timeout): 5 is not a duration"},
		{"no such file", 1, "", []string{"config", "check", "nowhere.yaml"}, "configuration nowhere.yaml: no such file or directory"},
		{"a taken port", 1, "", []string{"serve", "--listen", s.redis.Addr}, "address already in use"},
		{"empty handle", 1, "", []string{"session", "show", ""}, "a handle has"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.T = t
			_, errs := s.run(test.status, test.stdin, test.args...)
			s.wants(errs, "coatcheck: ", test.want)
			if test.stdin != "" && strings.Contains(errs, test.stdin) {
				t.Errorf("the error repeats the ID: %s", errs)
			}
		})
	}
	s.T = t
	t.Setenv("COATCHECK_REDIS_PASSWORD", "wrong-password")
	_, errs := s.run(1, "", "session", "list", "42")
	s.wants(errs, "WRONGPASS")
	s.redis.Kill()
	_, errs = s.run(1, "", "session", "list", "42")
	s.wants(errs, s.redis.Addr, "connection refused")
	for _, secret := range []string{id, redistest.Password, "wrong-password"} {
		if strings.Contains(s.printed.String(), secret) {
			t.Errorf("printed is %s in\n%s", secret, s.printed.String())
		}
	}
}

// TestIDsAsArguments: no error repeats a session ID, wherever on the command line an
// operator puts it, and whether it begins with a letter, a dash or two.
func TestIDsAsArguments(t *testing.T) {
	newShell(t)
	for _, begin := range []string{"a", "-X", "--x", "-o", "-h", "_"} {
		id := begin + strings.Repeat("Bc3_", 11)[:42-len(begin)] + "A"
		if _, err := sessions.ParseID(id); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{id}, {"help", id}, {"serve", id}, {"session", id}, {"session", "create", id}, {"session", "show", id}, {"session", "show", "-" + id},
			{"session", "list", "42", "-o", id}, {"session", "list", "42", "-o" + id}, {"session", "list", id, id}, {"session", "revoke", id}, {"session", "revoke", "session:" + id},
			{"session", "add", id, "a=1"}, {"session", "add", "x", id}, {"session", "add", "x", id + "=1", id + "=2"}, {"session", "create", "--user-id", "42", "--ttl", id},
			{"serve", "--" + id}, {"serve", "--timeout", id}, {"serve", "--log-level=" + id}, {"config", "check", id}, {"completion", id}, {"health", "--within", id}, {"explain", id}, {"explain", "--host", id},
			{"why", id}, {"why", "--user", id}, {"why", "--username", id}, {"why", "--handle", id}, {"why", "--request-id", id}, {"why", "--user", "42", id}, {"why", "--user", "42", "--since", id},
		} {
			var out, errs bytes.Buffer
			if run(t.Context(), args, strings.NewReader(id), &out, &errs); strings.Contains(out.String()+errs.String(), id) {
				t.Errorf("coatcheck %q prints the ID: %s%s", args, out.String(), errs.String())
			}
		}
	}
}

func TestConfig(t *testing.T) {
	s := newShell(t)
	path := filepath.Join(t.TempDir(), "coatcheck.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("redis: {addresses: [a:1]}\nlog: {decisions: all}\n")
	out, _ := s.run(0, "", "config", "check", path)
	s.wants(out, "good")
	out, _ = s.run(0, "", "config", "--config", path, "--timeout", "1s")
	s.wants(out, "decisions: all", "timeout: 1s", s.redis.Addr, "[redacted]")
	write("redis: {adresses: [a:1]}\nlog: {decisions: some}\ntimeout: 5\n")
	_, errs := s.run(1, "", "config", "check", path)
	s.wants(errs, "redis.adresses", "log.decisions", "timeout", "redis.addresses")
	out, _ = s.run(0, "", "version")
	s.wants(out, "coatcheck ", "go1.", "revision")
	out, _ = s.run(0, "", "version", "-o", "json")
	s.wants(out, `"version": "`, `"revision": "`, `"go_version": "go1.`)
	_, errs = s.run(2, "", "version", "-o", "xml")
	s.wants(errs, `"xml"`)
	if strings.Contains(s.printed.String(), redistest.Password) {
		t.Errorf("printed is the password: %s", s.printed.String())
	}
}
