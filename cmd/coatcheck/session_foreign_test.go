package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSessionOfExpress: a session of an application is shown by its handle and by its
// cookie, and explained; what Coatcheck cannot do with it, each command says; and its ID is
// printed nowhere.
func TestSessionOfExpress(t *testing.T) {
	s := newShell(t)
	const sid, secret = "hzA1Fb15vkgDrCT7hR96BFYnxz1WUJZZ", "hunter2"
	secrets := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(secrets, []byte("other\n"+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"FORMAT": "express", "EXPRESS_SECRET_FILE": secrets, "EXPRESS_USER_ID_PATH": "user.userId", "EXPRESS_USERNAME_PATH": "user.username", "EXPRESS_ROLES_PATH": "user.roles",
	} {
		t.Setenv("COATCHECK_SESSION_"+name, value)
	}
	client := s.redis.Client()
	defer client.Close()
	write := func(sid, value string, ttl time.Duration) {
		if err := client.Set(t.Context(), "sess:"+sid, value, ttl).Err(); err != nil {
			t.Fatal(err)
		}
	}
	write(sid, `{"cookie":{"originalMaxAge":600000},"user":{"userId":42,"username":"ada","roles":["admin"]},"tenant":"acme","cart":{"items":3}}`, time.Minute)
	write("anonymous", `{"cookie":{}}`, time.Minute)
	write("endless", `{"cookie":{},"user":{"userId":1}}`, 0)
	handle := func(sid string) string {
		sum := sha256.Sum256([]byte(sid))
		return base64.RawURLEncoding.EncodeToString(sum[:])[:12]
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(sid))
	value := "s:" + sid + "." + base64.RawStdEncoding.EncodeToString(mac.Sum(nil))

	shown := []string{"format", "express", "handle", handle(sid), "user_id", "42", "ada", "admin", "idle_expires_at", "field tenant", "acme", "field cart.items", "3"}
	for stdin, args := range map[string][]string{
		"": {"session:" + handle(sid)}, value + "\n": {"--stdin"}, url.QueryEscape(value): {"--stdin"}, "connect.sid=" + url.QueryEscape(value) + "\n": {"--stdin"},
	} {
		out, _ := s.run(0, stdin, append([]string{"session", "show"}, args...)...)
		s.wants(out, shown...)
		if strings.Contains(out, "key") {
			t.Errorf("it shows a key:\n%s", out)
		}
	}
	out, _ := s.run(0, "", "session", "show", "-o", "json", "session:"+handle(sid))
	s.wants(out, `"format": "express"`, `"cart.items": "3"`)
	if left := client.PTTL(t.Context(), "sess:"+sid).Val(); left > time.Minute {
		t.Errorf("it was slid: %v", left)
	}
	for who, why := range map[string]string{"anonymous": "no user is signed in", "endless": "no expiry"} {
		_, errs := s.run(1, "", "session", "show", "session:"+handle(who))
		s.wants(errs, handle(who), why)
	}
	_, errs := s.run(1, "", "session", "show", "session:AAAAAAAAAAAA")
	s.wants(errs, "session not found")
	_, errs = s.run(1, strings.Replace(value, ".", ".x", 1), "session", "show", "--stdin")
	s.wants(errs, "standard input", "signature")
	_, errs = s.run(1, "", "session", "show", "--user", "42", "3fK9")
	s.wants(errs, "session.format", "leave out --user")

	out, _ = s.run(0, "", "explain", "https://shop.example/x", "--extension", "coatcheck.roles=admin", "--session", "session:"+handle(sid), "--headers-fields", "tenant")
	s.wants(out, "allow", handle(sid), "x-user-id: 42", "x-user-tenant: acme")
	// Also those that show leaves out, because it has them in a place of their own.
	out, _ = s.run(0, "", "explain", "https://shop.example/x", "--extension", "coatcheck.session=required", "--session", "session:"+handle(sid),
		"--headers-fields", "user.username=x-user-login,cookie.originalMaxAge=x-user-age")
	s.wants(out, "x-user-login: ada", "x-user-age: 600000")
	out, _ = s.run(0, "", "explain", "https://shop.example/x", "--extension", "coatcheck.roles=root", "--session", "session:"+handle(sid))
	s.wants(out, "missing_role")
	out, _ = s.run(0, "", "explain", "https://shop.example/x", "--extension", "coatcheck.session=required", "--session", "session:"+handle("endless"))
	s.wants(out, "broken_record")

	for line, say := range map[string]string{
		"create --user-id 42": "make one", "add 3fK9 a=b": "add fields", "revoke 3fK9": "all of a user", "revoke --all --user 42": "all of a user", "list 42": "list those of a user",
		"list --all": "list those of a user", "verify 3fK9": "rules of its own records", "count": "count them", "revoke --everyone --yes": "",
	} {
		status := 1
		if say == "" {
			status = 2 // it is no such flag
		}
		_, errs := s.run(status, "", append([]string{"session"}, strings.Fields(line)...)...)
		if say != "" {
			s.wants(errs, "session.format", "express", say)
		}
	}
	if client.DBSize(t.Context()).Val() != 3 {
		t.Error("a command has written to Redis")
	}
	for _, hidden := range []string{sid, secret, value} {
		if strings.Contains(s.printed.String(), hidden) {
			t.Errorf("%s was printed:\n%s", hidden, &s.printed)
		}
	}
}

// TestPoliciesOfExpress: a condition on a field that no session of the format can have, such
// as one with two dots, is a mistake in the policy file, at its line.
func TestPoliciesOfExpress(t *testing.T) {
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	policies := func(field string) string {
		return file("policies.yaml", "policies:\n- name: paid\n  session: required\n  condition: session.fields['"+field+"'] == 'pro'\n")
	}
	ours := file("ours.yaml", "redis: {addresses: [127.0.0.1:6379]}\n")
	theirs := file("theirs.yaml", "redis: {addresses: [127.0.0.1:6379]}\nsession: {format: express, express: {secret_file: s, user_id_path: user.id}}\n")
	for _, c := range []struct {
		configuration, field string
		status               int
	}{{ours, "user..plan", 0}, {theirs, "user.plan", 0}, {theirs, "user..plan", 1}, {theirs, ".plan", 1}} {
		out, errs, status := said(t, "config", "check", c.configuration, "--policies", policies(c.field))
		if status != c.status || status != 0 && !strings.Contains(errs, `line 2: policy "paid": condition: field "`+c.field+`" is no path into a session`) {
			t.Errorf("%s, %s: status %d: %s%s", c.configuration, c.field, status, out, errs)
		}
	}
	t.Setenv("COATCHECK_POLICY_FILE", policies("user..plan"))
	if _, errs, status := said(t, "serve", "--config", theirs, "--listen", "127.0.0.1:0"); status != 1 || !strings.Contains(errs, "no path into a session") || !strings.Contains(errs, "policy_file") {
		t.Errorf("at start: status %d: %s", status, errs)
	}
}
