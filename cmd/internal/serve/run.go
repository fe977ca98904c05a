// Package serve runs the server of the configuration until its context is done:
//
//	err := serve.Run(ctx, c, os.Stderr)
//
// Each part has a file: grpc.go serves checks, login.go the login pages, api.go the session
// API, admin.go operators; users.go opens the source of users, redis.go connects to Redis and watches
// it, policies.go follows the policy file. run.go starts the parts in their order, and
// ends them without losing a request.
package serve

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/logsink"
)

// logLines is the number of lines of the log that may wait to be written.
const logLines = 8192

// Run serves until ctx is done, and then drains. It returns an error if it could not
// start; then no part of it is left running. The log goes to w. Lines that w does not
// take in time are dropped and counted, because no check waits for a log.
func Run(ctx context.Context, c *config.Config, w io.Writer) error {
	sink := logsink.New(w, logLines)
	defer sink.Close(time.Second)
	s := newServer(newProcess(ctx, c, sink))
	defer s.close()
	for _, step := range []func(context.Context) error{
		s.policies.read, s.tracing.start, s.listen, s.connect, s.prepareLogin, s.ask, s.start,
	} {
		if ctx.Err() != nil {
			return nil // ended before it served a request; the last step serves
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	select {
	case err := <-s.failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
		s.drain()
		return nil
	}
}

// A server is the parts of a process.
type server struct {
	*process
	redisPart
	loginPart
	checks    grpcPart
	api       *apiPart
	policies  policyPart
	operators adminPart
	tracing   tracingPart
	ready     atomic.Bool
}

func newServer(p *process) *server {
	health := newHealth()
	return &server{
		process: p, redisPart: redisPart{process: p, health: health, near: nearPart{process: p}, foreign: foreignPart{process: p}}, checks: newGRPCPart(p, health), api: newAPIPart(p, health),
		policies: policyPart{process: p}, operators: adminPart{process: p}, tracing: tracingPart{process: p},
	}
}

// listen opens the listeners before a part serves, so that a port in use ends the
// start.
func (s *server) listen(context.Context) error {
	if err := s.checks.listen(); err != nil {
		return err
	}
	if err := s.api.listen(); err != nil {
		return err
	}
	return s.operators.listen()
}

// start serves on what listen has opened.
func (s *server) start(ctx context.Context) error {
	keepHeadroom()
	if limit, err := limitMemory(memlimit.FromCgroup); err != nil {
		s.logger.Warn("the container's memory limit cannot be read", "error", err.Error())
	} else {
		s.logger.Debug("memory", "limit", limit)
	}
	s.metrics.watchClock(func() time.Duration { return time.Until(s.manager.Now()) })
	checked, format := s.foreign.over(s.near.start(s.timed, s.store))
	if err := s.checks.start(checked, format, s.manager.Now, s.tracing.tracer("github.com/coatcheck/coatcheck/extauthz"), s.policies.start); err != nil {
		return err
	}
	explainer, err := s.explainer()
	if err != nil {
		return err
	}
	if err := s.api.start(ctx, s.timed, s.store, explainer, &s.foreign); err != nil {
		return err
	}
	s.setReady(true)
	s.operators.start(s.ready.Load)
	s.logServing()
	s.startLogin()
	return nil
}

// logServing logs where the server serves, and what its configuration has that people
// stumble over.
func (s *server) logServing() {
	s.sayAtStart()
	attributes := append([]any{"redis", s.config.RedisAddresses}, s.checks.attributes()...)
	s.logger.Info("serving", append(attributes, s.operators.attributes()...)...)
}

func (s *server) setReady(ready bool) {
	s.ready.Store(ready)
	if ready {
		s.metrics.ready.Set(1)
		return
	}
	s.metrics.ready.Set(0)
	unready(s.checks.health)
}

// drain serves on for a while, because it takes Envoys a while to notice that this
// replica is not ready any more; then it lets calls in flight end.
func (s *server) drain() {
	s.setReady(false)
	s.logger.Info("draining", "serve_on", s.config.Drain.String(), "grace", s.config.ShutdownGrace.String())
	time.Sleep(s.config.Drain)
	var draining sync.WaitGroup
	draining.Go(s.checks.drain)
	draining.Go(s.drainLogin)
	draining.Go(s.api.drain)
	draining.Wait()
	s.logger.Info("stopped")
}
