package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2" //nolint:depguard // the same steps in each run
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// onLanes is a store on a client of a patient kind, which touches until all its lanes to
// the keys are there.
func onLanes(t testing.TB, config ClientConfig, keys ...sessions.Key) (*Store, *Client) {
	t.Helper()
	config.Password = redistest.Password
	config.ReadTimeout, config.PoolTimeout, config.DialTimeout = 10*time.Second, 10*time.Second, 10*time.Second
	client, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	store := New(client, Config{})
	untilLanes(t, store, keys...)
	return store, client
}

func untilLanes(t testing.TB, store *Store, keys ...sessions.Key) {
	t.Helper()
	since := time.Now()
	for _, key := range keys {
		for store.roads.to(t.Context(), key).lane.Load() == nil {
			_, _, _ = store.Touch(t.Context(), key, time.UnixMilli(1), []string{"v"})
			if time.Since(since) > time.Minute {
				t.Fatal("no lane")
			}
		}
	}
}

// someKeys are keys, many enough for every node of a Cluster.
func someKeys(n int) []sessions.Key {
	keys := make([]sessions.Key, n)
	for i := range keys {
		keys[i] = sessions.NewID().Key()
	}
	return keys
}

// TestLaneIsLikeGoRedis does the same to pairs of records, touches the ones by a lane and
// the others by go-redis, and compares what that says and what it leaves in Redis.
func TestLaneIsLikeGoRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	pairs := make([][2]sessions.Key, 12)
	for i := range pairs {
		pairs[i] = [2]sessions.Key(someKeys(2))
	}
	lanes, client := onLanes(t, At(server.Addr), pairs[0][0])
	plain := New(client.UniversalClient, Config{})
	redis := server.Client()
	defer redis.Close()
	base := time.Now().Add(time.Hour)
	random := rand.New(rand.NewPCG(1, 2))
	names := []string{"v", "user_id", "cart"}
	steps := 1000
	if os.Getenv("COATCHECK_FULL") != "" {
		steps = 3000
	}
	for range steps {
		pair := pairs[random.IntN(len(pairs))]
		step := random.IntN(12)
		until := base.Add(time.Duration(random.IntN(3)) * time.Minute)
		value := fmt.Sprint(random.IntN(5), "\r\n\xff")
		for _, key := range pair {
			key := string(key)
			switch step {
			case 0:
				redis.Del(t.Context(), key)
			case 1:
				redis.Del(t.Context(), key)
				redis.HSet(t.Context(), key, "v", "1", "user_id", value)
				redis.PExpireAt(t.Context(), key, base.Add(-time.Minute))
			case 2:
				redis.HSet(t.Context(), key, "cart", value)
			case 3:
				redis.Persist(t.Context(), key)
			case 4:
				redis.PExpireAt(t.Context(), key, base.Add(-30*time.Minute))
			case 5:
				redis.PExpireAt(t.Context(), key, base.Add(3*time.Hour))
			case 6:
				redis.Del(t.Context(), key)
				redis.Set(t.Context(), key, value, 0)
				redis.PExpireAt(t.Context(), key, base.Add(-time.Minute))
			}
		}
		began := time.Now()
		got, left, err := lanes.Touch(t.Context(), pair[0], until, names)
		want, wantLeft, wantErr := plain.Touch(t.Context(), pair[1], until, names)
		if !maps.Equal(got, want) || !same(err, wantErr, sessions.ErrNotFound, sessions.ErrBroken) {
			t.Fatalf("step %d: %q %v, want %q %v", step, got, err, want, wantErr)
		}
		// The answer in which a lane sees that another program has shortened the end shows
		// that end.
		if off := left - wantLeft; off.Abs() > time.Second+time.Since(began) && step != 1 && step != 4 && step != 6 {
			t.Fatalf("step %d: %v left, want %v", step, left, wantLeft)
		}
		if ends, want := redis.PExpireTime(t.Context(), string(pair[0])), redis.PExpireTime(t.Context(), string(pair[1])); ends.Val() != want.Val() {
			untilEnd(t, redis, pair[0], want.Val())
		}
	}
	if lanes.roads.only.lane.Load() == nil {
		t.Error("the lane was lost")
	}
}

// untilEnd waits until a record has an end, which a lane slides behind its answer.
func untilEnd(t *testing.T, redis *redis.Client, key sessions.Key, end time.Duration) {
	t.Helper()
	since := time.Now()
	for redis.PExpireTime(t.Context(), string(key)).Val() != end {
		if time.Since(since) > time.Minute {
			t.Fatalf("it ends at %v, want %v", redis.PExpireTime(t.Context(), string(key)).Val(), end)
		}
		time.Sleep(time.Millisecond)
	}
}

// same reports whether two errors are the same of some, or both none.
func same(a, b error, some ...error) bool {
	for _, err := range some {
		if errors.Is(a, err) != errors.Is(b, err) {
			return false
		}
	}
	return (a == nil) == (b == nil)
}

// TestAllocations bounds what a check of a live session allocates, from the ID to the
// session, the way to Redis included.
func TestAllocations(t *testing.T) {
	server := redistest.Start(t)
	id := sessions.NewID()
	store, _ := onLanes(t, At(server.Addr), id.Key())
	m, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id, _, err = m.Create(t.Context(), sessions.NewSession{UserID: "42", Username: "anna", Roles: []string{"staff", "admin"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	allocs := testing.AllocsPerRun(500, func() {
		if _, err := m.Touch(ctx, id); err != nil {
			t.Error(err)
		}
	})
	if t.Logf("%v allocations", allocs); allocs > 6 && !raceEnabled { // with it, pools forget
		t.Errorf("%v allocations, want 6 at most", allocs)
	}
}

// TestRevokedIsGone: a check that begins when a revocation has returned does not find the
// session, whatever is under way.
func TestRevokedIsGone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	keys := someKeys(50)
	store, _ := onLanes(t, At(server.Addr), keys[0])
	until := time.Now().Add(time.Hour)
	redis := server.Client()
	defer redis.Close()
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	for w := range 16 {
		load.Go(func() {
			for i := w; ctx.Err() == nil; i++ {
				_, _, _ = store.Touch(ctx, keys[i%len(keys)], until, []string{"v"})
			}
		})
	}
	rounds := 6
	if os.Getenv("COATCHECK_FULL") != "" {
		rounds = 20
	}
	for range rounds {
		for _, key := range keys {
			redis.HSet(t.Context(), string(key), "v", "1")
			redis.PExpireAt(t.Context(), string(key), until)
			if _, _, err := store.Touch(t.Context(), key, until, []string{"v"}); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Delete(t.Context(), "42", key); err != nil {
				t.Fatal(err)
			}
			if _, _, err := store.Touch(t.Context(), key, until, []string{"v"}); !errors.Is(err, sessions.ErrNotFound) {
				t.Fatalf("a revoked session: %v", err)
			}
		}
	}
}

// TestLaneIsReplaced: when its connection is killed or its time is over, no check fails,
// and another one is opened.
func TestLaneIsReplaced(t *testing.T) {
	server := redistest.Start(t)
	config := At(server.Addr)
	config.ConnMaxLifetime, config.ConnMaxLifetimeJitter = 200*time.Millisecond, time.Millisecond
	key := someKeys(1)[0]
	store, _ := onLanes(t, config, key)
	redis := server.Client()
	defer redis.Close()
	seen := map[any]bool{}
	since := time.Now()
	for i := 0; i < 400 || len(seen) < 5; i++ {
		if time.Since(since) > time.Minute {
			t.Fatalf("%d lanes in a minute", len(seen))
		}
		if _, _, err := store.Touch(t.Context(), key, time.UnixMilli(1), []string{"v"}); !errors.Is(err, sessions.ErrNotFound) {
			t.Fatal(err)
		}
		seen[store.roads.only.lane.Load()] = true
		if i%100 == 50 {
			redis.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
		}
		time.Sleep(3 * time.Millisecond)
	}
}

// TestReplacementThatFails: while no connection can be opened in the place of an old one,
// as when the password is another one now, the old one serves, and tries keep their pause.
func TestReplacementThatFails(t *testing.T) {
	server := redistest.Start(t)
	key := someKeys(1)[0]
	store, _ := onLanes(t, At(server.Addr), key)
	road := store.roads.only
	for road.opening.Load() {
		time.Sleep(time.Millisecond)
	}
	var tries atomic.Int32
	works := road.connect
	road.connect = func() *redis.Client {
		tries.Add(1)
		options := *works().Options()
		options.Password = "another"
		return redis.NewClient(&options)
	}
	first := road.lane.Load()
	road.expires.Store(1)
	start := time.Now()
	for time.Since(start) < 3*roadPause || tries.Load() == 0 && time.Since(start) < 20*time.Second {
		if _, _, err := store.Touch(t.Context(), key, time.UnixMilli(1), []string{"v"}); !errors.Is(err, sessions.ErrNotFound) {
			t.Fatal(err)
		}
	}
	most := int32(time.Since(start)/roadPause) + 1
	if n := tries.Load(); n == 0 || n > most {
		t.Errorf("%d tries to connect, want %d at most", n, most)
	}
	if road.lane.Load() != first || !first.Open() {
		t.Error("the old connection no longer serves")
	}
}

// A silentHook sees every command, and changes nothing.
type silentHook struct{ seen func() }

func (silentHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (silentHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h silentHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { h.seen(); return next(ctx, cmds) }
}

// TestHooksSeeTouches: with a hook of a program's own there are no lanes.
func TestHooksSeeTouches(t *testing.T) {
	server := redistest.Start(t)
	key := someKeys(1)[0]
	store, client := onLanes(t, At(server.Addr), key)
	n := 0
	client.AddHook(silentHook{func() { n++ }})
	for range 3 {
		_, _, _ = store.Touch(t.Context(), key, time.UnixMilli(1), []string{"v"})
	}
	if n != 3 {
		t.Errorf("the hook has seen %d touches, want 3", n)
	}
}

// TestLanesOfACluster: one for each master, and after a slot has moved its sessions are
// found where they are.
func TestLanesOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, 0, nil)
	keys := someKeys(40)
	store, client := onLanes(t, At(cluster.Addrs()...), keys...)
	if n := len(store.roads.all()); n != 3 {
		t.Errorf("%d roads, want 3", n)
	}
	until := time.Now().Add(time.Hour)
	slotOf := func(key sessions.Key) int { return int(client.ClusterKeySlot(t.Context(), string(key)).Val()) }
	taken := make(map[int]bool)
	for _, key := range keys {
		if err := client.HSet(t.Context(), string(key), "v", string(key)).Err(); err != nil {
			t.Fatal(err)
		}
		client.PExpireAt(t.Context(), string(key), until)
		taken[slotOf(key)] = true
	}
	plain := New(client.UniversalClient, Config{})
	for _, key := range keys {
		record, _, err := store.Touch(t.Context(), key, until, []string{"v"})
		want, _, wantErr := plain.Touch(t.Context(), key, until, []string{"v"})
		if err != nil || wantErr != nil || !maps.Equal(record, want) || record["v"] != string(key) {
			t.Errorf("%v %v, want %v %v", record, err, want, wantErr)
		}
	}
	// A slot without keys moves, and the map of the client is old.
	moved := someKeys(1)[0]
	for taken[slotOf(moved)] {
		moved = someKeys(1)[0]
	}
	from := store.roads.to(t.Context(), moved)
	slot := slotOf(moved)
	cluster.Move(t, slot, (cluster.Owner(slot)+1)%3)
	if err := client.HSet(t.Context(), string(moved), "v", "1").Err(); err != nil {
		t.Fatal(err)
	}
	client.PExpireAt(t.Context(), string(moved), until)
	if record, _, err := store.Touch(t.Context(), moved, until, []string{"v"}); err != nil || record["v"] != "1" {
		t.Errorf("a session in a slot that has moved: %v, %v", record, err)
	}
	if from.lane.Load() == nil {
		t.Error("the lane of the former node was lost")
	}
}

// TestNodeLeavesWhileConnecting: a node that has left a Cluster while a connection to it was
// being made holds up no touch of the others.
func TestNodeLeavesWhileConnecting(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	config := At(mute.Addr().String())
	config.ReadTimeout = 5 * time.Second
	client, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	node := client.UniversalClient.(*redis.Client)
	left := newRoad(simple(node))
	left.open()
	greeting, err := mute.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer greeting.Close()
	var gone weak.Pointer[redis.Client] // to no client
	r := &roads{nodes: map[weak.Pointer[redis.Client]]*road{gone: left}}
	start := time.Now()
	if r.add(weak.Make(node), node) == nil || len(r.all()) != 1 {
		t.Errorf("%d roads, want that to the new node", len(r.all()))
	}
	if took := time.Since(start); took > 300*time.Millisecond {
		t.Errorf("it took %v", took)
	}
	r.close()
	if left.opening.Load() {
		t.Error("a connection is being made behind the end")
	}
}

// TestLanesBehindSentinels: the lane leaves a master that Sentinels have replaced, also if
// that lives on and still takes itself for one.
func TestLanesBehindSentinels(t *testing.T) {
	t.Parallel()
	set := redistest.StartSentinels(t, 1, nil)
	config := At(set.Addrs...)
	config.MasterName, config.SentinelPassword = redistest.MasterName, redistest.Password
	key := someKeys(1)[0]
	store, _ := onLanes(t, config, key)
	first := store.roads.only.lane.Load()
	if err := set.Master.Pause(); err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	for first.Open() {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		_, _, _ = store.Touch(ctx, key, time.UnixMilli(1), []string{"v"})
		cancel()
		if time.Since(since) > time.Minute {
			t.Fatal("the lane to the former master is open")
		}
	}
	defer func() { _ = set.Master.Resume() }()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, _, err := store.Touch(ctx, key, time.UnixMilli(1), []string{"v"})
		cancel()
		if errors.Is(err, sessions.ErrNotFound) {
			break
		}
		if time.Since(since) > time.Minute {
			t.Fatalf("not served by the other one: %v", err)
		}
	}
	untilLanes(t, store, key)
}
