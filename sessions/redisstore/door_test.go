package redisstore

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestDoor follows its states: so many refusals in a row shut it, one may knock each 100 ms,
// and a welcome opens it.
func TestDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNode(3)
		wrong := replyError("WRONGPASS invalid username-password pair or user is disabled.")
		dialled := 0
		dial := n.breaker.DialHook(func(context.Context, string, string) (net.Conn, error) {
			dialled++
			ours, theirs := net.Pipe()
			_ = theirs.Close()
			return ours, nil
		})
		knock := func() error {
			conn, err := dial(t.Context(), "tcp", "a:1")
			if err != nil {
				t.Fatal(err)
			}
			if _, err = conn.Write([]byte("HELLO")); errors.As(err, new(shutDoor)) {
				return err
			}
			return n.call("hello", 3)
		}
		for i, end := range []error{wrong, wrong, nil, wrong, io.EOF, wrong, replyError("ERR max number of clients reached")} {
			if n.end = end; !errors.Is(knock(), end) || dialled != i+1 {
				t.Fatalf("knock %d was not made", i)
			}
		}
		n.end = wrong
		for range 1000 {
			time.Sleep(time.Millisecond)
			err := knock()
			if cause, _ := CauseOf(err); cause != CauseTooManyClients && cause != CauseBadCredentials {
				t.Fatalf("the cause is %q: %v", cause, err)
			}
		}
		if dialled != 7+10 {
			t.Errorf("%d connections were tried in a second", dialled-7)
		}
		if !n.breaker.closed() {
			t.Error("the breaker is open, for calls that have a connection")
		}
		n.end = nil
		time.Sleep(probeEvery)
		for i := range 10 {
			if err := knock(); err != nil {
				t.Fatalf("knock %d after the welcome: %v", i, err)
			}
		}
	})
}

// TestDoorOfADatabase is shut by a refused SELECT, and not opened by the HELLO before it.
func TestDoorOfADatabase(t *testing.T) {
	d := &door{database: true}
	for range 5 {
		d.learn(redis.NewCmd(t.Context(), "hello"), 3, nil)
		d.learn(redis.NewCmd(t.Context(), "select", 1), 3, replyError("NOPERM this user has no permissions to run the 'select' command"))
	}
	if err := d.shut(3, time.Now()); !Forbidden(err) {
		t.Errorf("error is %v, want NOPERM", err)
	}
	d.learn(redis.NewCmd(t.Context(), "hmget"), 3, nil)
	d.learn(redis.NewCmd(t.Context(), "select", 1), 3, nil)
	if err := d.shut(3, time.Now()); err != nil {
		t.Errorf("after a welcome: %v", err)
	}
}

// received is how many connections Redis has taken since its start.
func received(t *testing.T, admin *redis.Client) int {
	t.Helper()
	found := regexp.MustCompile(`total_connections_received:(\d+)`).FindStringSubmatch(admin.Info(t.Context(), "stats").Val())
	if found == nil {
		t.Fatal("no number of connections")
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

// TestRefusedHandshakes: a password that was changed costs no handshake for each call, and
// connections of before it are used as long as they live.
func TestRefusedHandshakes(t *testing.T) {
	for _, laned := range []bool{false, true} {
		server := redistest.Start(t)
		admin := server.Client()
		defer admin.Close()
		config := At(server.Addr)
		config.BreakerFailures = 5
		config.ReadTimeout, config.WriteTimeout, config.PoolTimeout = 5*time.Second, 5*time.Second, 5*time.Second // of a busy machine
		key := someKeys(1)[0]
		road := map[bool]string{false: "go-redis", true: "lane"}[laned]
		store := bothRoads(t, config, admin, laned, key)[road]
		touch := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, _, err := store.Touch(ctx, key, time.Now().Add(time.Hour), []string{"v"})
			return err
		}
		burst := func() (failed int64) {
			var n atomic.Int64
			var callers sync.WaitGroup
			for range 40 {
				callers.Go(func() {
					if err := touch(); errors.Is(err, sessions.ErrNotFound) || errors.Is(err, sessions.ErrBroken) {
						t.Errorf("by %s: %v", road, err)
					} else if err != nil {
						n.Add(1)
						if cause, _ := CauseOf(err); cause != CauseBadCredentials {
							t.Errorf("by %s the cause is %s: %v", road, cause, err)
						}
					}
				})
			}
			callers.Wait()
			return n.Load()
		}
		must(t, touch())
		do(t, admin, "acl setuser default >another <"+redistest.Password)
		before, began, failed := received(t, admin), time.Now(), int64(0)
		for time.Since(began) < time.Second {
			failed += burst()
			for range 10 { // one after the other, on a connection of before
				if err := touch(); err != nil {
					t.Fatalf("by %s, with a connection of before: %v", road, err)
				}
			}
		}
		tried := received(t, admin) - before
		t.Logf("by %s: %d calls failed, %d connections were tried", road, failed, tried)
		if laned && failed > 0 {
			t.Errorf("%d calls failed beside a lane", failed)
		}
		if !laned && failed == 0 {
			t.Error("no call needed a new connection: the test tries nothing")
		}
		if took := time.Since(began); tried > 50+int(took/probeEvery) {
			t.Errorf("by %s %d connections were tried in %v", road, tried, took)
		}
		do(t, admin, cutOthers)
		for range 10 {
			if err := touch(); !Refused(err) {
				t.Errorf("by %s, without a connection: %v", road, err)
			}
		}
		do(t, admin, "acl setuser default >"+redistest.Password)
		mended := time.Now()
		for touch() != nil {
			if time.Since(mended) > 30*time.Second {
				t.Fatalf("by %s: not back", road)
			}
		}
		t.Logf("by %s: back after %v", road, time.Since(mended))
	}
}

// TestSlowRedis: a round trip that takes most of a check's time is an answer all the same,
// on both roads, and no fault of the node. The times are twenty times those of a check.
func TestSlowRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client()
	defer admin.Close()
	proxy := startSlowProxy(t, server.Addr)
	config := At(proxy.addr)
	fillIn(&config.UniversalOptions)
	config.ReadTimeout *= 20
	config.BreakerFailures = 10
	key := someKeys(1)[0]
	for road, store := range bothRoads(t, config, admin, true, key) {
		must(t, store.Try(t.Context()))
		proxy.delay.Store(int64(2200 * time.Millisecond))
		var err error
		for range 9 { // a busy machine may add to the delay
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			_, _, err = store.Touch(ctx, key, time.Now().Add(time.Hour), []string{"v"})
			if cancel(); err == nil {
				break
			}
		}
		proxy.delay.Store(0)
		if err != nil || len(store.OpenedBy()) > 0 {
			t.Errorf("by %s no check is answered (%v), and breakers are open by %v", road, err, store.OpenedBy())
		}
	}
}

// A slowProxy passes replies on late.
type slowProxy struct {
	addr  string
	delay atomic.Int64
}

func startSlowProxy(t *testing.T, to string) *slowProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &slowProxy{addr: listener.Addr().String()}
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			running.Go(func() { p.pass(client, server) })
		}
	})
	return p
}

// pass ends with one of the two connections.
func (p *slowProxy) pass(client, server net.Conn) {
	var done sync.WaitGroup
	done.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		time.Sleep(time.Duration(p.delay.Load()))
		if _, failed := client.Write(buffer[:n]); err != nil || failed != nil {
			break
		}
	}
	_ = client.Close()
	_ = server.Close()
	done.Wait()
}

// A brokenPipe fails to send, and its other side says nothing and stays.
type brokenPipe struct{ *net.TCPConn }

var errBroken = errors.New("no buffer space available")

func (brokenPipe) Write([]byte) (int, error) { return 0, errBroken }

// TestTellingWaitsForNothing: a connection that cannot send is not read for longer than a
// moment, where the other side has not hung up.
func TestTellingWaitsForNothing(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	must(t, err)
	defer conn.Close()
	failed := make(chan error, 1)
	go func() {
		_, err := newTelling(brokenPipe{conn.(*net.TCPConn)}).Write([]byte("HELLO"))
		failed <- err
	}()
	select {
	case err := <-failed:
		if !errors.Is(err, errBroken) {
			t.Errorf("it fails with %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it waits for the other side")
	}
}
