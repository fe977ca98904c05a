package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestHealth asks a server that stands in for the one that serves.
func TestHealth(t *testing.T) {
	t.Setenv("COATCHECK_REDIS_ADDRESSES", "127.0.0.1:1") // which it does not ask
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:1")
	}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	status, body := 200, "ready\nand more"
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	address := strings.TrimPrefix(server.URL, "http://")
	_, port, _ := net.SplitHostPort(address)

	ask := func(want int, args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if got := run(t.Context(), append([]string{"health"}, args...), nil, &out, &errs); got != want {
			t.Errorf("%q: status %d, want %d: %s%s", args, got, want, out.String(), errs.String())
		}
		return strings.ReplaceAll(out.String()+errs.String(), port, "9102")
	}
	says := func(got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	const ready = "http://127.0.0.1:9102/readyz answers 200 OK: ready\n"
	says(ask(0, "--admin-listen", address), ready)
	says(ask(0, "--admin-listen", ":"+port), ready)
	says(ask(0, "--admin-listen", "0.0.0.0:"+port), ready)
	says(ask(0, "--admin-listen", "localhost:"+port), strings.Replace(ready, "127.0.0.1", "localhost", 1))

	status, body = 503, "draining \x1b[31m\nsoon"
	says(ask(1, "--admin-listen", address), "coatcheck: http://127.0.0.1:9102/readyz answers 503 Service Unavailable: draining �[31m\n")
	says(ask(0, "--admin-listen", address, "--live"), "http://127.0.0.1:9102/healthz answers 200 OK: alive\n")
	status, body = 204, ""
	says(ask(1, "--admin-listen", address), "coatcheck: http://127.0.0.1:9102/readyz answers 204 No Content\n")
	status, body = 200, strings.Repeat("x", 1000)
	says(ask(0, "--admin-listen", address), "http://127.0.0.1:9102/readyz answers 200 OK: "+strings.Repeat("x", 200)+"\n")

	const nowhere = "coatcheck: admin.listen (COATCHECK_ADMIN_LISTEN, --admin-listen): it is empty, so there is no address to ask\n"
	t.Setenv("COATCHECK_ADMIN_LISTEN", "")
	says(ask(1, "--admin-listen", ""), nowhere)
	server.Close()
	says(ask(1, "--admin-listen", address), "coatcheck: http://127.0.0.1:9102/readyz: dial tcp 127.0.0.1:9102: connect: connection refused\n")
}

// TestHealthInTime asks a server that accepts and says nothing.
func TestHealthInTime(t *testing.T) {
	t.Setenv("COATCHECK_REDIS_ADDRESSES", "127.0.0.1:1")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var out, errs bytes.Buffer
	start := time.Now()
	status := run(t.Context(), []string{"health", "--within", "50ms", "--admin-listen", listener.Addr().String()}, nil, &out, &errs)
	if took := time.Since(start); status != 1 || took > 10*time.Second || !strings.HasSuffix(errs.String(), "/readyz does not answer within 50ms\n") {
		t.Errorf("after %v: %d %s", took, status, errs.String())
	}
}

func TestAdminURL(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:9102":    "http://127.0.0.1:9102/readyz",
		":9102":             "http://127.0.0.1:9102/readyz",
		"0.0.0.0:9102":      "http://127.0.0.1:9102/readyz",
		"[::]:9102":         "http://[::1]:9102/readyz",
		"[fd00::1]:9102":    "http://[fd00::1]:9102/readyz",
		"10.0.0.7:http":     "http://10.0.0.7:80/readyz",
		"coatcheck.local:1": "http://coatcheck.local:1/readyz",
	} {
		if got, err := adminURL(listen, "/readyz"); err != nil || got != want {
			t.Errorf("%s: %s %v, want %s", listen, got, err, want)
		}
	}
}
