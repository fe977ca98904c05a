package redisstore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions"
)

const (
	// scanPage is how many keys Redis looks at in one step of a Scan. Redis answers one
	// client after the other: while it looks at these keys, checks wait. scanPageAll is
	// the same where records are read with all their fields, which may be long.
	scanPage    = 200
	scanPageAll = 20
	// scanRead is how many records are read in one round trip, for the same reason.
	scanRead = 50
	// scanRest is for how many times as long as a step took the next one waits, so that
	// a Scan keeps Redis busy for a quarter of the time at most.
	scanRest = 3
)

var _ sessions.Scanner = (*Store)(nil)

// Scan implements [sessions.Scanner]. It goes through the masters of a Cluster one
// after the other, each by one connection: a cursor of SCAN has a meaning for one process
// of Redis alone, so that a scan ends with an error where Redis was started anew or a
// replica took its place. So it does where slots have moved to another master, which may
// have been scanned before. The records of a slot whose move is not over may be missing.
// It needs the right to SCAN.
func (s *Store) Scan(ctx context.Context, names []string) iter.Seq2[sessions.Page, error] {
	return func(yield func(sessions.Page, error) bool) {
		before, err := s.owners(ctx)
		if err != nil {
			yield(sessions.Page{}, err)
			return
		}
		masters, err := s.masters(ctx)
		if err != nil {
			yield(sessions.Page{}, err)
			return
		}
		known := newSeen()
		for i, master := range masters {
			for page, err := range s.scanNode(ctx, master, names, known) {
				page.Done = (float64(i) + page.Done) / float64(len(masters))
				if !yield(page, err) || err != nil {
					return
				}
			}
		}
		after, err := s.owners(ctx)
		if err == nil && !slices.Equal(before, after) {
			err = errMoved
		}
		if err != nil {
			yield(sessions.Page{}, err)
		}
	}
}

var errMoved = errors.New("slots of the Cluster have moved meanwhile, so sessions may be missing; run it again")

// clusterSlots is how many slots a Cluster has.
const clusterSlots = 1 << 14

// owners are the IDs of the masters by slot, nil where there is no Cluster.
func (s *Store) owners(ctx context.Context) ([]string, error) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return nil, nil
	}
	ranges, err := cluster.ClusterSlots(ctx).Result() //nolint:staticcheck // the right that clients need anyway is cluster|slots
	if err != nil {
		return nil, err
	}
	owners := make([]string, clusterSlots)
	for _, r := range ranges {
		for slot := max(0, r.Start); slot <= r.End && slot < clusterSlots && len(r.Nodes) > 0; slot++ {
			owners[slot] = r.Nodes[0].ID
		}
	}
	return owners, nil
}

// masters are the nodes to scan.
func (s *Store) masters(ctx context.Context) ([]redis.Cmdable, error) {
	return mastersOf(ctx, s.client)
}

// mastersOf are all masters. A client that is neither a server's nor a Cluster's is taken
// for a server's.
func mastersOf(ctx context.Context, client redis.UniversalClient) (masters []redis.Cmdable, err error) {
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		return []redis.Cmdable{client}, nil
	}
	var mu sync.Mutex
	err = cluster.ForEachMaster(ctx, func(_ context.Context, master *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, master)
		return nil
	})
	return masters, err
}

// scanNode goes through the keys of one node.
func (s *Store) scanNode(ctx context.Context, node redis.Cmdable, names []string, known *seen) iter.Seq2[sessions.Page, error] {
	return func(yield func(sessions.Page, error) bool) {
		if client, ok := node.(*redis.Client); ok {
			conn := client.Conn()
			defer func() { _ = conn.Close() }()
			node = conn
		}
		done := 0.0
		for cursor := uint64(0); ; {
			start := time.Now()
			page, next, err := s.scanStep(ctx, node, cursor, names, known)
			if err != nil {
				yield(page, err)
				return
			}
			took := time.Since(start)
			done = max(done, s.scanned(next))
			page.Done = done
			if !yield(page, nil) || next == 0 {
				return
			}
			cursor = next
			rest(ctx, min(time.Second, (1+scanRest)*took-time.Since(start)))
		}
	}
}

// rest leaves Redis to others for a while. What the caller does with a page is a part
// of it.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// scanStep asks for some keys and reads their records.
func (s *Store) scanStep(ctx context.Context, node redis.Cmdable, cursor uint64, names []string, known *seen) (page sessions.Page, next uint64, err error) {
	count := scanPage
	if names == nil {
		count = scanPageAll
	}
	keys, malformed, next, err := s.scanKeys(ctx, node, cursor, count)
	if err != nil {
		return page, 0, err
	}
	page.Malformed = malformed
	keys = slices.DeleteFunc(keys, known.before)
	for keys := range slices.Chunk(keys, scanRead) {
		entries, err := s.Read(ctx, names, keys...)
		if err != nil {
			return page, 0, err
		}
		for i, entry := range entries {
			if !errors.Is(entry.Err, sessions.ErrNotFound) {
				page.Records = append(page.Records, sessions.Listed{Key: keys[i], Entry: entry})
			}
		}
	}
	return page, next, nil
}

// scanKeys is one SCAN.
func (s *Store) scanKeys(ctx context.Context, node redis.Cmdable, cursor uint64, count int) (keys []sessions.Key, malformed int, next uint64, err error) {
	ctx, call := s.metrics.find.begin(ctx)
	defer call.done(&err)
	names, next, err := node.Scan(ctx, cursor, sessions.KeyPrefix+"*", int64(count)).Result()
	if err != nil {
		return nil, 0, 0, needsScan(err)
	}
	for _, name := range names {
		if key, err := sessions.ParseKey(name); err == nil {
			keys = append(keys, key)
		}
	}
	return keys, len(names) - len(keys), next, nil
}

// needsScan adds the cure to a right that is missing.
func needsScan(err error) error {
	if Forbidden(err) {
		return fmt.Errorf("%w (to look for sessions needs +scan, which the user coatcheck-manage of docs/sessions.md has)", err)
	}
	return err
}

// scanned is the part of a node's keys that lies before a cursor. Redis goes through its
// table in the order of the reversed bits of the bucket's number, which
// is so for each size of the table. A node of a Cluster puts the slot into the cursor, in newer versions, so
// that its cursor says nothing until it is over.
func (s *Store) scanned(cursor uint64) float64 {
	_, cluster := s.client.(*redis.ClusterClient)
	switch {
	case cursor == 0:
		return 1
	case cluster:
		return 0
	}
	return float64(bits.Reverse64(cursor)) / (1 << 64)
}

// seenSize is a power of two. Its numbers take 8 MiB.
const seenSize = 1 << 20

// A seen knows most of the keys that a scan has found, in memory of a fixed size: each
// has one place, which the next key with the same place takes over, after a million
// others on average. SCAN names a key twice where Redis makes its table smaller, and
// soon then: a scan only goes back within the bucket of the smaller table that it has
// begun. A slot that moves within a Cluster while it is scanned can repeat its keys, too.
// The seed is random, so that no writer of keys can make one of them look seen.
type seen struct {
	seed   maphash.Seed
	places []uint64 // 0: free
}

func newSeen() *seen { return &seen{maphash.MakeSeed(), make([]uint64, seenSize)} }

// before reports whether the key has been seen, and remembers it.
func (s *seen) before(key sessions.Key) bool {
	sum := maphash.String(s.seed, string(key)) | 1
	place := &s.places[sum>>1%seenSize]
	if *place == sum {
		return true
	}
	*place = sum
	return false
}
