package redisstore_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// TestHurry: callers whose time is too short for any Redis cut no other off from
// one that answers, and go on when it was away.
func TestHurry(t *testing.T) {
	server := redistest.Start(t)
	config := checking(server.Addr)
	config.BreakerFailures = 3
	registry := prometheus.NewRegistry()
	store := redisstore.New(connect(t, config), redisstore.Config{Metrics: registry})
	m, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id := logins(t, m, 1)[0]
	ctx, stop := context.WithCancel(t.Context())
	var hasty sync.WaitGroup
	defer hasty.Wait()
	defer stop()
	var late atomic.Int64
	for i := range 8 {
		hasty.Go(func() {
			for ctx.Err() == nil {
				if _, err := check(m, id, time.Duration(i)*70*time.Microsecond); errors.Is(err, context.DeadlineExceeded) {
					late.Add(1)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	begun := time.Now()
	for i := 0; i < 200 || late.Load() < 100; i++ {
		if _, err := check(m, id, enough); err != nil {
			t.Fatalf("a patient caller: %v", err)
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("only %d calls were in a hurry", late.Load())
		}
		time.Sleep(time.Millisecond)
	}
	if n := series(t, registry)["redis_breaker_opened_total"]; n != 0 {
		t.Errorf("the breaker has opened %v times", n)
	}

	server.Kill()
	since := time.Now()
	for series(t, registry)["redis_breaker_open"] != 1 {
		if _, _ = check(m, id, enough); time.Since(since) > time.Minute {
			t.Fatal("the breaker does not open")
		}
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	since = time.Now()
	for row := 0; row < 200; row++ { // in a row; go-redis may repeat a dial error for a second
		_, err := check(m, id, enough)
		if errors.Is(err, sessions.ErrNotFound) {
			continue
		}
		if row = 0; time.Since(since) > time.Minute {
			t.Fatalf("not back: %v", err)
		}
	}
	t.Logf("back for good after %v; %d calls were in a hurry", time.Since(since), late.Load())
}
