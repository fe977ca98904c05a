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

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
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

// speak is a server that says the same to every command.
func speak(t *testing.T, text string) (addr string) {
	t.Helper()
	return redistest.Serve(t, func(conn net.Conn) {
		for b := make([]byte, 4<<10); ; {
			if _, err := conn.Read(b); err != nil {
				return
			}
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	})
}

// nonsense is what no Redis says, or not to these commands.
var nonsense = []string{
	"", ":-1\r\n", ":1\r\n", "+OK\r\n", "+OK\r\n:-1\r\n:-1\r\n:-1\r\n:-1\r\n", "*-1\r\n", "$-1\r\n", "*0\r\n", "%0\r\n", ":0\r\n\x0f-1\r\n",
	"*2147483647\r\n", "$2147483647\r\n", "%2147483647\r\n", "%1\r\n+a\r\n*2147483647\r\n", "+OK\r\n+OK\r\n*2147483647\r\n", "*1\r\n*2147483647\r\n", "$9223372036854775807\r\n",
	"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "220 mail.example ESMTP\r\n", "\x15\x03\x01\x00\x02\x02\x46", strings.Repeat("x", 1<<20),
}

// TestNoRedis: whatever answers in place of Redis, no call panics, takes much memory,
// finds a session or says that there is none.
func TestNoRedis(t *testing.T) {
	key, names := sessions.NewID().Key(), []string{"v", "user_id"}
	for _, text := range nonsense {
		for _, several := range []bool{false, true} {
			config := At(speak(t, text))
			config.IsClusterMode = several
			client, err := NewClient(config)
			if err != nil {
				t.Fatal(err)
			}
			store := New(client, Config{})
			took := allocated()
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
			if mib := took(); mib > 100 {
				t.Errorf("%.40q, Cluster %v: %d MiB", text, several, mib)
			}
			_ = client.Close()
		}
	}
}

// allocated tells how many MiB have been allocated since it was called.
func allocated() (took func() uint64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	return func() uint64 {
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) >> 20
	}
}

// TestNoRedisInBackground: nor does what asks beside the calls believe it: what opens a
// lane, and what asks the Sentinels.
func TestNoRedisInBackground(t *testing.T) {
	for _, text := range nonsense {
		took := allocated()
		config := At(speak(t, text))
		config.MasterName = "master"
		fillIn(&config.UniversalOptions)
		if conn, err := newRoad(simple(redis.NewClient(config.Simple()))).dial(); err == nil {
			_ = conn.Close() // such as where each command is a success
		}
		ask := newSentinels(&config.UniversalOptions)
		if addr, err := ask.clients[0].GetMasterAddrByName(t.Context(), "master").Result(); err == nil && len(addr) > 0 {
			t.Errorf("%.40q: the master is %q", text, addr)
		}
		ask.close()
		if mib := took(); mib > 100 {
			t.Errorf("%.40q: %d MiB", text, mib)
		}
	}
}
