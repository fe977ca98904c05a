package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// said runs a command and returns its output and its status.
func said(t *testing.T, args ...string) (out, errs string, status int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status = run(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
	return stdout.String(), stderr.String(), status
}

// TestConfigPrints values as a file has them, and asks for no Redis: it is for looking.
func TestConfigPrints(t *testing.T) {
	t.Setenv("COATCHECK_REDIS_ADDRESSES", "")
	t.Setenv("COATCHECK_REDIS_USERNAME", "007")
	out, errs, status := said(t, "config", "--cookie-name", "true")
	if status != 0 {
		t.Fatalf("status %d: %s", status, errs)
	}
	for _, want := range []string{"max_in_flight: 1024\n", "    keep: false\n", "    idle_timeout: 30m0s\n", "    username: \"007\"\n", "    name: \"true\"\n", "    addresses: []\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not print %q:\n%s", want, out)
		}
	}
	if _, errs, status = said(t, "config", "--max-in-flight", "0"); status != 1 || !strings.Contains(errs, "max_in_flight") || strings.Contains(errs, "no Redis") {
		t.Errorf("another mistake: status %d: %s", status, errs)
	}
}

// TestHealthWithoutRedis: a probe reads the address of the server and asks no Redis.
func TestHealthWithoutRedis(t *testing.T) {
	t.Setenv("COATCHECK_REDIS_ADDRESSES", "")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ready\n")) }))
	defer server.Close()
	t.Setenv("COATCHECK_ADMIN_LISTEN", strings.TrimPrefix(server.URL, "http://"))
	if out, errs, status := said(t, "health"); status != 0 || !strings.Contains(out, "200 OK: ready") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	for _, command := range []string{"serve", "session list 42"} {
		if _, errs, status := said(t, strings.Fields(command)...); status != 1 || !strings.Contains(errs, "no Redis is named") {
			t.Errorf("%s without Redis: status %d: %s", command, status, errs)
		}
	}
}
