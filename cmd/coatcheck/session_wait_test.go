package main

import "testing"

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
