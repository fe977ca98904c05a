package redisstore_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// A fakeSentinel names a master, late, or not at all.
type fakeSentinel struct {
	addr   string
	master atomic.Pointer[string] // empty: it does not answer
	late   atomic.Int64
}

func newFakeSentinel(t *testing.T, master string) *fakeSentinel {
	t.Helper()
	s := new(fakeSentinel)
	s.master.Store(&master)
	s.addr = redistest.Serve(t, s.speak)
	return s
}

func (s *fakeSentinel) speak(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		args, err := readArgs(in)
		if err != nil {
			return
		}
		answer := "+OK\r\n"
		switch strings.ToLower(args[0]) {
		case "hello":
			answer = "-ERR unknown command 'hello'\r\n"
		case "subscribe":
			answer = ""
			for i, channel := range args[1:] {
				answer += fmt.Sprintf("*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:%d\r\n", len(channel), channel, i+1)
			}
		case "sentinel":
			answer = "*0\r\n"
			if strings.EqualFold(args[1], "get-master-addr-by-name") {
				time.Sleep(time.Duration(s.late.Load()))
				master := *s.master.Load()
				if master == "" {
					continue
				}
				host, port, _ := net.SplitHostPort(master)
				answer = fmt.Sprintf("*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(host), host, len(port), port)
			}
		}
		if _, err := conn.Write([]byte(answer)); err != nil {
			return
		}
	}
}

// readArgs reads one command.
func readArgs(in *bufio.Reader) (args []string, err error) {
	line := func() (string, error) {
		text, err := in.ReadString('\n')
		return strings.TrimSuffix(text, "\r\n"), err
	}
	head, err := line()
	if err != nil {
		return nil, err
	}
	n := 0
	if _, err := fmt.Sscanf(head, "*%d", &n); err != nil {
		return nil, err
	}
	for range n {
		if _, err := line(); err != nil { // its length
			return nil, err
		}
		arg, err := line()
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	return args, nil
}

// A hearer notes the latest time until when every change was told.
type hearer struct {
	mu    sync.Mutex
	until time.Time
	count int
}

func (*hearer) Invalidate(sessions.Key) {}
func (*hearer) Flush(string)            {}

func (h *hearer) Alive(sent time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count++
	if sent.After(h.until) {
		h.until = sent
	}
}

func (h *hearer) heard() (time.Time, int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.until, h.count
}

// track runs until the test ends.
func track(t *testing.T, config redisstore.ClientConfig, l redisstore.Listener, lease time.Duration) {
	t.Helper()
	client, err := redisstore.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	store := redisstore.New(client, redisstore.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { store.Track(ctx, l, lease) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		_ = client.Close()
	})
}

// TestSentinelsBoundTheLease: the master of a moment ago still answers, and takes itself
// for one. From the moment on in which a Sentinel names another one, or in which no
// Sentinel answers, no time is told until which every change was heard of.
func TestSentinelsBoundTheLease(t *testing.T) {
	t.Parallel()
	const lease = 4 * time.Second // more than a busy machine holds up one of two goroutines
	elsewhere, silent := "127.0.0.1:1", ""
	for name, c := range map[string]struct {
		late [2]time.Duration // of each one's answers
		now  [2]*string       // what they say, from the moment on; nil: as before
	}{
		"they name another, and are slow":       {late: [2]time.Duration{lease / 4, lease / 4}, now: [2]*string{&elsewhere, &elsewhere}},
		"the second names another":              {now: [2]*string{nil, &elsewhere}},
		"the second names another, and is slow": {late: [2]time.Duration{0, lease / 4}, now: [2]*string{nil, &elsewhere}},
		"the first is silent":                   {now: [2]*string{&silent, &elsewhere}},
		"they are silent":                       {now: [2]*string{&silent, &silent}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			master := redistest.Start(t)
			both := []*fakeSentinel{newFakeSentinel(t, master.Addr), newFakeSentinel(t, master.Addr)}
			config := redisstore.At(both[0].addr, both[1].addr)
			config.MasterName, config.Password = redistest.MasterName, redistest.Password
			config.ReadTimeout = lease
			h := new(hearer)
			track(t, config, h, lease)
			for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
				if _, n := h.heard(); n > 4 {
					break
				}
				if time.Now().After(end) {
					t.Fatal("tracking does not begin")
				}
			}
			for i, s := range both {
				s.late.Store(int64(c.late[i]))
			}
			time.Sleep(lease / 2)
			for i, says := range c.now {
				if says != nil {
					both[i].master.Store(says)
				}
			}
			moment := time.Now()
			time.Sleep(lease + lease/2)
			if until, _ := h.heard(); until.After(moment) {
				t.Errorf("told until %v after it", until.Sub(moment))
			}
		})
	}
}

// TestSentinelAway: tracking needs one Sentinel of several, and is not held up by others
// that take connections and say nothing.
func TestSentinelAway(t *testing.T) {
	t.Parallel()
	const lease = 400 * time.Millisecond
	master := redistest.Start(t)
	away, there := newFakeSentinel(t, ""), newFakeSentinel(t, master.Addr)
	config := redisstore.At(away.addr, there.addr)
	config.MasterName, config.Password = redistest.MasterName, redistest.Password
	config.DialTimeout, config.ReadTimeout = 5*time.Second, 5*time.Second
	h := new(hearer)
	track(t, config, h, lease)
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if until, n := h.heard(); n > 20 && time.Since(until) < lease {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no tracking")
		}
	}
}

// TestMoreAnswersThanQuestions: what speaks for Redis and says too much ends a run, and
// does not keep Track from its end.
func TestMoreAnswersThanQuestions(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	addr := redistest.Serve(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			args, err := readArgs(in)
			if err != nil {
				return
			}
			answer := "+OK\r\n"
			switch strings.ToLower(args[0]) {
			case "subscribe":
				answer = ">3\r\n+subscribe\r\n+c\r\n:1\r\n"
			case "role":
				answer = strings.Repeat("*1\r\n+master\r\n", 4)
				select {
				case asked <- struct{}{}:
				default:
				}
			}
			if _, err := conn.Write([]byte(answer)); err != nil {
				return
			}
		}
	})
	client, err := redisstore.NewClient(redisstore.At(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	store := redisstore.New(client, redisstore.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		store.Track(ctx, new(hearer), 400*time.Millisecond)
	}()
	<-asked
	time.Sleep(200 * time.Millisecond)
	cancel()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("it does not end")
	}
}

// TestUnknownSentinels: a failover client of go-redis's own does not tell its Sentinels,
// so that a master that they have replaced would be believed.
func TestUnknownSentinels(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	sentinel := newFakeSentinel(t, master.Addr)
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: redistest.MasterName, SentinelAddrs: []string{sentinel.addr}, Password: redistest.Password})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	log := &logged{said: cancel}
	store := redisstore.New(client, redisstore.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
	h := new(hearer)
	store.Track(ctx, h, 400*time.Millisecond)
	if _, n := h.heard(); n != 0 || !strings.Contains(log.String(), "Sentinels") {
		t.Errorf("told %d times; the log says %q", n, log)
	}
}

// TestReplicasAreRead: what a replica says may be older than a change that a master has
// told.
func TestReplicasAreRead(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{Cluster: true})
	direct := server.Client()
	defer direct.Close()
	if err := direct.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr}, Password: redistest.Password, ReadOnly: true})
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	log := &logged{said: cancel}
	store := redisstore.New(client, redisstore.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
	h := new(hearer)
	store.Track(ctx, h, 400*time.Millisecond)
	if _, n := h.heard(); n != 0 || !strings.Contains(log.String(), "replicas") {
		t.Errorf("told %d times; the log says %q", n, log)
	}
}

// logged is what is logged, and what is then done. Track has ended before it is read.
type logged struct {
	strings.Builder
	said func()
}

func (l *logged) Write(b []byte) (int, error) {
	defer time.AfterFunc(100*time.Millisecond, l.said) // in which it may go on
	return l.Builder.Write(b)
}

// TestTrackingIsRenewed: the connection gets no older than those of the pool, which go
// where the address leads.
func TestTrackingIsRenewed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	direct := server.Client()
	defer direct.Close()
	config := redisstore.At(server.Addr)
	config.Password, config.ConnMaxLifetime, config.ConnMaxLifetimeJitter = redistest.Password, 300*time.Millisecond, time.Millisecond
	track(t, config, new(hearer), 400*time.Millisecond)
	seen := map[string]bool{}
	for end := time.Now().Add(time.Minute); len(seen) < 3; time.Sleep(5 * time.Millisecond) {
		list, err := direct.Do(t.Context(), "client", "list", "type", "pubsub").Text()
		if err != nil {
			t.Fatal(err)
		}
		if id, _, ok := strings.Cut(list, " "); ok {
			seen[id] = true
		}
		if time.Now().After(end) {
			t.Fatalf("connections: %v", seen)
		}
	}
}

// TestEmptyCluster: as long as no master has slots, no master says that all changes were
// told; when one has them, it does.
func TestEmptyCluster(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{Cluster: true})
	direct := server.Client()
	defer direct.Close()
	config := redisstore.At(server.Addr)
	config.Password, config.IsClusterMode = redistest.Password, true
	h := new(hearer)
	track(t, config, h, 400*time.Millisecond)
	time.Sleep(time.Second)
	if _, n := h.heard(); n != 0 {
		t.Errorf("told %d times by no master", n)
	}
	if err := direct.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		list, err := direct.Do(t.Context(), "client", "list", "type", "pubsub").Text()
		if err != nil {
			t.Fatal(err)
		}
		if _, n := h.heard(); n > 0 && list != "" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no tracking")
		}
	}
}
