package stage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// processes are what happens to a process of Redis that has no replica to take its place.
var processes = []Fault{
	{
		Name: "bounce", Rows: []string{"F2"}, On: []Kind{Single},
		What: "Redis is killed, and up again with its data after 0.2 s.",
		For:  200 * time.Millisecond, Bound: 500 * time.Millisecond, Inject: onMaster(killed),
	},
	{
		Name: "bounce-twice", Rows: []string{"F2"}, On: []Kind{Single},
		What: "Redis is killed twice within a second, each time for 0.2 s.",
		For:  200 * time.Millisecond, Bound: 500 * time.Millisecond, Inject: bounceTwice,
	},
	{
		Name: "kill", Rows: []string{"F2"}, On: []Kind{Single},
		What: "Redis is killed, and up again with its data after 2 s.",
		For:  2 * time.Second, Bound: time.Second, Inject: onMaster(killed),
	},
	{
		Name: "kill-empty", Rows: []string{"F2", "F5"}, On: []Kind{Single}, Loss: true,
		What: "Redis is killed, and comes back without its data.",
		For:  time.Second, Bound: time.Second, Inject: onMaster(killedEmpty),
	},
	{
		Name: "flush", Rows: []string{"F5"}, On: everywhere, Loss: true,
		What: "An operator empties Redis (FLUSHALL).",
		For:  500 * time.Millisecond, Bound: time.Second, Inject: onMasters(told("flushall")),
	},
	{
		Name: "shutdown", Rows: []string{"F2"}, On: []Kind{Single},
		What: "Redis is shut down in order, and started again after 1.5 s.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: onMaster(shutDown),
	},
	{
		Name: "loading", Rows: []string{"F2", "F13"}, On: []Kind{Single},
		What: "Redis is killed, and takes 2 s to load its data: meanwhile it answers LOADING.",
		For:  2500 * time.Millisecond, Bound: time.Second, Inject: onMaster(loading),
	},
	{
		Name: "pause", Rows: []string{"F3"}, On: []Kind{Single},
		What: "The process stands still for 2 s (SIGSTOP): it accepts connections and answers nothing.",
		For:  2 * time.Second, Bound: time.Second, Inject: onMaster(stopped),
	},
	{
		Name: "pause-short", Rows: []string{"F3"}, On: everywhere,
		What: "The process of a master stands still for 0.3 s, too short for a failover.",
		For:  300 * time.Millisecond, Bound: time.Second, Inject: onMaster(stopped),
	},
	{
		Name: "pause-often", Rows: []string{"F3"}, On: everywhere,
		What: "The process of a master stands still for 0.1 s, again and again, as on a machine without processors to spare.",
		For:  2 * time.Second, Bound: time.Second, Inject: pausedOften,
	},
	{
		Name: "fork", Rows: []string{"F3", "F25"}, On: []Kind{Single},
		What: "Redis holds 200,000 keys more, and writes all of its data to the disk anew.",
		For:  2 * time.Second, Bound: time.Second, Inject: onMaster(forks),
	},
}

// killed kills a node until the healing.
func killed(_ context.Context, n *node, u *undoing) error {
	u.add(func() error { return n.start() })
	return n.kill()
}

func bounceTwice(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	var u undoing
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	u.add(func() error { return n.start() })
	if err := n.kill(); err != nil {
		return u.or(err)
	}
	time.Sleep(200 * time.Millisecond)
	if err := n.start(); err != nil {
		return u.or(err)
	}
	time.Sleep(between(r, 100*time.Millisecond, 500*time.Millisecond))
	return u.or(n.kill())
}

func killedEmpty(_ context.Context, n *node, u *undoing) error {
	u.add(func() error { return n.start() })
	u.add(n.empty)
	return n.kill()
}

// told sends one command.
func told(command ...any) func(context.Context, *node, *undoing) error {
	return func(ctx context.Context, n *node, _ *undoing) error {
		_, err := n.do(ctx, command...)
		return err
	}
}

// shutDown ends a node by the command, after which the connection ends without an answer.
func shutDown(ctx context.Context, n *node, u *undoing) error {
	u.add(func() error { return n.start() })
	_, _ = n.do(ctx, "shutdown", "nosave", "now")
	return n.kill() // returns at once where the process has ended
}

// stopped has a process stand still until the healing.
func stopped(_ context.Context, n *node, u *undoing) error {
	u.add(n.server.Resume)
	return n.server.Pause()
}

func pausedOften(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	running := between(r, 50*time.Millisecond, 200*time.Millisecond)
	return repeat(running, func(context.Context) {
		_ = n.server.Pause()
		time.Sleep(100 * time.Millisecond)
		_ = n.server.Resume()
	}), nil
}

// fillers are the keys of the fault loading, and how long Redis is held up by each.
const (
	fillers   = 1000
	fillDelay = 2 * time.Millisecond
)

// loading restarts a node that loads slowly, so that there is no process for a moment, and
// LOADING for two seconds.
func loading(ctx context.Context, n *node, u *undoing) error {
	u.add(func() error { return n.removeFillers() })
	_, err := n.do(ctx, "eval", fmt.Sprintf("for i = 1, %d do redis.call('set', 'stage-filler:' .. i, i) end", fillers), 0)
	if err != nil {
		return err
	}
	if err := n.rewritten(ctx); err != nil {
		return err
	}
	u.add(func() error { return n.loaded() })
	if err := n.kill(); err != nil {
		return err
	}
	return n.start(fmt.Sprintf("key-load-delay %d", fillDelay.Microseconds()))
}

// rewritten: what the node loads at its next start is a snapshot, of which it counts the
// keys.
func (n *node) rewritten(ctx context.Context) error {
	if _, err := n.do(ctx, "bgrewriteaof"); err != nil {
		return err
	}
	return eventually(ctx, func() error {
		running, err := n.info(ctx, "persistence", "aof_rewrite_in_progress")
		scheduled, err2 := n.info(ctx, "persistence", "aof_rewrite_scheduled")
		if err != nil || err2 != nil || running+scheduled != "00" {
			return fmt.Errorf("%s is still writing", n.name)
		}
		return nil
	})
}

// loaded waits until the node has its data.
func (n *node) loaded() error { return n.loadedWithin(patience) }

func (n *node) loadedWithin(d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return eventually(ctx, func() error {
		loads, err := n.info(ctx, "persistence", "loading")
		if err != nil || loads != "0" {
			return fmt.Errorf("%s is still loading: %w", n.name, err)
		}
		return nil
	})
}

func (n *node) removeFillers() error {
	ctx, cancel := arranging()
	defer cancel()
	_, err := n.do(ctx, "eval", fmt.Sprintf("for i = 1, %d do redis.call('del', 'stage-filler:' .. i) end", fillers), 0)
	return err
}

// forks has Redis write its data while there is much of it: fork stops it for a moment,
// and each page that changes is copied. The other keys are in another database.
func forks(ctx context.Context, n *node, u *undoing) error {
	client := n.client()
	defer func() { _ = client.Close() }()
	conn := client.Conn()
	defer func() { _ = conn.Close() }()
	u.add(func() error {
		_, err := n.do(context.Background(), "eval", "redis.call('select', 1) redis.call('flushdb', 'async')", 0)
		return err
	})
	if err := conn.Do(ctx, "select", 1).Err(); err != nil {
		return err
	}
	if err := conn.Do(ctx, "debug", "populate", 200_000, "stage-filler", 64).Err(); err != nil {
		return err
	}
	return conn.Do(ctx, "bgrewriteaof").Err()
}
