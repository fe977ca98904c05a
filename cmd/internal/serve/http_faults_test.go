package serve

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestPanicSaysNothing: a bug in a page is logged with its stack, and without its value,
// which may be what the client typed.
func TestPanicSaysNothing(t *testing.T) {
	const canary = "canary-password\ngoroutine 7 [canary]:"
	var out logBuffer
	values := map[string]any{"/text": canary, "/error": errors.New(canary)}
	mux := http.NewServeMux()
	for path, value := range values {
		mux.HandleFunc(path, func(http.ResponseWriter, *http.Request) { panic(value) })
	}
	mux.HandleFunc("/runtime", func(http.ResponseWriter, *http.Request) { panicking(nil) })
	server := httpServer(mux)
	server.ErrorLog = newHTTPFaults("login", slog.New(slog.NewJSONHandler(&out, nil)), func() {})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() { _ = server.Serve(listener) }()
	for _, path := range []string{"/text", "/error", "/runtime"} {
		transport := new(http.Transport)
		if response, err := (&http.Client{Transport: transport}).Get("http://" + listener.Addr().String() + path); err == nil {
			_ = response.Body.Close()
			t.Errorf("%s: an answer", path)
		}
		transport.CloseIdleConnections()
	}
	text := out.String()
	if strings.Contains(text, "canary") {
		t.Errorf("the log holds the value: %s", text)
	}
	for line := range strings.Lines(text) {
		var entry struct{ Msg, Error string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Msg != "login met a bug" || !strings.Contains(entry.Error, "http_faults_test.go") {
			t.Errorf("%v: %s", err, line)
		}
	}
	if n := strings.Count(text, "\n"); n != 3 || !strings.Contains(text, "runtime error: invalid memory address") {
		t.Errorf("%d lines: %s", n, text)
	}
}

// FuzzPanic: of the line that net/http writes of a panic only the stack is logged, for any
// value but a runtime error.
func FuzzPanic(f *testing.F) {
	for _, seed := range []string{"", "hunter2", "a\ngoroutine 7 [running]:\nb", "runtime error: index out of range [1] with length 1", "x: runtime error: y", ": ", "\n", "\xff"} {
		f.Add("127.0.0.1:1", seed)
		f.Add("[fe80::1%a: b]:1", seed)
	}
	const stack = "\ngoroutine 21 [running]:\nnet/http.(*conn).serve.func1()"
	f.Fuzz(func(t *testing.T, address, value string) {
		got := withoutValue("http: panic serving " + address + ": " + value + stack)
		if _, known := strings.CutPrefix(value, "runtime error: "); got != "panic"+stack && (!known || !strings.HasSuffix(got, stack)) && !strings.Contains(address, "runtime error: ") {
			t.Fatalf("%q from %q: %q", value, address, got)
		}
		if got := withoutValue("http: panic serving " + address + ": " + value); !strings.Contains(address+value, "\ngoroutine ") && got != "panic" {
			t.Fatalf("%q without a stack: %q", value, got)
		}
	})
}

func panicking(server *http.Server) { server.Addr = "" }

// TestAdminConnections: the admin listener is bounded like the others, and what is too
// much does not keep out who comes later.
func TestAdminConnections(t *testing.T) {
	server := redistest.Start(t)
	admin := free(t)
	start(t, configure(t, server.Addr, "listen: "+free(t), "admin: {listen: "+admin+"}", "grpc: {max_connections: 3}"))
	var open []net.Conn
	for range 4 {
		conn, err := net.Dial("tcp", admin)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
	}
	last := open[3]
	_ = last.SetReadDeadline(time.Now().Add(4 * time.Second)) // shorter than the time for headers
	if _, err := last.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("a fourth connection stays open: %v", err)
	}
	open[0].Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		response, err := http.Get("http://" + admin + "/healthz")
		if err == nil {
			_ = response.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("closed connections leave no room")
		}
	}
}
