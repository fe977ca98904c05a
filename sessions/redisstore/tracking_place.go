package redisstore

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A place is where the records are: the masters to be tracked, and how to find out that
// they are still the ones.
type place struct {
	masters   []*redis.Client
	questions []string // to each master, for the lease
	agrees    func(answer []reply, ids map[string]bool) error
	// moved looks at all answers to questions that were sent at a time. It returns until
	// when they hold: then, or earlier.
	moved func(ids map[string]bool, sent time.Time) (until time.Time, err error)
	close func()
}

// failoverAddr is the address of every failover client of go-redis's own.
const failoverAddr = "FailoverClient"

// place finds the masters.
func (s *Store) place(ctx context.Context, lease time.Duration) (*place, error) {
	switch client := s.client.(type) {
	case *redis.ClusterClient:
		if client.Options().ReadOnly {
			return nil, untrackable{what: "replicas are read, which may not know of a change that was told"}
		}
		return clusterPlace(ctx, client)
	case *redis.Client:
		p := &place{
			masters: []*redis.Client{client}, questions: []string{"ROLE"}, agrees: isMaster,
			moved: func(_ map[string]bool, sent time.Time) (time.Time, error) { return sent, nil }, close: func() {},
		}
		switch {
		case s.sentinels == nil && client.Options().Addr == failoverAddr:
			return nil, untrackable{what: "only a client that NewClient has made tells its Sentinels"}
		case s.sentinels == nil:
			return p, nil
		}
		w, err := watchSentinels(ctx, s.sentinels(), lease)
		if err != nil {
			return nil, err
		}
		p.moved = func(_ map[string]bool, sent time.Time) (time.Time, error) { return w.until(sent) }
		p.close = w.end
		return p, nil
	}
	return nil, errors.New("redisstore: only go-redis's own clients can be tracked")
}

var errNoMaster = errors.New("the server is no master")

// isMaster reads the answer to ROLE.
func isMaster(answer []reply, _ map[string]bool) error {
	if role := answer[0]; len(role.list) == 0 || role.list[0].text != "master" {
		return loss{moved, errNoMaster}
	}
	return nil
}

// clusterPlace asks for a new map first, if the one that is there has no master.
func clusterPlace(ctx context.Context, client *redis.ClusterClient) (*place, error) {
	client.ReloadState(ctx)
	var mu sync.Mutex
	p := &place{questions: []string{"CLUSTER INFO", "CLUSTER NODES"}, close: func() {}}
	err := client.ForEachMaster(ctx, func(_ context.Context, master *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		p.masters = append(p.masters, master)
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(p.masters) == 0: // all of which would agree
		return nil, errNotServing
	}
	var wanted map[string]bool
	p.agrees = func(answer []reply, ids map[string]bool) error {
		id, masters, err := readNodes(answer)
		if err != nil {
			return loss{moved, err}
		}
		if wanted == nil {
			wanted = masters
		}
		if !equal(wanted, masters) || !wanted[id] {
			return loss{moved, errOtherMasters}
		}
		ids[id] = true
		return nil
	}
	// Each of them has answered, and for itself: an address may lead elsewhere.
	p.moved = func(ids map[string]bool, sent time.Time) (time.Time, error) {
		if !equal(ids, wanted) {
			return sent, loss{moved, errOtherMasters}
		}
		return sent, nil
	}
	return p, nil
}

var (
	errOtherMasters = errors.New("the Cluster has other masters")
	errResharding   = errors.New("the Cluster moves slots")
	errNotServing   = errors.New("the Cluster does not serve")
)

func equal(a, b map[string]bool) bool {
	for key := range a {
		if !b[key] {
			return false
		}
	}
	return len(a) == len(b)
}

// readNodes reads the answers to CLUSTER INFO and CLUSTER NODES: who answers, and which
// masters have slots. A node that has lost the others says that it does not serve, before
// another one takes its slots. While slots move, records are at nodes that say nothing of
// having them: then no node can be tracked.
func readNodes(answer []reply) (id string, masters map[string]bool, err error) {
	if !strings.Contains(answer[0].text, "cluster_state:ok") {
		return "", nil, errNotServing
	}
	masters = make(map[string]bool)
	for line := range strings.Lines(answer[1].text) {
		// id address flags master ping pong epoch link slot ...
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		flags := "," + f[2] + ","
		if !strings.Contains(flags, ",master,") {
			continue
		}
		if strings.Contains(flags, ",myself,") {
			id = f[0]
			if strings.Contains(line, "->-") || strings.Contains(line, "-<-") {
				return "", nil, errResharding
			}
		}
		if len(f) > 8 && !strings.Contains(flags, ",fail,") {
			masters[f[0]] = true
		}
	}
	if !masters[id] {
		return "", nil, errNoMaster
	}
	return id, masters, nil
}

// A sentinelWatch asks the Sentinels which master they name, beside the lease: a master
// that they have replaced may still answer, and take itself for one. While one of them
// names another master, or no Sentinel answers, what a master says is not believed.
type sentinelWatch struct {
	ask    *sentinels
	lease  time.Duration
	cancel context.CancelFunc
	ended  sync.WaitGroup
	mu     sync.Mutex
	first  string
	other  bool
	each   []sentinelWord
}

// A sentinelWord is what one Sentinel has answered.
type sentinelWord struct {
	asked time.Time // the last question that it answered
	away  bool      // it has not answered the one after that
}

// watchSentinels asks first before a connection is made.
func watchSentinels(ctx context.Context, ask *sentinels, lease time.Duration) (*sentinelWatch, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &sentinelWatch{ask: ask, lease: lease, cancel: cancel, each: make([]sentinelWord, len(ask.clients))}
	var first sync.WaitGroup
	for i := range ask.clients { // a Sentinel that is away holds up no other
		first.Add(1)
		w.ended.Go(func() {
			w.look(ctx, i)
			first.Done()
			for ctx.Err() == nil {
				sleep(ctx, max(lease/beats, 20*time.Millisecond))
				w.look(ctx, i)
			}
		})
	}
	first.Wait()
	if _, err := w.until(time.Now()); err != nil {
		w.end()
		return nil, err
	}
	return w, nil
}

// look asks one Sentinel.
func (w *sentinelWatch) look(ctx context.Context, i int) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, w.lease)
	defer cancel()
	addr, err := w.ask.clients[i].GetMasterAddrByName(ctx, w.ask.name).Result()
	named := strings.Join(addr, " ")
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.each[i].away = true
		return
	}
	if w.first == "" {
		w.first = named
	}
	w.other = w.other || named != w.first
	w.each[i] = sentinelWord{asked: asked}
}

var (
	errOtherMaster = errors.New("the Sentinels name another master")
	errNoSentinel  = errors.New("no Sentinel names the master")
)

// until is the earliest of when a question was sent and when each Sentinel was last asked:
// the one that was asked the longest ago may be the one that names another master by now.
// A Sentinel that is away holds up no other. When all are away, the last word counts, for
// the lease.
func (w *sentinelWatch) until(sent time.Time) (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	earliest, latest := sent, time.Time{}
	for _, s := range w.each {
		if s.asked.After(latest) {
			latest = s.asked
		}
		if !s.away && s.asked.Before(earliest) {
			earliest = s.asked
		}
	}
	switch {
	case w.other:
		return sent, loss{moved, errOtherMaster}
	case sent.Sub(latest) > w.lease:
		return sent, loss{silent, errNoSentinel}
	case latest.Before(earliest):
		return latest, nil
	}
	return earliest, nil
}

func (w *sentinelWatch) end() {
	w.cancel()
	w.ended.Wait()
	w.ask.close()
}
