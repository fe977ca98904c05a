package redisstore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// series are the values of a registry's counters and gauges, and the counts of
// its histograms, by name and label.
func series(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.Metric {
			name := strings.TrimPrefix(family.GetName(), "coatcheck_")
			for _, label := range metric.Label {
				name += " " + label.GetValue()
			}
			values[name] = metric.Counter.GetValue() + metric.Gauge.GetValue() + float64(metric.Histogram.GetSampleCount())
		}
	}
	return values
}

// TestMetrics: every series is there before anything has happened, and none is
// added by what does; each counts what its name says.
func TestMetrics(t *testing.T) {
	server := redistest.Start(t)
	config := checking(server.Addr)
	config.BreakerFailures = 2
	registry, other := prometheus.NewRegistry(), prometheus.NewRegistry()
	client := connect(t, config)
	store := redisstore.New(client, redisstore.Config{Metrics: registry})
	redisstore.New(connect(t, config), redisstore.Config{Metrics: other}) // two in one process
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	before := series(t, registry)
	m, err := sessions.NewManager(store, sessions.Config{})
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := m.Create(t.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		t.Fatal(err)
	}
	_, touched := m.Touch(t.Context(), id)
	_, missed := m.Touch(t.Context(), sessions.NewID())
	added := m.Add(t.Context(), id.Key(), map[string]string{"a": "1"})
	again := m.Add(t.Context(), id.Key(), map[string]string{"a": "1"})
	_, _, listed := m.List(t.Context(), "42")
	_, resolved := m.Resolve(t.Context(), id.Key().Handle(), "")
	expired := store.Expire(t.Context(), sessions.NewID().Key(), time.Now())
	revoked := m.Revoke(t.Context(), id.Key())
	err = errors.Join(touched, unless(missed, sessions.ErrNotFound), added, unless(again, sessions.ErrFieldExists), listed, resolved, expired, revoked, m.SyncClock(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	after := series(t, registry)
	for name, want := range map[string]float64{
		"redis_duration_seconds create": 1, "redis_duration_seconds touch": 2, "redis_duration_seconds add": 2, "redis_duration_seconds list": 1,
		"redis_duration_seconds find": 1, "redis_duration_seconds expire": 1, "redis_duration_seconds delete": 1,
		"redis_duration_seconds time": 2, // the first Create asks, and SyncClock
		"sessions_created_total":      1, "sessions_revoked_total": 1, "redis_errors_total touch": 0, "redis_errors_total add": 0,
		"redis_breaker_open": 0, "redis_breaker_opened_total": 0, "redis_connections used": 0, "redis_pool_timeouts_total": 0,
	} {
		if got, ok := after[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if after["redis_connections idle"] == 0 {
		t.Error("no connection is counted")
	}

	server.Kill()
	for range 5 {
		_, _ = m.Touch(t.Context(), id)
	}
	down := series(t, registry)
	if down["redis_errors_total touch"] != 5 || down["redis_breaker_open"] != 1 || down["redis_breaker_opened_total"] != 1 {
		t.Errorf("without Redis: %v", down)
	}
	if names(before) != names(after) || names(after) != names(down) {
		t.Errorf("series came or went:\n%s\n%s\n%s", names(before), names(after), names(down))
	}
	if idle := series(t, other); idle["redis_duration_seconds touch"] != 0 {
		t.Error("the other store counts, too")
	}
}

func names(values map[string]float64) string {
	var all []string
	for name := range values {
		all = append(all, name)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// TestPoolTimeoutsAreCounted, and the connections in use, while Redis is paused.
func TestPoolTimeoutsAreCounted(t *testing.T) {
	server := redistest.Start(t)
	config := checking(server.Addr)
	config.PoolSize, config.PoolTimeout, config.ReadTimeout, config.BreakerFailures = 1, 10*time.Millisecond, 10*time.Second, 0
	registry := prometheus.NewRegistry()
	client := connect(t, config)
	store := redisstore.New(client, redisstore.Config{Metrics: registry})
	if _, err := store.Now(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { _, err := store.Now(t.Context()); done <- err }()
	for series(t, registry)["redis_connections used"] != 1 {
		time.Sleep(time.Millisecond)
	}
	if _, err := store.Now(t.Context()); !errors.Is(err, redis.ErrPoolTimeout) {
		t.Errorf("error is %v, want %v", err, redis.ErrPoolTimeout)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := series(t, registry)["redis_pool_timeouts_total"]; n == 0 {
		t.Error("no timeout is counted")
	}
}

// TestMetricsOfForeignClients: those of go-redis itself will do.
func TestMetricsOfForeignClients(t *testing.T) {
	server := redistest.Start(t)
	single := server.Client()
	defer single.Close()
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{server.Addr}, Password: redistest.Password})
	defer cluster.Close()
	for _, client := range []redis.UniversalClient{single, cluster} {
		registry := prometheus.NewRegistry()
		_, _ = redisstore.New(client, redisstore.Config{Metrics: registry}).Now(t.Context())
		if _, ok := series(t, registry)["redis_connections idle"]; !ok {
			t.Errorf("%s: connections are not counted", fmt.Sprintf("%T", client))
		}
	}
}

func BenchmarkTouch(b *testing.B) {
	client := newClient(b, redistest.Start(b).Addr)
	m := newManager(b, client, sessions.Config{})
	id, _, err := m.Create(b.Context(), sessions.NewSession{UserID: "42"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Touch(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}
