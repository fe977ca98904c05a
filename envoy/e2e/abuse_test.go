package e2e_test

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
)

// The memory bound that docs/operations.md states and these tests check: twice the
// memory of the idle server, the collector's headroom, and what an attack adds, which
// is a sum for each call that is begun and not finished, a number of messages in
// transfer, or a sum for each answer that is not read.
const (
	headroom    = 64 << 20
	bytesAStray = 16 << 10
	receiving   = 256
	message     = 256 << 10
	bytesUnread = 16 << 10
	// bytesAConnection is what a connection may take: the buffers of TLS and HTTP/2 in
	// both directions, with their goroutines, or 64 KiB of headers at login.
	bytesAConnection = 128 << 10
	container        = 256 << 20
)

// An attack is what peers do to a door while a regular Envoy sends its checks.
type attack struct {
	name  string
	costs int // bytes that it may add to the memory
	run   func(*testing.T, door)
}

// A door is a listener of Coatcheck, as an attacker reaches it: in plain text, or with TLS,
// and a certificate of Envoy's where keys is the folder that has it.
type door struct {
	addr      string
	encrypted bool
	keys      string
}

// tls is nil for plain text.
func (d door) tls() *tls.Config {
	switch {
	case !d.encrypted:
		return nil
	case d.keys == "":
		return &tls.Config{InsecureSkipVerify: true}
	}
	c, err := clientTLS(d.keys)
	if err != nil {
		panic(err)
	}
	return c
}

// dial connects, and shakes hands if the door has TLS.
func (d door) dial() (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", d.addr, 10*time.Second)
	if err != nil || !d.encrypted {
		return conn, err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	encrypted := tls.Client(conn, d.tls())
	if err := encrypted.Handshake(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return encrypted, nil
}

const strays = 10_000

var grpcAttacks = []attack{
	{"10,000 calls that are begun, not finished", strays * bytesAStray, openStreams},
	{"2,000 messages that lack their end", receiving * message, unfinishedMessages},
	{"messages of 100 MB", 8 * message, hugeMessages},
	{"a flood of pings", 0, pings},
	{"a flood of settings and window updates", 0, settingsAndWindows},
	{"header bombs", 0, headerBombs},
	{"headers without their end", 200 * bytesAConnection, endlessHeaders},
	{"calls that are reset at once", 0, rapidReset},
	{"calls as long as checks, reset at once", 0, longReset},
	{"10,000 answers that find no window", unread * bytesUnread, closedWindows},
	{"calls of peers that read nothing", unread * bytesUnread, unreadAnswers},
	{"calls that are no checks", 0, strangeCalls},
	{"the costliest messages", 0, costlyMessages},
}

// Handshakes need no certificate, so that they are open to any peer.
var handshakeAttacks = []attack{
	{"2,000 silent connections", 1024 * bytesAConnection, silentConnections},
	{"1,000 slow handshakes", 1000 * bytesAConnection, slowHandshakes},
	{"half-open connections", 200 * bytesAConnection, halfOpen},
}

// alone has the long form run by itself: two attacks at once would be one that is twice
// as strong.
func alone(t *testing.T) {
	t.Helper()
	if !full {
		t.Parallel()
	}
}

// TestAbuse lets peers misbehave on every port in each way that is cheap for them,
// while a regular Envoy sends its checks: these are all answered, and not much later,
// the process stays up, its memory stays within the stated bound, and afterwards no
// connection and no goroutine is left.
func TestAbuse(t *testing.T) {
	alone(t)
	s := pages(t, rig.Options{Environment: limited(rig.LoginUser), Arguments: []string{"--log-decisions", "faults", "--grpc-max-connection-age", "1h"}})
	a := newAbused(t, s)
	keeping := keepPinging(t, door{addr: s.Checks})
	a.suffer("checks", door{addr: s.Checks}, sample(grpcAttacks, 3), sample(handshakeAttacks, 3))
	login, admin := door{addr: s.Login}, door{addr: strings.TrimPrefix(s.Operator, "http://")}
	if full {
		a.suffer("login", login, httpAttacks, loginAttacks)
		a.suffer("admin", admin, httpAttacks, adminAttacks)
	} else {
		a.suffer("login", login, httpAttacks[1:2])
	}
	a.end()
	keeping()
	a.servesANewcomer(grpc.WithTransportCredentials(plaintext))
	logIsJSON(t, s.Coatcheck.Output())
}

// TestAbuseOverTLS is TestAbuse for mutual TLS. What a peer does before it has shown a
// certificate is tried always, what a peer with one does in the long form.
func TestAbuseOverTLS(t *testing.T) {
	alone(t)
	k := newKeys(t)
	s := pages(t, rig.Options{
		Environment: limited(rig.LoginUser),
		Arguments: []string{
			"--log-decisions", "faults", "--grpc-max-connection-age", "1h",
			"--tls-cert-file", k.path("coatcheck.pem"), "--tls-key-file", k.path("coatcheck.key"),
			"--tls-client-ca-file", k.path("ca.pem"), "--tls-client-names", "envoy.test",
			"--login-tls-cert-file", k.path("coatcheck.pem"), "--login-tls-key-file", k.path("coatcheck.key"),
		},
		Bootstrap: func(b *bootstrapv3.Bootstrap) {
			for _, cluster := range b.GetStaticResources().GetClusters() {
				if cluster.GetName() == "coatcheck" {
					cluster.TransportSocket = k.transportSocket()
				}
			}
		},
	})
	a := newAbused(t, s)
	checks, login := door{s.Checks, true, k.dir}, door{addr: s.Login, encrypted: true}
	a.suffer("checks, TLS", door{addr: s.Checks}, sample(handshakeAttacks, 3), sample(tlsAttacks, 3))
	if full {
		a.suffer("login, TLS", door{addr: s.Login}, handshakeAttacks[:2], tlsAttacks)
		keeping := keepPinging(t, checks)
		a.suffer("checks, mutual TLS", checks, grpcAttacks)
		a.suffer("login in TLS", login, httpAttacks, loginAttacks)
		keeping()
	}
	a.end()
	a.servesANewcomer(grpc.WithTransportCredentials(encrypted(checks)))
	logIsJSON(t, s.Coatcheck.Output())
}

// limited are the variables of a container of 256 MiB: nine tenths of it, and the
// headroom. Without a limit the garbage may grow as large as the memory in use.
func limited(user string) []string {
	variables := append(rig.Credentials(user), "GOMEMLIMIT=294MiB")
	if full {
		variables = append(variables, "GOMAXPROCS=1") // see apart
	}
	return variables
}

// abused is a stack under attack, its regular clients, and what it was before.
type abused struct {
	*testing.T
	*rig.Stack
	clients *clients
	machine *clients // ask the upstream itself: how late the machine is
	idle    int      // memory
	warm    int      // in the long form: memory once the collector has run, twice of which an attack may take
	bound   int      // of memory
	quiet   time.Duration
	before  map[string]int
}

func newAbused(t *testing.T, s *rig.Stack) *abused {
	t.Helper()
	a := &abused{T: t, Stack: s, clients: newClients(t, s, 2), machine: &clients{t: t, url: "http://" + s.Upstream.Addr, cookies: []string{"a=b"}}}
	if full {
		apart(t, s.Coatcheck.Pid())
	}
	a.machine.start(1)
	time.Sleep(time.Second)
	a.clients.restart()
	time.Sleep(time.Duration(count(1, 5)) * time.Second)
	a.quiet = a.clients.restart()
	a.idle, a.before = a.memory(), a.open()
	t.Logf("quiet: %d MiB, the 99th percentile of answers %v, %v", a.idle>>20, a.quiet, a.before)
	if full {
		a.warmUp()
	}
	return a
}

// warmUp has the collector run: only then a server has taken the memory that each one takes
// that has served for some minutes.
func (a *abused) warmUp() {
	a.Helper()
	const collections = "go_gc_duration_seconds_count"
	first := a.metrics(collections)[collections] // the start has some, too
	if !a.waits(2*time.Minute, func() bool { return a.metrics(collections)[collections] >= first+2 }) {
		a.Fatal("the collector does not run")
	}
	a.warm = a.memory()
	a.Logf("warm: %d MiB", a.warm>>20)
}

// cool waits until the runtime has given back what the attack before took, or most of it, so
// that what an attack takes is its own.
func (a *abused) cool() {
	a.Helper()
	if full {
		a.waits(time.Minute, func() bool { return a.memory() <= a.warm+a.warm*3/10 })
	}
}

// waits reports whether something is done in time. It asks for metrics meanwhile, which leaves
// the collector something to do.
func (a *abused) waits(limit time.Duration, done func() bool) bool {
	a.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); a.open() {
		if done() {
			return true
		}
	}
	return false
}

func (a *abused) memory() int {
	a.Helper()
	now, _, err := a.Coatcheck.Memory()
	must(a.T, err)
	return now
}

// suffer is attacked, and holds each attack to the bounds.
func (a *abused) suffer(port string, d door, lists ...[]attack) {
	a.Helper()
	for _, attack := range slices.Concat(lists...) {
		if full && !chosen.MatchString(port+": "+attack.name) {
			continue
		}
		t, trials := a.tried(attack, d)
		a.Logf("%-18s %-42s %s; trials: %v; failed: %d", port, attack.name, a.told(t), trials, a.clients.failed.Load())
		if bound := a.most(attack); t.peak > bound {
			a.Errorf("%s, %s: %d MiB of memory, more than %d MiB", port, attack.name, t.peak>>20, bound>>20)
		}
		a.prompt(port+", "+attack.name, t)
		a.lives(port + ", " + attack.name)
		a.comesBack(port + ", " + attack.name)
	}
}

// most is the memory that the process may take in an attack.
func (a *abused) most(attack attack) int {
	if full { // twice, and what two runs differ by
		return 2*a.warm + a.warm/10
	}
	// The system gets memory back minutes later, so that the costliest attack until now
	// is the bound; a leak would pass it all the same.
	a.bound = max(a.bound, 2*a.idle+headroom+attack.costs)
	return a.bound
}

// chosen are the attacks of the long form that are tried: ONLY=messages, or ONLY='mutual TLS'.
var chosen = regexp.MustCompile(os.Getenv("ONLY"))

// A trial is an attack once: how long it took, the 99th percentiles of answers before it and
// meanwhile, those of the machine itself beside, of how many answers, and the most memory.
type trial struct {
	took, quiet, p99, machine time.Duration
	answers                   int64
	peak                      int
}

// times is what the attack made of the quiet time.
func (t trial) times() float64 { return float64(t.p99) / float64(t.quiet) }

func (t trial) String() string { return fmt.Sprintf("%v in %v, %d MiB", t.p99, t.quiet, t.peak>>20) }

// told is a trial in words.
func (a *abused) told(t trial) string {
	return fmt.Sprintf("%6s, memory at most %3d MiB (%.1f times), 99th percentile %v (%.1f times; the machine's own %v) of %d",
		t.took.Round(time.Millisecond), t.peak>>20, float64(t.peak)/float64(max(a.warm, a.idle)), t.p99, t.times(), t.machine, t.answers)
}

// tried attacks until the answers come in time, four times at most, because the machine may
// hold up some by itself, and judges the most memory. The long form judges the middle of
// three, for the memory, too, and one of an attack that takes so long by itself that a
// moment does not count.
func (a *abused) tried(attack attack, d door) (counts trial, trials []trial) {
	a.Helper()
	var peaks []int
	for range count(4, 3) {
		counts = a.attacked(attack, d)
		trials, peaks = append(trials, counts), append(peaks, counts.peak)
		if !full && counts.p99 <= counts.limit() || full && counts.took > 20*time.Second {
			break
		}
	}
	slices.Sort(peaks)
	if !full {
		counts.peak = peaks[len(peaks)-1]
		return counts, trials
	}
	sorted := slices.SortedFunc(slices.Values(trials), func(x, y trial) int { return cmp.Compare(x.times(), y.times()) })
	counts = sorted[len(sorted)/2]
	counts.peak = peaks[len(peaks)/2]
	if most := peaks[len(peaks)-1]; most > container {
		a.Errorf("%s: %d MiB of memory in a container of %d MiB", attack.name, most>>20, container>>20)
	}
	return counts, trials
}

// attacked is one trial. The long form takes the quiet time anew before it, since what else
// the machine does changes with the minutes.
func (a *abused) attacked(attack attack, d door) trial {
	a.Helper()
	a.cool()
	must(a.T, a.Coatcheck.ResetPeak())
	t := trial{quiet: a.quiet}
	a.clients.restart()
	if full {
		time.Sleep(4 * time.Second)
		t.quiet = max(a.clients.restart(), time.Millisecond)
	}
	sent := a.clients.sent.Load()
	a.machine.restart()
	begin := time.Now()
	if full {
		attack.byOthers(a.T, d)
	} else {
		attack.run(a.T, d)
	}
	t.took, t.p99, t.machine = time.Since(begin), a.clients.restart(), a.machine.restart()
	t.answers = a.clients.sent.Load() - sent
	var err error
	_, t.peak, err = a.Coatcheck.Memory()
	must(a.T, err)
	return t
}

// limit is ten times the promise, which is twice the quiet time, and in the long form twice.
// Attackers, clients and Envoy have their part of the same few processors, so that what
// the machine does to a server without Coatcheck counts as the quiet time, too.
func (t trial) limit() time.Duration {
	return time.Duration(count(10, 2)) * 2 * max(t.quiet, t.machine, 5*time.Millisecond)
}

// prompt holds the answers to that.
func (a *abused) prompt(what string, t trial) {
	a.Helper()
	if limit := t.limit(); t.p99 > limit {
		a.Errorf("%s: the 99th percentile of answers is %v, more than %v", what, t.p99, limit)
	}
}

func (a *abused) lives(what string) {
	a.Helper()
	select {
	case <-a.Coatcheck.Exited():
		a.Fatalf("%s: the process ended:\n%s", what, a.Coatcheck.Output())
	default:
	}
}

// slack is what may be left of each that is counted: connections to Redis that the
// clients of Envoy have opened in the meantime, and the scrape itself.
const slack = 40

// comesBack waits until the goroutines, the open files and the connections are as
// before.
func (a *abused) comesBack(what string) {
	a.Helper()
	var left map[string]int
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		left = a.open()
		maps.DeleteFunc(left, func(name string, n int) bool { return n <= a.before[name]+slack })
		if len(left) == 0 {
			return
		}
	}
	a.Errorf("%s: left over: %v, before: %v", what, left, a.before)
}

// open is what the process has open by its own metrics.
func (a *abused) open() map[string]int {
	a.Helper()
	return a.metrics("go_goroutines", "process_open_fds", "coatcheck_grpc_connections")
}

// metrics are some of the process.
func (a *abused) metrics(names ...string) map[string]int {
	a.Helper()
	found, metrics := make(map[string]int), "\n"+body(a.T, a.Operator+"/metrics")
	for _, name := range names {
		_, rest, _ := strings.Cut(metrics, "\n"+name+" ")
		line, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.ParseFloat(line, 64)
		if err != nil {
			a.Fatalf("no %s: %v", name, err)
		}
		found[name] = int(n)
	}
	return found
}

func (a *abused) end() {
	a.Helper()
	a.machine.stop()
	if sent := a.clients.stop(); sent < 100 {
		a.Errorf("only %d checks of the good Envoy", sent)
	}
}

// servesANewcomer: a later client is served, too.
func (a *abused) servesANewcomer(transport grpc.DialOption) {
	a.Helper()
	conn, err := grpc.NewClient(a.Checks, transport)
	must(a.T, err)
	defer conn.Close()
	if _, err := healthv1.NewHealthClient(conn).Check(a.Context(), new(healthv1.HealthCheckRequest)); err != nil {
		a.Errorf("a new connection afterwards: %v", err)
	}
}

// logIsJSON: no peer makes the log anything but lines of JSON, nor many of them.
func logIsJSON(t *testing.T, output string) {
	t.Helper()
	lines := 0
	for line := range strings.Lines(output) {
		if lines++; !strings.HasPrefix(line, `{"`) {
			t.Errorf("a line of the log is no JSON: %q", line)
		}
	}
	if lines > 2000 {
		t.Errorf("the attacks have made %d lines of the log", lines)
	}
}

// keepPinging pings as often as Envoy does at most, until the test calls the function
// that it returns: that is no abuse, and the connection must still be there.
func keepPinging(t *testing.T, d door) (stillThere func()) {
	t.Helper()
	p := newPeer(t, d)
	_ = p.SetDeadline(time.Time{})
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Second):
				_ = p.WritePing(false, [8]byte{'e', 'n', 'v', 'o', 'y'})
			}
		}
	}()
	return func() {
		t.Helper()
		close(done)
		select {
		case <-p.ended:
			t.Error("a connection that pings each 5 s was ended")
		default:
		}
	}
}
