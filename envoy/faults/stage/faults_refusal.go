package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// refusals are what Redis answers in place of what it was asked for.
var refusals = []Fault{
	{
		Name: "busy", Rows: []string{"F3"}, On: everywhere,
		What: "A script runs without an end: Redis answers BUSY until an operator kills it.",
		For:  400 * time.Millisecond, Bound: time.Second, Inject: onMaster(busy),
	},
	{
		Name: "sleep", Rows: []string{"F3"}, On: everywhere,
		What: "One command takes 0.4 s, and all others wait for it (DEBUG SLEEP).",
		For:  400 * time.Millisecond, Bound: time.Second, Inject: onMaster(sleeps),
	},
	{
		Name: "client-pause", Rows: []string{"F3"}, On: []Kind{Single, Cluster}, // a Sentinel would have a replica take the place
		What: "Redis takes no command for a second (CLIENT PAUSE ALL).",
		For:  time.Second, Bound: time.Second, Inject: onMaster(told("client", "pause", 1000, "all")),
	},
	{
		Name: "pause-write", Rows: []string{"F3"}, On: []Kind{Single, Cluster}, // the PUBLISH of Sentinels waits, too, and what follows it: se-pause
		What: "Redis takes no write for a second (CLIENT PAUSE WRITE).",
		For:  time.Second, Bound: time.Second, Inject: onMaster(told("client", "pause", 1000, "write")),
	},
	{
		Name: "oom", Rows: []string{"F14"}, On: everywhere,
		What: "Redis is full and evicts nothing (maxmemory with noeviction).",
		For:  1500 * time.Millisecond, Bound: time.Second,
		Inject: onMasters(setting("maxmemory", "1", "maxmemory-policy", "noeviction")),
	},
	{
		Name: "evicting", Rows: []string{"F5", "F27"}, On: everywhere, Loss: true,
		What: "Redis is full and evicts sessions (maxmemory with allkeys-random).",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: onMaster(evicting),
	},
	{
		Name: "readonly", Rows: []string{"F6"}, On: []Kind{Single},
		What: "The server becomes a replica: it answers reads, and READONLY to writes.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: onMaster(readOnly),
	},
	{
		Name: "noreplicas", Rows: []string{"F9"}, On: everywhere,
		What: "min-replicas-to-write asks for more replicas than there are: Redis answers NOREPLICAS to writes.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: onMasters(setting("min-replicas-to-write", "9")),
	},
	{
		Name: "maxclients", Rows: []string{"F15"}, On: everywhere,
		What: "Redis has no room for connections (maxclients): it ends those that it has, and refuses others.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: onMaster(maxClients(0)),
	},
	{
		Name: "maxclients-part", Rows: []string{"F15"}, On: everywhere, Part: true,
		What: "Redis has room for three connections of Coatcheck's.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: onMaster(maxClients(3)),
	},
	{
		Name: "client-kill", Rows: []string{"F2"}, On: everywhere,
		What: "An operator ends all connections of Coatcheck's user, ten times a second (CLIENT KILL).",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: clientKill,
	},
	{
		Name: "script-flush", Rows: []string{"F19"}, On: everywhere,
		What: "Redis forgets its scripts, 20 times a second (SCRIPT FLUSH).",
		For:  time.Second, Bound: time.Second, Inject: scriptFlush,
	},
}

// busy sends a script without an end. SCRIPT KILL is among the few commands that Redis
// takes meanwhile.
func busy(ctx context.Context, n *node, u *undoing) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = n.do(context.Background(), "eval", "while true do end", 0)
	}()
	u.add(func() error {
		defer func() { <-done }()
		ctx, cancel := arranging()
		defer cancel()
		return eventually(ctx, func() error { return n.killScript(ctx) })
	})
	return eventually(ctx, func() error {
		if _, err := n.do(ctx, "ping"); err == nil || !strings.Contains(err.Error(), "BUSY") {
			return errors.Join(errors.New("the script does not run yet"), err)
		}
		return nil
	})
}

func (n *node) killScript(ctx context.Context) error {
	_, err := n.do(ctx, "script", "kill")
	if err != nil && strings.Contains(err.Error(), "NOTBUSY") {
		return nil
	}
	return err
}

// sleeps returns while the node sleeps.
func sleeps(_ context.Context, n *node, u *undoing) error {
	done := make(chan error, 1)
	go func() {
		_, err := n.do(context.Background(), "debug", "sleep", "0.4")
		done <- err
	}()
	u.add(func() error { return <-done })
	return nil
}

// setting changes settings until the healing.
func setting(pairs ...string) func(context.Context, *node, *undoing) error {
	return func(ctx context.Context, n *node, u *undoing) error {
		undo, err := n.set(ctx, pairs...)
		u.add(undo)
		return err
	}
}

// evicting leaves room for about half of the data.
func evicting(ctx context.Context, n *node, u *undoing) error {
	used, err := n.info(ctx, "memory", "used_memory")
	if err != nil {
		return err
	}
	dataset, err := n.info(ctx, "memory", "used_memory_dataset")
	if err != nil {
		return err
	}
	all, err := strconv.Atoi(used)
	if err != nil {
		return err
	}
	data, err := strconv.Atoi(dataset)
	if err != nil {
		return err
	}
	return setting("maxmemory", strconv.Itoa(all-data/2), "maxmemory-policy", "allkeys-random")(ctx, n, u)
}

// readOnly makes the node a replica of a master that does not exist. It keeps its data.
func readOnly(ctx context.Context, n *node, u *undoing) error {
	u.add(func() error {
		_, err := n.do(context.Background(), "replicaof", "no", "one")
		return err
	})
	_, err := n.do(ctx, "replicaof", "127.0.0.1", "1")
	return err
}

// maxClients leaves room for so many connections beside those of Redis's own.
func maxClients(room int) func(context.Context, *node, *undoing) error {
	return func(ctx context.Context, n *node, u *undoing) error {
		client := n.client()
		held := client.Conn() // by which it is undone
		u.add(client.Close)
		u.add(held.Close)
		before, err := held.ConfigGet(ctx, "maxclients").Result()
		if err != nil {
			return err
		}
		u.add(func() error { return held.ConfigSet(context.Background(), "maxclients", before["maxclients"]).Err() })
		own, err := held.Do(ctx, "client", "list").Text()
		if err != nil {
			return err
		}
		rest := 0
		for line := range strings.Lines(own) {
			if !strings.Contains(line, " user="+n.coatcheck+" ") {
				rest++
			}
		}
		if err := held.ConfigSet(ctx, "maxclients", strconv.Itoa(rest+room)).Err(); err != nil {
			return err
		}
		return held.Do(ctx, "client", "kill", "user", n.coatcheck).Err()
	}
}

func clientKill(ctx context.Context, s *Stage, _ *rand.Rand) (func() error, error) {
	all, err := s.masters(ctx)
	if err != nil {
		return nil, err
	}
	return repeat(100*time.Millisecond, func(ctx context.Context) {
		for _, n := range all {
			_ = n.killConnections(ctx)
		}
	}), nil
}

// killConnections ends those of Coatcheck's user.
func (n *node) killConnections(ctx context.Context) error {
	_, err := n.do(ctx, "client", "kill", "user", n.coatcheck)
	if err != nil {
		return fmt.Errorf("ending connections: %w", err)
	}
	return nil
}

func scriptFlush(ctx context.Context, s *Stage, _ *rand.Rand) (func() error, error) {
	all, err := s.masters(ctx)
	if err != nil {
		return nil, err
	}
	return repeat(50*time.Millisecond, func(ctx context.Context) {
		for _, n := range all {
			_, _ = n.do(ctx, "script", "flush")
		}
	}), nil
}
