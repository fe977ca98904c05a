package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRevokeClosed: the command ends the sessions of every account that the users
// file lacks, even if these are most of them, and writes down what it has done.
func TestRevokeClosed(t *testing.T) {
	s := newShell(t)
	hash, _ := s.run(0, "correct horse battery\n", "hash-password")
	path := filepath.Join(t.TempDir(), "users.yaml")
	write := func(ids ...string) {
		text := ""
		for _, id := range ids {
			text += "- {id: " + id + ", username: name" + id + ", password_hash: '" + hash[:len(hash)-1] + "'}\n"
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1", "2", "3")
	out, _ := s.run(0, "", "session", "revoke", "--closed", "--login-users-file", path)
	s.wants(out, "revoked", "0")
	for _, id := range []string{"1", "2", "3", "elsewhere"} {
		s.create("--user-id", id)
	}
	write("3")
	out, _ = s.run(0, "", "session", "revoke", "--closed", "--login-users-file", path)
	s.wants(out, "revoked", "2")
	out, _ = s.run(0, "", "session", "revoke", "--closed", "--login-users-file", path)
	s.wants(out, "revoked", "0")
	for id, want := range map[string]string{"1": "[]\n", "2": "[]\n"} {
		if out, _ := s.run(0, "", "session", "list", id, "-o", "json"); out != want {
			t.Errorf("user %s: %s", id, out)
		}
	}
	for _, id := range []string{"3", "elsewhere"} {
		if out, _ := s.run(0, "", "session", "list", id, "-o", "json"); out == "[]\n" {
			t.Errorf("user %s has no session any more", id)
		}
	}
	_, errs := s.run(1, "", "session", "revoke", "--closed")
	s.wants(errs, "login.users_file")
	_, errs = s.run(2, "", "session", "revoke", "--closed", "--all", "--user", "1")
	s.wants(errs, "--closed cannot be used with")
	write()
	s.run(1, "", "session", "revoke", "--closed", "--login-users-file", path)
	if out, _ := s.run(0, "", "session", "list", "3", "-o", "json"); out == "[]\n" {
		t.Error("an empty file has ended a session")
	}
}
