package stage

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/sessions/redisstore/redistest"
)

// lookPause is how far apart the questions to a process are, and lookTime how long it has.
const lookPause, lookTime = 20 * time.Millisecond, 100 * time.Millisecond

// Moves tells of each new master, and returns when ctx is done. Where Sentinels watch, it is
// the one that most of them name. In a Cluster it is a
// replica that says that it is a master. Each process has one connection for that: to make
// one for each question would cost it more than the question.
func (s *Stage) Moves(ctx context.Context, tell func()) {
	if s.o.Kind == Sentinel {
		s.named(ctx, tell)
		return
	}
	s.risen(ctx, tell)
}

// named tells when most Sentinels have come to name another master.
func (s *Stage) named(ctx context.Context, tell func()) {
	var asked []asker
	for _, watch := range s.sentinels {
		client := watch.client()
		defer func() { _ = client.Close() }()
		asked = append(asked, func(ctx context.Context) (string, error) {
			address, err := client.GetMasterAddrByName(ctx, redistest.MasterName).Result()
			return fmt.Sprint(address), err
		})
	}
	names, master := make([]string, len(asked)), ""
	look(ctx, asked, func(i int, name string) {
		names[i] = name
		votes := 0
		for _, other := range names {
			if other == name {
				votes++
			}
		}
		if votes < quorum || name == master {
			return
		}
		if master != "" {
			tell()
		}
		master = name
	})
}

// risen tells when a replica has become a master.
func (s *Stage) risen(ctx context.Context, tell func()) {
	var asked []asker
	for _, n := range s.nodes {
		client := n.client()
		defer func() { _ = client.Close() }()
		asked = append(asked, func(ctx context.Context) (string, error) { return roleOf(ctx, client) })
	}
	roles := make([]string, len(asked))
	look(ctx, asked, func(i int, role string) {
		if roles[i] == "slave" && role == "master" {
			tell()
		}
		roles[i] = role
	})
}

func roleOf(ctx context.Context, client *redis.Client) (string, error) {
	reply, err := client.Do(ctx, "role").Slice()
	if err != nil || len(reply) == 0 {
		return "", fmt.Errorf("role: %v, %w", reply, err)
	}
	return fmt.Sprint(reply[0]), nil
}

// An asker asks a process.
type asker func(ctx context.Context) (answer string, err error)

// look asks again and again, and hands on each answer that is not the one before of the same
// process, one after the other.
func look(ctx context.Context, asked []asker, heard func(i int, answer string)) {
	var mu sync.Mutex
	var asking sync.WaitGroup
	for i, ask := range asked {
		asking.Go(func() {
			last := ""
			for ctx.Err() == nil {
				within, cancel := context.WithTimeout(ctx, lookTime)
				answer, err := ask(within)
				cancel()
				if err == nil && answer != last {
					last = answer
					mu.Lock()
					heard(i, answer)
					mu.Unlock()
				}
				select {
				case <-ctx.Done():
				case <-time.After(lookPause):
				}
			}
		})
	}
	asking.Wait()
}
