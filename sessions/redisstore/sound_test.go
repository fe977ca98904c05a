package redisstore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// longNumber is a length that Go would read, and no server writes.
var longNumber = regexp.MustCompile(`[$=!*~>%|][+-]?0{8}`)

// FuzzSyntax: what is followed are the replies that frames reads, whatever pieces they
// come in.
func FuzzSyntax(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n", ":1\r\n*3\r\n$1\r\n1\r\n$2\r\n42\r\n$-1\r\n:7200000\r\n", "%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n", "|1\r\n+a\r\n+b\r\n:5\r\n", ">2\r\n+x\r\n*-1\r\n",
		"$5\r\nab\r\nc\r\n", "$2\r\nabc\r\n", "$2\r\nab\n\r", "$0\r\n\r\n", "$-2\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n:2\r\n",
		"HTTP/1.1 400 Bad Request\r\n\r\n", "*1048577\r\n", "$33554433\r\n", "+a\n", "\r\n", "!3\r\nERR\r\n=5\r\ntxt:a\r\n", "_\r\n#t\r\n,1.5\r\n(12\r\n", "+" + strings.Repeat("a", maxReplyLine),
	} {
		f.Add([]byte(seed), byte(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece byte) {
		var whole, pieces syntax
		got, step := whole.follow(in), max(1, int(piece))
		for rest := in; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			pieces.follow(rest[:min(step, len(rest))])
		}
		if pieces.broken == got {
			t.Fatalf("%q: %v, and in pieces of %d %v", in, got, step, !pieces.broken)
		}
		read := frames{bufio.NewReader(bytes.NewReader(in))}
		var err error
		for err == nil {
			if _, err = read.read(0); err == nil && read.Buffered() == 0 {
				if _, err = read.Peek(1); err != nil { // all is read
					break
				}
			}
		}
		ended := errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && len(in) > 0 && bytes.HasSuffix(in, []byte("\r\n"))
		switch {
		case errors.Is(err, errNoReply) && got:
			t.Fatalf("%q is followed, and is no reply", in)
		case ended && !got && whole.text == 0 && !longNumber.Match(in):
			t.Fatalf("%q is not followed, and is one", in)
		}
	})
}

// speak listens as a server that says the same to every command.
func speak(t *testing.T, text string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for b := make([]byte, 4<<10); ; {
					if _, err := conn.Read(b); err != nil {
						return
					}
					if _, err := io.WriteString(conn, text); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// TestNoRedis: whatever answers in place of Redis, no call panics, takes much memory,
// finds a session or says that there is none.
func TestNoRedis(t *testing.T) {
	key, names := sessions.NewID().Key(), []string{"v", "user_id"}
	for _, text := range []string{
		"", ":-1\r\n", ":1\r\n", "+OK\r\n", "+OK\r\n:-1\r\n:-1\r\n:-1\r\n:-1\r\n", "*-1\r\n", "$-1\r\n", "*0\r\n", "%0\r\n", ":0\r\n\x0f-1\r\n",
		"*2147483647\r\n", "$2147483647\r\n", "%2147483647\r\n", "+OK\r\n+OK\r\n*2147483647\r\n", "*1\r\n*2147483647\r\n", "$9223372036854775807\r\n",
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "220 mail.example ESMTP\r\n", "\x15\x03\x01\x00\x02\x02\x46", strings.Repeat("x", 1<<20),
	} {
		for _, several := range []bool{false, true} {
			config := At(speak(t, text))
			config.IsClusterMode = several
			client, err := NewClient(config)
			if err != nil {
				t.Fatal(err)
			}
			store := New(client, Config{})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
			for range 2 {
				if _, _, err := store.Touch(ctx, key, time.Now(), names); err == nil || errors.Is(err, sessions.ErrNotFound) {
					t.Errorf("%.40q, Cluster %v: a touch returns %v", text, several, err)
				}
				_, _ = store.Read(ctx, names, key)
				_, _, _ = store.List(ctx, "42", names, 10)
				_, _ = store.UserKeys(ctx, "42")
				_, _ = store.Delete(ctx, "42", key)
				_, _ = store.Diagnose(ctx)
				_, _ = store.Now(ctx)
				for range store.Scan(ctx, names) {
				}
			}
			cancel()
			runtime.ReadMemStats(&after)
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 100 {
				t.Errorf("%.40q, Cluster %v: %d MiB", text, several, took)
			}
			_ = client.Close()
		}
	}
}
