package main

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/coatcheck/coatcheck/envoy/e2e/rig"
	"github.com/coatcheck/coatcheck/sessions"
)

// checks are a background load: they ask the process that checks over gRPC, as Envoy
// does, 4 at a time and at most 800 times a second.
type checks struct {
	sent, denied atomic.Int64
	cancel       context.CancelFunc
	running      *errgroup.Group
	conn         *grpc.ClientConn

	mu    sync.Mutex
	times []time.Duration
}

func startChecks(ctx context.Context, stack *rig.Stack) (*checks, error) {
	ids, err := signIn(stack.Redis, 1)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(stack.Checks, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	request := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{Method: "GET", Path: "/x", Host: "shop.example", Headers: map[string]string{"cookie": sessions.DefaultCookieName + "=" + ids[0]}},
	}}}
	c := &checks{conn: conn, running: new(errgroup.Group)}
	ctx, c.cancel = context.WithCancel(ctx)
	for range 4 {
		c.running.Go(func() error { return c.run(ctx, authv3.NewAuthorizationClient(conn), request) })
	}
	return c, nil
}

func (c *checks) run(ctx context.Context, client authv3.AuthorizationClient, request *authv3.CheckRequest) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ; ctx.Err() == nil; <-tick.C {
		begin := time.Now()
		answer, err := client.Check(ctx, request)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		c.sent.Add(1)
		if answer.GetOkResponse() == nil {
			c.denied.Add(1)
		}
		c.note(time.Since(begin))
	}
	return nil
}

func (c *checks) note(took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times = append(c.times, took)
}

// collect is p50 and p99 of the checks since the last call.
func (c *checks) collect() [2]time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	times := c.times
	c.times = nil
	return [2]time.Duration{quantile(times, 0.5), quantile(times, 0.99)}
}

func (c *checks) during(d time.Duration) [2]time.Duration {
	c.collect()
	time.Sleep(d)
	return c.collect()
}

// stop ends the load, and returns the error that ended it earlier.
func (c *checks) stop() error {
	c.cancel()
	err := c.running.Wait()
	_ = c.conn.Close()
	return err
}

func appendRound(all [2][]time.Duration, round [2]time.Duration) [2][]time.Duration {
	return [2][]time.Duration{append(all[0], round[0]), append(all[1], round[1])}
}

func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[int(math.Round(q*float64(len(sorted)-1)))].Round(time.Microsecond)
}
