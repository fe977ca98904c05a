package redisstore_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestScanOfCluster: a scan finds the sessions of every master.
func TestScanOfCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0, nil)
	options := patient
	options.Addrs, options.IsClusterMode = []string{cluster.Masters[1].Addr}, true
	m := newManager(t, connect(t, redisstore.ClientConfig{UniversalOptions: options}), sessions.Config{MaxPerUser: -1})
	want := make(map[sessions.Key]bool)
	for _, id := range logins(t, m, 200) {
		want[id.Key()] = true
	}
	var last sessions.Progress
	for found, err := range m.Scan(t.Context(), func(p sessions.Progress) { last = p }) {
		if err != nil || found.Err != nil || found.Session.UserID != "42" || !want[found.Key] {
			t.Fatalf("%+v, %v", found, err)
		}
		delete(want, found.Key)
	}
	if len(want) > 0 || last != (sessions.Progress{Records: 200, Done: 1}) {
		t.Errorf("%d sessions were not found; in the end the progress is %+v", len(want), last)
	}
	if findings, err := m.Verify(t.Context(), logins(t, m, 1)[0].Key()); err != nil || len(findings) > 0 {
		t.Errorf("a session of our own: %v, %v", findings, err)
	}
}

// TestScanOfMovingSlots: where a slot has moved to another master meanwhile, which may have
// been scanned before its sessions came, the scan does not end as if it had found all.
func TestScanOfMovingSlots(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0, nil)
	options := patient
	options.Addrs, options.IsClusterMode = []string{cluster.Masters[1].Addr}, true
	m := newManager(t, connect(t, redisstore.ClientConfig{UniversalOptions: options}), sessions.Config{MaxPerUser: -1})
	logins(t, m, 20)
	moved := false
	var last error
	for _, err := range m.Scan(t.Context(), nil) {
		if last = err; moved {
			continue
		}
		moved = true
		cluster.Move(t, 0, 1)
	}
	if last == nil || !strings.Contains(last.Error(), "slots") {
		t.Errorf("the scan ends with %v", last)
	}
}

// TestScanOfAShrinkingTable: a key that SCAN names again, because Redis has made its
// table smaller meanwhile, comes once.
func TestScanOfAShrinkingTable(t *testing.T) {
	t.Parallel()
	client := newClient(t, redistest.Start(t, "--hz", "100").Addr)
	store := redisstore.New(client, redisstore.Config{})
	rounds := 2
	if os.Getenv("COATCHECK_FULL") != "" {
		rounds = 5
	}
	for round := range rounds {
		stay := fill(t, client, 64)
		more := fill(t, client, 20_000)
		times := make(map[sessions.Key]int)
		pages := 0
		for page, err := range store.Scan(t.Context(), []string{"v"}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, listed := range page.Records {
				times[listed.Key]++
			}
			if pages++; pages == 2+10*round {
				if err := client.Unlink(t.Context(), more...).Err(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(300 * time.Millisecond) // Redis resizes in its own time
			}
		}
		for _, key := range stay {
			if n := times[sessions.Key(key)]; n != 1 {
				t.Errorf("round %d: a session that was there all the while came %d times", round, n)
			}
		}
		client.FlushAll(t.Context())
	}
}

// fill writes records, and returns their keys.
func fill(t *testing.T, client redis.UniversalClient, n int) (keys []string) {
	t.Helper()
	for range n {
		keys = append(keys, string(sessions.NewID().Key()))
	}
	for chunk := range slices.Chunk(keys, 1000) {
		if _, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for _, key := range chunk {
				p.HSet(t.Context(), key, "v", "1")
				p.PExpire(t.Context(), key, time.Minute)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// TestScanOfAnotherServer: where Redis was started anew, a cursor of the former process
// says nothing, so the scan ends with an error.
func TestScanOfAnotherServer(t *testing.T) {
	t.Parallel()
	client := newClient(t, redistest.Start(t).Addr)
	fill(t, client, 2000)
	store := redisstore.New(client, redisstore.Config{})
	pages := 0
	var last error
	for _, err := range store.Scan(t.Context(), []string{"v"}) {
		if last = err; pages == 1 {
			client.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes")
		}
		pages++
	}
	if last == nil {
		t.Errorf("a scan of %d pages lost its connection and ended without an error", pages)
	}
	for _, err := range store.Scan(t.Context(), []string{"v"}) {
		if err != nil {
			t.Errorf("the next scan: %v", err)
		}
	}
}

// TestScanRights: the error names the right that is missing.
func TestScanRights(t *testing.T) {
	rig := newACLRig(t, false)
	m, err := sessions.NewManager(rig.as(aclRules(t, loginUser)), sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range m.Scan(t.Context(), nil) {
		if err == nil || !strings.Contains(err.Error(), "+scan") {
			t.Errorf("%v, want +scan", err)
		}
	}
	if _, err := m.Resolve(t.Context(), "abc", ""); err == nil || !strings.Contains(err.Error(), "+scan") {
		t.Errorf("%v, want +scan", err)
	}
}

// TestUserIDs: by the names of live sessions, in any letter case.
func TestUserIDs(t *testing.T) {
	m := newManager(t, newClient(t, redistest.Start(t).Addr), sessions.Config{})
	for _, s := range []sessions.NewSession{{UserID: "42", Username: "ada"}, {UserID: "42", Username: "ada"}, {UserID: "7", Username: "Ada"}, {UserID: "43", Username: "grace"}, {UserID: "44", Username: "grace"}} {
		if _, _, err := m.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"ada": "42 7", "ADA": "42 7", "ad": "", "grace": "43 44", "unknown": "", "": ""} {
		if got, err := m.UserIDs(t.Context(), name, nil); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %v; want %s", name, got, err, want)
		}
	}
}

// TestScanBesideChecks: a scan of many sessions takes memory that does not grow with
// their number, and slows the checks beside it by a tenth at most. The long form has a
// million of them, and is the one that can measure a tenth.
func TestScanBesideChecks(t *testing.T) {
	n, rounds := 10_000, 5
	if os.Getenv("COATCHECK_FULL") != "" {
		n, rounds = 1_000_000, 300
	}
	server := redistest.Start(t)
	ids := populate(t, server.Addr, n)
	m := newManager(t, newClient(t, server.Addr), sessions.Config{})
	start, found, pages := time.Now(), 0, 0
	before := heap()
	highest := before
	for f, err := range m.Scan(t.Context(), func(sessions.Progress) {
		if pages++; pages%max(20, n/2000) == 0 {
			highest = max(highest, heap())
		}
	}) {
		if err != nil || f.Err != nil {
			t.Fatal(err, f.Err)
		}
		found++
	}
	took := time.Since(start)
	if found != n {
		t.Errorf("found %d of %d sessions", found, n)
	}
	if grown := int64(highest) - int64(before); grown > 32<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	ratio := slowdown(t, server.Addr, m, ids, rounds)
	t.Logf("%d sessions in %v; heap %d KiB more; checks beside it took %.3f times as long (median of %d rounds)",
		n, took.Round(time.Millisecond), (int64(highest)-int64(before))>>10, ratio, rounds)
	// The short form is too short for a fair measure on a busy machine.
	if limit := 1.1; ratio > limit && (n >= 1_000_000 || ratio > 10*limit) {
		t.Errorf("checks took %.3f times as long beside a scan, want %.1f at most", ratio, limit)
	}
}

// heap is what is in use behind a collection.
func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapInuse
}

// slowdown is the median of the ratios of the time of a check with a scan beside it to
// the time without. They are measured in turns, so short that the machine is the same for
// both. The scan is another process, as an operator's is, that sleeps meanwhile.
func slowdown(t *testing.T, addr string, m *sessions.Manager, ids []sessions.ID, rounds int) float64 {
	t.Helper()
	scanner := exec.Command(os.Args[0], "-test.run", "^TestScanForOthers$")
	scanner.Env = append(os.Environ(), scanAddr+"="+addr)
	if err := scanner.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = scanner.Process.Kill(); _ = scanner.Wait() }()
	time.Sleep(500 * time.Millisecond) // it starts
	ratios := make([]float64, rounds)
	var with, without time.Duration
	for i := range ratios {
		signal(t, scanner, syscall.SIGSTOP)
		alone := meanOfChecks(t, m, ids)
		signal(t, scanner, syscall.SIGCONT)
		beside := meanOfChecks(t, m, ids)
		ratios[i] = float64(beside) / float64(alone)
		with, without = with+beside, without+alone
	}
	slices.Sort(ratios)
	t.Logf("a check: %v, beside a scan %v (means)", without/time.Duration(rounds), with/time.Duration(rounds))
	return (ratios[(rounds-1)/2] + ratios[rounds/2]) / 2
}

func signal(t *testing.T, cmd *exec.Cmd, s os.Signal) {
	t.Helper()
	if err := cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// meanOfChecks checks for a tenth of a second. A mean knows the slow ones, too.
func meanOfChecks(t *testing.T, m *sessions.Manager, ids []sessions.ID) time.Duration {
	t.Helper()
	start, n := time.Now(), 0
	for ; time.Since(start) < 100*time.Millisecond; n++ {
		if _, err := check(m, ids[n%len(ids)], enough); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(start) / time.Duration(n)
}

// scanAddr is the variable that tells TestScanForOthers which Redis to scan.
const scanAddr = "COATCHECK_TEST_SCAN"

// TestScanForOthers scans, in a process of its own, until TestScanBesideChecks ends it.
func TestScanForOthers(t *testing.T) {
	addr := os.Getenv(scanAddr)
	if addr == "" {
		return
	}
	for m := newManager(t, newClient(t, addr), sessions.Config{}); ; {
		for _, err := range m.Scan(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// populate writes sessions, 50 a user, with their listings, as fast as Redis
// reads, and returns the IDs of some.
func populate(t *testing.T, addr string, n int) (ids []sessions.ID) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w, replies := bufio.NewWriterSize(conn, 1<<20), bufio.NewReaderSize(conn, 1<<20)
	end := time.Now().Add(11 * time.Hour)
	idle, day := end.Add(-10*time.Hour-31*time.Minute).UnixMilli(), end.Add(24*time.Hour).UnixMilli()
	read := make(chan error, 1)
	go func() {
		for range 4*n + 1 {
			if line, err := replies.ReadString('\n'); err != nil || line[0] == '-' {
				read <- errors.Join(fmt.Errorf("a reply is %q", line), err)
				return
			}
		}
		read <- nil
	}()
	send(w, "AUTH", redistest.Password)
	for i := range n {
		id := newKey(i, &ids)
		user := fmt.Sprint("user-", i%max(1, n/50))
		send(w, "ZADD", "user-sessions:"+user, fmt.Sprint(end.UnixMilli()), id.Hash())
		send(w, "PEXPIREAT", "user-sessions:"+user, fmt.Sprint(day))
		send(w, "HSET", string(id), "v", "1", "user_id", user, "username", "name of "+user, "roles", `["staff"]`, "created_at", end.Add(-12*time.Hour).UTC().Format(time.RFC3339),
			"expires_at", end.UTC().Format(time.RFC3339), "address", "192.0.2.1", "user_agent", "Mozilla/5.0 (X11; Linux x86_64; rv:148.0) Gecko/20100101 Firefox/148.0")
		send(w, "PEXPIREAT", string(id), fmt.Sprint(idle))
	}
	if err := errors.Join(w.Flush(), <-read); err != nil {
		t.Fatal(err)
	}
	return ids
}

// newKey makes the key of one more session, and keeps the ID of one in a hundred.
func newKey(i int, ids *[]sessions.ID) sessions.Key {
	id := sessions.NewID()
	if i%100 == 0 {
		*ids = append(*ids, id)
	}
	return id.Key()
}

func send(w *bufio.Writer, words ...string) {
	fmt.Fprintf(w, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(w, "$%d\r\n%s\r\n", len(word), word)
	}
}
