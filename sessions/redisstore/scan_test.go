package redisstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
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

// TestScanOfAShrinkingTable: a key that SCAN names again, because Redis has made its
// table smaller meanwhile, comes once.
func TestScanOfAShrinkingTable(t *testing.T) {
	t.Parallel()
	client := newClient(t, redistest.Start(t, "--hz", "100").Addr)
	store := redisstore.New(client, redisstore.Config{})
	for round := range 5 {
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
// million of them.
func TestScanBesideChecks(t *testing.T) {
	n, rounds, each := 10_000, 3, 200*time.Millisecond
	if os.Getenv("COATCHECK_FULL") != "" {
		n, rounds, each = 1_000_000, 24, time.Second
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
	ratio := slowdown(t, m, ids, rounds, each)
	t.Logf("%d sessions in %v; heap %d KiB more; checks beside it took %.3f times as long (median of %d rounds)",
		n, took.Round(time.Millisecond), (int64(highest)-int64(before))>>10, ratio, rounds)
	// The short form is too short for a fair measure on a busy machine.
	if limit := 1.1; ratio > limit && (n >= 1_000_000 || ratio > 2) {
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
// the time without, measured in turns.
func slowdown(t *testing.T, m *sessions.Manager, ids []sessions.ID, rounds int, each time.Duration) float64 {
	t.Helper()
	measure := func() time.Duration {
		took := make([]time.Duration, 0, 4000)
		for end := time.Now().Add(each); time.Now().Before(end); {
			d, err := check(m, ids[len(took)%len(ids)], enough)
			if err != nil {
				t.Fatal(err)
			}
			took = append(took, d)
		}
		sum := time.Duration(0)
		for _, d := range took {
			sum += d
		}
		return sum / time.Duration(len(took)) // the mean, which also knows the slow ones
	}
	ratios := make([]float64, rounds)
	for i := range ratios {
		without := measure()
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				for _, err := range m.Scan(ctx, nil) {
					if err != nil && !errors.Is(err, context.Canceled) {
						t.Error(err)
						return
					}
				}
			}
		}()
		with := measure()
		stop()
		<-done
		ratios[i] = float64(with) / float64(without)
		t.Logf("a check: %v, beside a scan %v", without, with)
	}
	slices.Sort(ratios)
	return (ratios[(rounds-1)/2] + ratios[rounds/2]) / 2
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
				read <- fmt.Errorf("%q, %v", line, err)
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
