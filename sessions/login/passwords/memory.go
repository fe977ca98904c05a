package passwords

import (
	"context"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// A hashMemory bounds the bytes that hashes take, those included that are no
// longer used and that the garbage collector has not come by yet: without these,
// a second set of hashes would stand beside the first. It is safe for concurrent
// use.
type hashMemory struct {
	limit   int64
	free    *semaphore.Weighted // first come, first served
	unused  atomic.Int64        // bytes to be collected, which count as taken
	waiting atomic.Int32
}

func newHashMemory(limit int64) *hashMemory {
	return &hashMemory{limit: limit, free: semaphore.NewWeighted(limit)}
}

// fits reports whether a hash of this kind can ever be computed.
func (m *hashMemory) fits(k Kind) bool { return k.Bytes() <= m.limit }

// use computes within the bound. It waits for memory until ctx is done.
func (m *hashMemory) use(ctx context.Context, bytes int64, compute func()) error {
	if err := m.take(ctx, bytes); err != nil {
		return err
	}
	defer m.leave(bytes)
	compute()
	return nil
}

func (m *hashMemory) take(ctx context.Context, bytes int64) error {
	if m.free.TryAcquire(bytes) {
		return nil
	}
	m.waiting.Add(1)
	defer m.waiting.Add(-1)
	m.collect()
	return m.free.Acquire(ctx, bytes)
}

// leave hands bytes over to the collector, at once where a hash waits for them.
func (m *hashMemory) leave(bytes int64) {
	m.unused.Add(bytes)
	if m.waiting.Load() > 0 {
		m.collect()
	}
}

// collect frees what is unused. The heap is small and holds few pointers, so a
// collection takes about a millisecond, a hash twenty and more.
func (m *hashMemory) collect() {
	if bytes := m.unused.Swap(0); bytes > 0 {
		runtime.GC()
		m.free.Release(bytes)
	}
}
