package redisstore_test

import (
	"context"
	"errors"
	"net"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/internal/testtools"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// operations is a fenced block of docs/operations.md, by its first line.
func operations(t *testing.T, first string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```conf\n" + regexp.QuoteMeta(first) + "\n(.*?)```").FindStringSubmatch(string(text))
	if found == nil {
		t.Fatalf("no block of configuration %q", first)
	}
	var lines []string
	for line := range strings.Lines(found[1]) {
		if line, _, _ = strings.Cut(line, "#"); strings.TrimSpace(line) != "" {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// arguments are lines of redis.conf as redis-server takes them.
func arguments(lines []string) (args []string) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, " ")
		args = append(args, "--"+name, value)
	}
	return args
}

// A split is a set of Sentinels with a network that can be cut: on one side the first
// master and a client, on the other side all else.
type split struct {
	*testing.T
	set     *redistest.Sentinels
	proxies []*redistest.Proxy
	ways    map[string]string // from an address that the client is told to one that it dials
}

func newSplit(t *testing.T, args ...string) *split {
	t.Helper()
	s := &split{T: t, ways: make(map[string]string)}
	addr, err := testtools.Addr()
	if err != nil {
		t.Fatal(err)
	}
	front := s.proxy(addr) // by which the other side knows the master
	s.set, err = redistest.NewSentinels(redistest.SentinelsOptions{Replicas: 2, Args: args, By: front.Port(), MasterAddr: addr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.set.Close)
	s.ways[front.Addr] = addr
	for _, server := range append(s.set.Processes, s.set.Replicas...) {
		s.ways[server.Addr] = s.proxy(server.Addr).Addr
	}
	return s
}

func (s *split) proxy(to string) *redistest.Proxy {
	s.Helper()
	p, err := redistest.NewProxy(to)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(p.Close)
	s.proxies = append(s.proxies, p)
	return p
}

// cut parts the two sides, and heal joins them.
func (s *split) cut() {
	for _, p := range s.proxies {
		p.Cut()
	}
}

func (s *split) heal() {
	for _, p := range s.proxies {
		p.Heal()
	}
}

// inside is a client on the master's side, with the timeouts of production.
func (s *split) inside() *redisstore.Client {
	config := s.outsideConfig()
	dialer := &net.Dialer{Timeout: 250 * time.Millisecond}
	config.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if way := s.ways[addr]; way != "" {
			addr = way
		}
		return dialer.DialContext(ctx, network, addr)
	}
	config.ReadTimeout = 200 * time.Millisecond // for WAIT
	return connect(s.T, config)
}

func (s *split) outsideConfig() redisstore.ClientConfig {
	config := hasty(s.set.Addrs...)
	config.MasterName, config.SentinelPassword = redistest.MasterName, redistest.Password
	return config
}

// outside asks the master that the Sentinels name, with patience.
func (s *split) outside() *sessions.Manager {
	s.Helper()
	config := s.outsideConfig()
	config.ReadTimeout, config.DialTimeout, config.PoolTimeout, config.BreakerFailures = 10*time.Second, 10*time.Second, 10*time.Second, 0
	return newManager(s.T, connect(s.T, config), sessions.Config{MaxPerUser: -1})
}

// joined waits until the first master is a replica in step.
func (s *split) joined() {
	s.Helper()
	client := s.set.Master.Client()
	defer client.Close()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		info := client.Info(s.Context(), "replication").Val()
		if strings.Contains(info, "role:slave") && strings.Contains(info, "master_link_status:up") {
			return
		}
		if time.Since(start) > time.Minute {
			s.Fatal("the first master is no replica within a minute")
		}
	}
}

// A tally is what became of revocations.
type tally struct {
	confirmed, unconfirmed, refused             int
	confirmedLost, unconfirmedLost, refusedLost int
}

// A revocation is one try to end a session.
type revocation struct {
	key sessions.Key
	err error
}

// count looks which of the sessions live after all.
func (s *split) count(m *sessions.Manager, tries []revocation) (n tally) {
	s.Helper()
	for _, one := range tries {
		_, err := m.Lookup(s.Context(), one.key)
		if err != nil && !errors.Is(err, sessions.ErrNotFound) {
			s.Fatal(err)
		}
		lost := 0
		if err == nil {
			lost = 1
		}
		switch {
		case one.err == nil:
			n.confirmed++
			n.confirmedLost += lost
		case errors.Is(one.err, sessions.ErrNotReplicated):
			n.unconfirmed++
			n.unconfirmedLost += lost
		default:
			n.refused++
			n.refusedLost += lost
		}
	}
	return n
}

// A fault parts the master from the others for a while, or replaces it.
type fault func(s *split)

// partition cuts the network for long enough for a failover.
func partition(s *split) {
	former, since := s.named(), time.Now()
	s.cut()
	time.Sleep(4 * time.Second)
	for s.named() == former {
		if time.Since(since) > time.Minute {
			s.Error("no failover within a minute")
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.heal()
}

// named is the master by the word of a Sentinel.
func (s *split) named() string {
	addr, err := s.set.MasterOf(s.Context(), s.set.Processes[0])
	if err != nil {
		s.Error(err)
	}
	return addr
}

// manual is an operator's failover. The cut is none.
func manual(s *split) {
	for start := time.Now(); s.set.Failover(s.Context()) != nil; time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			s.Error("no failover within 10 s")
			return
		}
	}
	time.Sleep(2 * time.Second)
}

// paused is an operator's failover behind CLIENT PAUSE WRITE, which lets the replicas catch
// up, and has the master make no change any more that could be lost.
func paused(s *split) {
	client := s.set.Master.Client()
	defer client.Close()
	if err := client.Do(s.Context(), "client", "pause", 10_000, "write").Err(); err != nil {
		s.Error(err)
	}
	manual(s)
}

// TestSplitBrain revokes sessions on the side of a master that is replaced, with and
// without the lines of docs/operations.md, and looks afterwards which of them live again. A
// session whose revocation was confirmed by every replica must not. The others show what
// wait_replicas is for.
func TestSplitBrain(t *testing.T) {
	t.Parallel()
	careful := arguments(operations(t, "# redis.conf of every master and replica"))
	for _, c := range []struct {
		name  string
		args  []string
		fault fault
	}{
		{"partition", nil, partition},
		{"partition, min-replicas-to-write 1", careful, partition},
		{"SENTINEL FAILOVER", nil, manual},
		{"SENTINEL FAILOVER, min-replicas-to-write 1", careful, manual},
		{"SENTINEL FAILOVER behind CLIENT PAUSE WRITE", nil, paused},
	} {
		if !full && c.name != "partition" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSplit(t, c.args...)
			s.revokeBeside(c.fault)
		})
	}
}

// revokeBeside has three callers revoke: one that waits for no replica, one for one of the
// two, and one for both.
func (s *split) revokeBeside(fault fault) {
	s.Helper()
	many, pause := 300, 15*time.Millisecond
	if full {
		many, pause = 1500, 4*time.Millisecond
	}
	outside := s.outside()
	waits := []int{0, 1, 2}
	keys := make([][]sessions.Key, len(waits))
	for i := range waits {
		for _, id := range logins(s.T, outside, many) {
			keys[i] = append(keys[i], id.Key())
		}
	}
	time.Sleep(200 * time.Millisecond) // replication is not waited for
	client := s.inside()
	done := make(chan struct{})
	results := make([]chan []revocation, len(waits))
	confirmed := make([]atomic.Int32, len(waits))
	for i, n := range waits {
		store := redisstore.New(client, redisstore.Config{WaitReplicas: n})
		results[i] = make(chan []revocation, 1)
		go func() { results[i] <- revokeUntil(done, store, keys[i], pause, &confirmed[i]) }()
	}
	for start := time.Now(); confirmed[0].Load() < 10 || confirmed[1].Load() < 10 || confirmed[2].Load() < 10; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			s.Fatal("nothing is confirmed before the fault")
		}
	}
	fault(s)
	time.Sleep(300 * time.Millisecond)
	close(done)
	s.joined()
	for i, n := range waits {
		tries := <-results[i]
		sum := s.count(outside, tries)
		s.Logf("%s: wait_replicas %d: %d confirmed, of which %d live again; %d not confirmed, of which %d; %d refused or not answered, of which %d",
			s.Name(), n, sum.confirmed, sum.confirmedLost, sum.unconfirmed, sum.unconfirmedLost, sum.refused, sum.refusedLost)
		if n == len(s.set.Replicas) && sum.confirmedLost > 0 {
			s.Errorf("%d revocations were confirmed by every replica and lost", sum.confirmedLost)
		}
	}
}

// revokeUntil revokes one session after another until done.
func revokeUntil(done <-chan struct{}, store *redisstore.Store, keys []sessions.Key, pause time.Duration, confirmed *atomic.Int32) (tries []revocation) {
	for _, key := range keys {
		select {
		case <-done:
			return tries
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		n, err := store.Delete(ctx, "42", key)
		cancel()
		if err == nil && n == 0 {
			err = errors.New("not found")
		}
		if err == nil {
			confirmed.Add(1)
		}
		tries = append(tries, revocation{key, err})
		time.Sleep(pause)
	}
	return tries
}

// TestLastReplicaLost measures the price of min-replicas-to-write: without replicas no
// check is answered, and with one again all are.
func TestLastReplicaLost(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, append(arguments(operations(t, "# redis.conf of every master and replica")), "--repl-diskless-sync-delay", "0")...)
	host, port, _ := net.SplitHostPort(master.Addr)
	replica := redistest.Start(t, "--replicaof", host, port)
	m := newManager(t, connect(t, hasty(master.Addr)), sessions.Config{})
	var id sessions.ID
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) { // until the replica is in step
		made, _, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
		if id = made; err == nil {
			break
		}
		if time.Since(start) > time.Minute {
			t.Fatal(err)
		}
	}
	until := func(want func(error) bool) time.Duration {
		t.Helper()
		for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
			_, err := check(m, id, checkTimeout)
			if errors.Is(err, sessions.ErrNotFound) {
				t.Fatal("a session that is there was not found")
			}
			if want(err) {
				return time.Since(start)
			}
			if time.Since(start) > time.Minute {
				t.Fatalf("after a minute: %v", err)
			}
		}
	}
	if err := replica.Pause(); err != nil { // as a host that is cut off
		t.Fatal(err)
	}
	silent := until(func(err error) bool { return redis.HasErrorPrefix(err, "NOREPLICAS") })
	if err := replica.Resume(); err != nil {
		t.Fatal(err)
	}
	back := until(func(err error) bool { return err == nil })
	replica.Kill()
	killed := until(func(err error) bool { return redis.HasErrorPrefix(err, "NOREPLICAS") })
	if err := replica.Restart(); err != nil {
		t.Fatal(err)
	}
	again := until(func(err error) bool { return err == nil })
	t.Logf("the last replica: silent, checks are refused after %v, and answered %v after it is back; killed, after %v and %v", silent, back, killed, again)
}

// TestWaitAfterLostReply: Redis stands still for longer than a try may take, and has then
// both tries before it. The first deletes the record; what WAIT says behind the second,
// which changes nothing, is no acknowledgement of the first.
func TestWaitAfterLostReply(t *testing.T) {
	t.Parallel()
	master, replica := inStep(t)
	store := redisstore.New(connect(t, hasty(master.Addr)), waiting) // one try has 100 ms
	_, s, err := newManager(t, newClient(t, master.Addr), sessions.Config{}).Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(replica.Pause(), master.Pause()); err != nil {
		t.Fatal(err)
	}
	resumed := make(chan error, 1)
	time.AfterFunc(150*time.Millisecond, func() { resumed <- master.Resume() })
	n, err := store.Delete(t.Context(), "42", s.Key)
	if e := <-resumed; e != nil {
		t.Fatal(e)
	}
	if err == nil {
		t.Errorf("deleted %d, acknowledged by a replica that stands still", n)
	}
	looking := master.Client()
	defer looking.Close()
	if looking.Exists(t.Context(), string(s.Key)).Val() != 0 {
		t.Error("the record is there")
	}
}

var waiting = redisstore.Config{WaitReplicas: 1, WaitTimeout: 50 * time.Millisecond}

// inStep is a master with a replica that acknowledges.
func inStep(t *testing.T) (master, replica *redistest.Server) {
	t.Helper()
	master = redistest.Start(t, "--repl-diskless-sync-delay", "0")
	host, port, _ := net.SplitHostPort(master.Addr)
	replica = redistest.Start(t, "--replicaof", host, port)
	m, err := sessions.NewManager(redisstore.New(connect(t, hasty(master.Addr)), waiting), sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		_, s, err := m.Create(t.Context(), sessions.NewSession{UserID: "7"})
		if err == nil && m.Revoke(t.Context(), s.Key) == nil {
			return master, replica
		}
		if time.Since(start) > time.Minute {
			t.Fatal("the replica acknowledges nothing")
		}
	}
}

// TestSecondRevocation: a revocation that finds nothing more to end, as when one is run again
// whose end no replica had acknowledged, is not acknowledged by a replica that stands still
// either, on whatever connection it is sent, and is when the replica goes on. A full Redis
// can do the same.
func TestSecondRevocation(t *testing.T) {
	t.Parallel()
	master, replica := inStep(t)
	_, s, err := newManager(t, newClient(t, master.Addr), sessions.Config{}).Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	end := func(want int) error {
		t.Helper()
		n, err := redisstore.New(newClient(t, master.Addr), waiting).Delete(t.Context(), "42", s.Key)
		if n != want {
			t.Errorf("ended %d, want %d: %v", n, want, err)
		}
		return err
	}
	if err := replica.Pause(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0, 0} {
		if err := end(want); !errors.Is(err, sessions.ErrNotReplicated) {
			t.Errorf("ended %d, and a replica that stands still has acknowledged it: %v", want, err)
		}
	}
	if err := replica.Resume(); err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); end(0) != nil; time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatal("the replica goes on, and acknowledges nothing")
		}
	}
	looking := master.Client()
	defer looking.Close()
	if err := looking.ConfigSet(t.Context(), "maxmemory", "1mb").Err(); err != nil {
		t.Fatal(err)
	}
	if err := looking.HSet(t.Context(), "any", "a", "b").Err(); !redis.HasErrorPrefix(err, "OOM") {
		t.Fatalf("it is not full: %v", err)
	}
	if err := end(0); err != nil {
		t.Errorf("a full Redis: %v", err)
	}
	if n := looking.Exists(t.Context(), string(s.Key)).Val(); n != 0 {
		t.Error("a record was left")
	}
}
