package main

import (
	"strings"
	"testing"
)

// TestRevokeWaits: replicas may be waited for as long as a person waits for Redis,
// and the answer behind that is still the answer.
func TestRevokeWaits(t *testing.T) {
	s := newShell(t)
	id, handle := s.create("--user-id", "42")
	t.Setenv("COATCHECK_REDIS_WAIT_REPLICAS", "1") // there is no replica
	t.Setenv("COATCHECK_REDIS_WAIT_TIMEOUT", patience.String())
	_, errs := s.run(1, "", "session", "revoke", handle)
	s.wants(errs, "revoked, but not acknowledged by enough replicas: 0 of 1")
	_, errs = s.run(1, id, "session", "show", "--stdin")
	s.wants(errs, "session not found")
}

// TestRevokeUnreplicated: each form of revoke ends what it was asked to end, says how many,
// that replicas did not acknowledge it, and ends with status 1.
func TestRevokeUnreplicated(t *testing.T) {
	const why = "revoked, but not acknowledged by enough replicas: 0 of 1"
	s := newShell(t)
	waiting := func(args ...string) (out, errs string) {
		t.Helper()
		t.Setenv("COATCHECK_REDIS_WAIT_REPLICAS", "1") // there is no replica
		t.Setenv("COATCHECK_REDIS_WAIT_TIMEOUT", "5ms")
		out, errs = s.run(1, "", append([]string{"session", "revoke"}, args...)...)
		t.Setenv("COATCHECK_REDIS_WAIT_REPLICAS", "0")
		s.wants(errs, why)
		if !strings.Contains(errs, `"replicated":false`) && !strings.Contains(errs, "replicated=false") {
			t.Errorf("%q: the line on standard error does not say that replicas lack it: %s", args, errs)
		}
		return out, errs
	}
	none := func() {
		t.Helper()
		if out, _ := s.run(0, "", "session", "list", "--all", "-o", "json"); out != "[]\n" {
			t.Errorf("left are %s", out)
		}
	}
	const told = `"replicated": "false",`
	_, handle := s.create("--user-id", "42")
	out, _ := waiting(handle, "-o", "json")
	s.wants(out, told, `"revoked": "1"`)
	none()

	_, handle = s.create("--user-id", "42")
	out, _ = waiting(handle)
	s.wants(out, "revoked     1", "replicated  false")
	none()

	s.create("--user-id", "42", "--username", "ada")
	s.create("--user-id", "42", "--username", "ada")
	out, _ = waiting("--username", "ada", "-o", "json")
	s.wants(out, told, `"revoked": "2"`, `"user_id": "42"`)
	none()

	// Records that no list has are ended one by one: the first is not the last.
	s.create("--user-id", "42")
	for range 3 {
		s.create("--user-id", "7")
	}
	admin := s.redis.Client()
	defer admin.Close()
	if err := admin.Del(t.Context(), "user-sessions:7").Err(); err != nil {
		t.Fatal(err)
	}
	out, _ = waiting("--all", "--user", "7", "--scan", "-o", "json")
	s.wants(out, told, `"revoked": "3"`, `"unlisted": "3"`)
	_, handle = s.create("--user-id", "42")
	out, _ = waiting("--others", handle, "-o", "json")
	s.wants(out, told, `"revoked": "1"`)
	s.run(0, "", "session", "revoke", handle)
	none()
}
