package redisstore_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// processTime is the CPU time that a process has used, by its clock in /proc.
func processTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	var all int64
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
		if err == nil {
			ns, _ := strconv.ParseInt(strings.Fields(string(stat))[0], 10, 64)
			all += ns
		}
	}
	return time.Duration(all)
}

// BenchmarkLanes tells, beside the time of a touch, what CPU time it costs here and in
// Redis, by lanes and by go-redis, with so many touches in flight.
func BenchmarkLanes(b *testing.B) {
	server := redistest.Start(b)
	lanes, err := redisstore.NewClient(checking(server.Addr))
	if err != nil {
		b.Fatal(err)
	}
	defer lanes.Close()
	for _, inFlight := range []int{1, 8, 64} {
		for _, way := range []string{"lane", "go-redis"} {
			b.Run(fmt.Sprintf("%s/%d", way, inFlight), func(b *testing.B) {
				store := redisstore.New(lanes, redisstore.Config{})
				if way == "go-redis" {
					store = redisstore.New(lanes.UniversalClient, redisstore.Config{})
				}
				m, err := sessions.NewManager(store, sessions.Config{MaxPerUser: -1})
				if err != nil {
					b.Fatal(err)
				}
				touchAll(b, m, server.Pid(), inFlight)
			})
		}
	}
}

func touchAll(b *testing.B, m *sessions.Manager, pid, inFlight int) {
	ids := make([]sessions.ID, 200)
	for i := range ids {
		ids[i], _, _ = m.Create(b.Context(), sessions.NewSession{UserID: strconv.Itoa(i), Username: "anna", Roles: []string{"staff", "admin"}})
		_, _ = m.Touch(b.Context(), ids[i])
	}
	time.Sleep(50 * time.Millisecond)
	b.ReportAllocs()
	b.ResetTimer()
	redis, here := processTime(b, pid), processTime(b, os.Getpid())
	var next atomic.Int64
	var wg sync.WaitGroup
	for range inFlight {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if _, err := m.Touch(b.Context(), ids[i%int64(len(ids))]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((processTime(b, pid)-redis).Nanoseconds())/float64(b.N), "redis-ns/op")
	b.ReportMetric(float64((processTime(b, os.Getpid())-here).Nanoseconds())/float64(b.N), "cpu-ns/op")
}
