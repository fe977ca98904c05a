package stage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A scene is a stage with clients.
type scene struct {
	*testing.T
	*Stage
	judge  *redisstore.Client
	random *rand.Rand
	keys   []string                // one of each shard
	kept   map[*node]*redis.Client // each with a connection from before the fault
	own    map[*node]string        // a key of each
	before []*node                 // the masters then

	oldPassword string
}

// put puts a stage up, with two clients that stand for replicas of Coatcheck.
func put(t *testing.T, o Options) *scene {
	t.Helper()
	s, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	config := s.Config()
	config.ReadTimeout, config.WriteTimeout = 10*time.Second, 10*time.Second // a busy machine is no fault
	judge, err := redisstore.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = judge.Close() })
	sc := &scene{T: t, Stage: s, judge: judge, random: rand.New(rand.NewPCG(uint64(o.Seed), 2)), keys: []string{"session:nobody"}}
	for i := 0; o.Kind == Cluster && len(sc.keys) < shards; i++ {
		key := fmt.Sprintf("session:nobody-%d", i)
		slot, err := s.nodes[0].do(t.Context(), "cluster", "keyslot", key)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			sc.keys = nil
		}
		if int(slot.(int64))*shards/slots == len(sc.keys) {
			sc.keys = append(sc.keys, key)
		}
	}
	return sc
}

// hire starts the clients that stand for replicas of Coatcheck, once.
func (sc *scene) hire() {
	sc.Helper()
	if sc.Servers != nil {
		return
	}
	for i := range 2 {
		c := &client{env: sc.Environ(i)}
		if err := c.Start(); err != nil {
			sc.Fatal(err)
		}
		sc.Cleanup(func() { _ = c.Kill() })
		sc.Servers = append(sc.Servers, c)
		sc.within(time.Minute, "a client is well", func() error { return c.heard("ok") })
	}
}

// A client is a process that asks Redis all the time.
type client struct {
	env  []string
	cmd  *exec.Cmd
	done chan struct{}

	ahead time.Duration

	mu   sync.Mutex
	said map[string]bool // since heard looked
	well time.Time       // when it was answered last
}

func (c *client) Start() error {
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(append(os.Environ(), c.env...), asClient+"=1")
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.cmd.Start(); err != nil {
		return err
	}
	c.done, c.said = make(chan struct{}), make(map[string]bool)
	go func() {
		defer close(c.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.mu.Lock()
			c.said[lines.Text()] = true
			if lines.Text() == "ok" {
				c.well = time.Now()
			}
			c.mu.Unlock()
		}
	}()
	return nil
}

func (c *client) Pid() int { return c.cmd.Process.Pid }

// SetClock notes it: the client looks at no clock.
func (c *client) SetClock(ahead time.Duration) error { c.ahead = ahead; return nil }

func (c *client) Stop() error { return c.end(syscall.SIGTERM) }

func (c *client) Kill() error { return c.end(syscall.SIGKILL) }

func (c *client) end(s syscall.Signal) error {
	_ = c.cmd.Process.Signal(s)
	<-c.done
	_ = c.cmd.Wait()
	return nil
}

// failed reports whether the client was not answered for so long. The caller holds mu.
func (c *client) failed(d time.Duration) bool { return time.Since(c.well) > d }

// heard returns an error until the client says this, and then forgets what it has said.
func (c *client) heard(word string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := slices.Collect(maps.Keys(c.said))
	if !strings.Contains(strings.Join(all, "\n"), word) {
		return fmt.Errorf("a client says %q, want %q", all, word)
	}
	clear(c.said)
	return nil
}

// within tries until there is no error.
func (sc *scene) within(d time.Duration, what string, try func() error) {
	sc.Helper()
	var err error
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	sc.Errorf("not within %v: %s: %v", d, what, err)
}

// options are those of Coatcheck's way to a node, with its files as they are now.
func (sc *scene) options(n *node) *redis.Options {
	o := &redis.Options{
		Addr: n.proxy.addr, PoolSize: 1, MaxRetries: -1, DialerRetries: 1, Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
		DialTimeout: 300 * time.Millisecond, ReadTimeout: 200 * time.Millisecond, WriteTimeout: 200 * time.Millisecond,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	password, err := os.ReadFile(sc.secrets.file)
	if err != nil {
		sc.Fatal(err)
	}
	o.Password = strings.TrimSpace(string(password))
	if sc.o.ACL {
		o.Username = checks
	}
	if sc.o.TLS {
		at := sc.certificates.client
		o.TLSConfig = clientTLS(at.ca, at.cert, at.key)
	}
	return o
}

// ask asks what a check asks, over a new connection, and says what came of it.
func (sc *scene) ask(n *node) string { return sc.askFor(300*time.Millisecond, n) }

// askFor waits so long for each answer.
func (sc *scene) askFor(d time.Duration, n *node) (got string) {
	o := sc.options(n)
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = d, d, d
	c := redis.NewClient(o)
	defer func() { _ = c.Close() }()
	for _, key := range sc.keys {
		if got = touchFor(d, c, key); !strings.HasPrefix(got, "MOVED") {
			return got
		}
	}
	return got
}

// touch asks for a key that the node has, if there is one.
func (sc *scene) touch(c redis.UniversalClient) (got string) {
	for _, key := range sc.keys {
		if got = touch(c, key); !strings.HasPrefix(got, "MOVED") {
			return got
		}
	}
	return got
}

// touch is what a check sends.
func touch(c redis.UniversalClient, key string) string { return touchFor(300*time.Millisecond, c, key) }

func touchFor(d time.Duration, c redis.UniversalClient, key string) string {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	err := c.Do(ctx, "pexpireat", key, time.Now().Add(time.Hour).UnixMilli(), "gt").Err()
	if err == nil {
		err = c.HMGet(ctx, key, "user_id").Err()
	}
	return answer(err)
}

// answer is the kind of an error.
func answer(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), strings.Contains(err.Error(), "EOF"):
		return "reset"
	}
	return err.Error()
}

// anyNode waits until one node gives such an answer to new connections.
func (sc *scene) anyNode(word string) {
	sc.Helper()
	sc.within(20*time.Second, "a node answers "+word, func() error {
		var all []string
		for _, n := range sc.nodes {
			got := sc.ask(n)
			if strings.Contains(got, word) {
				return nil
			}
			all = append(all, got)
		}
		return fmt.Errorf("answers: %q", all)
	})
}

// anyKept waits until one connection from before gives such an answer.
func (sc *scene) anyKept(word string) {
	sc.Helper()
	sc.within(20*time.Second, "a connection from before answers "+word, func() error {
		var all []string
		for _, c := range sc.kept {
			got := sc.touch(c)
			if strings.Contains(got, word) {
				return nil
			}
			all = append(all, got)
		}
		return fmt.Errorf("answers: %q", all)
	})
}

// allNodes wants such an answer of every master.
func (sc *scene) allNodes(word string) {
	sc.Helper()
	masters, err := sc.masters(sc.Context())
	if err != nil {
		sc.Error(err)
	}
	for _, n := range masters {
		sc.within(20*time.Second, string(n.name)+" answers "+word, func() error {
			if got := sc.askFor(3*time.Second, n); !strings.Contains(got, word) {
				return errors.New(got)
			}
			return nil
		})
	}
}

// slowest is how long questions take, over the connections that stand.
func (sc *scene) slowest(times int) (longest time.Duration) {
	for n, c := range sc.kept {
		key := sc.own[n]
		for range times {
			begin := time.Now()
			if c.HMGet(sc.Context(), key, "user_id").Err() != nil {
				continue
			}
			longest = max(longest, time.Since(begin))
		}
	}
	return longest
}

// keep opens a connection to each master, by the proxies.
func (sc *scene) keep() {
	sc.Helper()
	masters, err := sc.masters(sc.Context())
	if err != nil {
		sc.Fatal(err)
	}
	sc.kept, sc.own = make(map[*node]*redis.Client), make(map[*node]string)
	for _, n := range masters {
		c := redis.NewClient(sc.options(n))
		sc.within(time.Minute, "a connection to keep", func() error {
			if got := sc.touch(c); got != "ok" {
				return errors.New(got)
			}
			return nil
		})
		sc.kept[n], sc.own[n] = c, sc.keyAt(n)
	}
	sc.before, sc.oldPassword = masters, sc.secrets.password
}

func (sc *scene) letGo() {
	for _, c := range sc.kept {
		_ = c.Close()
	}
	sc.kept = nil
}
