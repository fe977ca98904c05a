package redisstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestWeakPasswords: a password that is a word of an error spoils no error.
func TestWeakPasswords(t *testing.T) {
	server, down := redistest.Start(t), redistest.Start(t)
	down.Kill()
	unknown := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "redis", IsNotFound: true}}
	}
	for _, test := range []struct {
		addr      string
		passwords []string
		refused   bool
		want      string
	}{
		{server.Addr, []string{"password", "invalid", "WRONGPASS", "a"}, true, "WRONGPASS"},
		{down.Addr, []string{"refused", "dial", "1", ":"}, false, "connection refused"},
		{"redis:6379", []string{"redis", "host", "e"}, false, "no such host"},
	} {
		for _, password := range test.passwords {
			for _, cluster := range []bool{false, true} {
				config := checking(test.addr)
				config.Password, config.DialerRetries, config.IsClusterMode = password, 1, cluster
				if !test.refused && test.addr != down.Addr {
					config.Dialer = unknown
				}
				store := redisstore.New(connect(t, config), redisstore.Config{})
				_, err := store.Diagnose(t.Context())
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s with %q: %v, want %s", test.addr, password, err, test.want)
				}
				if redisstore.Refused(err) != test.refused || redisstore.Answered(err) != test.refused {
					t.Errorf("%s with %q: refused is %v, answered %v: %v", test.addr, password, redisstore.Refused(err), redisstore.Answered(err), err)
				}
			}
		}
	}
}

// TestWeakPasswordServes: with a password that is a word of them, what Redis
// replies still says of a session what it should.
func TestWeakPasswordServes(t *testing.T) {
	for _, password := range []string{"key", "nil"} {
		server := redistest.Start(t)
		admin := server.Client()
		defer admin.Close()
		id, strange := sessions.NewID(), sessions.NewID()
		err := errors.Join(
			admin.Set(t.Context(), string(strange.Key()), "no hash", time.Minute).Err(),
			server.SetUser("weak", "on", ">"+password, "~session:*", "+@all", "-time"))
		if err != nil {
			t.Fatal(err)
		}
		config := checking(server.Addr)
		config.Username, config.Password = "weak", password
		client := connect(t, config)
		m := newManager(t, client, sessions.Config{})
		if _, err := m.Touch(t.Context(), id); !errors.Is(err, sessions.ErrNotFound) || !redisstore.Answered(err) {
			t.Errorf("%s: %v, want %v", password, err, sessions.ErrNotFound)
		}
		if _, err := m.Touch(t.Context(), strange); !errors.Is(err, sessions.ErrBroken) || !redisstore.Answered(err) {
			t.Errorf("%s: %v, want %v", password, err, sessions.ErrBroken)
		}
		if err := client.Get(t.Context(), string(id.Key())).Err(); !errors.Is(err, redis.Nil) {
			t.Errorf("%s: %v, want %v", password, err, redis.Nil)
		}
		// A right that is missing is an answer.
		if err := m.SyncClock(t.Context()); !redis.IsPermissionError(err) || !redisstore.Answered(err) || redisstore.Refused(err) {
			t.Errorf("%s: TIME: %v", password, err)
		}
	}
}

// TestAnswered: a node that does not reply has not answered, nor has one that was not
// asked.
func TestAnswered(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	store := redisstore.New(connect(t, checking(server.Addr)), redisstore.Config{})
	if _, err := store.Now(t.Context()); !redisstore.Answered(err) {
		t.Errorf("asked: %v", err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*checkTimeout)
	defer cancel()
	if _, err := store.Now(ctx); redisstore.Answered(err) {
		t.Errorf("paused: %v", err)
	}
	server.Kill()
	for range 20 { // at last the breaker is open
		if _, err := store.Now(t.Context()); redisstore.Answered(err) {
			t.Errorf("without a server: %v", err)
		}
	}
}

// TestOtherReplies: a server that knows HELLO, and replies to all else as it is
// told. Of what repeats the password nothing is left, but that it was a reply.
func TestOtherReplies(t *testing.T) {
	const long = "canary-password-as-long-as-a-token"
	for _, test := range []struct {
		reply, password string
		hidden          bool
		answered        bool
	}{
		{"-MOVED 3999 127.0.0.1:7", "127", false, true},
		{"-NOPERM this user has no permissions to run the 'get' command", "user", false, true},
		{"-ERR max number of clients reached", "clients", false, true},
		{"-ERR something else", "canary", false, true},
		{"-ERR unknown command 'x', with args beginning with: '" + long + "' ", long, true, true},
		{"-ERR unknown command 'x', with args beginning with: '" + long[:20], long, true, true},
		{"HTTP/1.1 400 " + long, long, true, false},
		{`say "canary"`, `"canary"`, true, false},
		{"HTTP/1.1 400 Bad Request", long, true, false},
	} {
		config := checking(replying(t, test.reply))
		config.Password, config.MaxRetries, config.MinIdleConns = test.password, -1, -1
		client := connect(t, config)
		err := client.Get(t.Context(), "k").Err()
		_, piped := client.Pipelined(t.Context(), func(p redis.Pipeliner) error { return p.Get(t.Context(), "k").Err() })
		for _, err := range []error{err, piped} {
			if err == nil || strings.Contains(err.Error(), "is this a Redis?") != test.hidden || test.hidden && strings.Contains(err.Error(), "canary") {
				t.Errorf("%s with %q: %v, hidden should be %v", test.reply, test.password, err, test.hidden)
			}
			if redisstore.Answered(err) != test.answered {
				t.Errorf("%s: answered is %v: %v", test.reply, !test.answered, err)
			}
		}
	}
}

// replying is the address of a server that replies to all but handshakes with one
// line.
func replying(t *testing.T, line string) string {
	t.Helper()
	return redistest.Serve(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			name, err := readCommand(in)
			if err != nil {
				return
			}
			reply := line
			switch name {
			case "hello":
				reply = "%0"
			case "client":
				reply = "+OK"
			}
			if _, err := fmt.Fprintf(conn, "%s\r\n", reply); err != nil {
				return
			}
		}
	})
}

// readCommand reads a command and returns its name.
func readCommand(in *bufio.Reader) (name string, err error) {
	var words int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &words); err != nil {
		return "", err
	}
	for i := range words {
		var size int
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return "", err
		}
		word := make([]byte, size+len("\r\n"))
		if _, err := io.ReadFull(in, word); err != nil {
			return "", err
		}
		if i == 0 {
			name = string(word[:size])
		}
	}
	return name, nil
}
