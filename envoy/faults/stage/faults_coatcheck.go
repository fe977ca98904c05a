package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// replicas are what happens to a replica of Coatcheck. They need Servers.
var replicas = []Fault{
	{
		Name: "sigterm", Rows: []string{"F23"}, On: everywhere, Down: true,
		What: "A replica of Coatcheck is ended in order (SIGTERM), and started again; Redis is well.",
		For:  time.Second, Bound: time.Second, Inject: onServer(Server.Stop),
	},
	{
		Name: "sigkill", On: everywhere, Down: true,
		What: "A replica of Coatcheck is killed, and started again; Redis is well.",
		For:  time.Second, Bound: time.Second, Inject: onServer(Server.Kill),
	},
	{
		Name: "sigterm-outage", Rows: []string{"F1", "F23"}, On: []Kind{Single}, Down: true,
		What: "Redis stands still, and a replica of Coatcheck is ended in order and started again meanwhile.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: endedInOutage(stopped),
	},
	{
		Name: "start-down", Rows: []string{"F1"}, On: []Kind{Single}, Down: true,
		What: "A replica of Coatcheck starts while there is no Redis.",
		For:  2 * time.Second, Bound: time.Second, Inject: endedInOutage(killed),
	},
	{
		Name: "coat-pause", On: everywhere, Down: true, Still: true,
		What: "A replica of Coatcheck stands still for a second (SIGSTOP); Redis is well.",
		For:  time.Second, Bound: time.Second, Inject: serverStopped,
	},
	{
		Name: "coat-pause-revoked", Rows: []string{"F18"}, On: everywhere, Down: true, Still: true,
		What: "A replica of Coatcheck stands still again and again, shorter and longer than its patience with Redis.",
		For:  2 * time.Second, Bound: time.Second, Inject: serverStutters,
	},
	{
		Name: "fds", Rows: []string{"F15"}, On: everywhere,
		What: "A replica of Coatcheck has no file descriptor left, and its connections to Redis are ended.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: withoutDescriptors,
	},
}

// drawServer is one replica of Coatcheck.
func (s *Stage) drawServer(r *rand.Rand) (Server, error) {
	if len(s.Servers) == 0 {
		return nil, errors.New("stage: no replica of Coatcheck is there")
	}
	i := r.IntN(len(s.Servers))
	if s.Drawn != nil {
		s.Drawn(i)
	}
	return s.Servers[i], nil
}

// onServer ends a replica until the healing.
func onServer(end func(Server) error) injection {
	return func(_ context.Context, s *Stage, r *rand.Rand) (func() error, error) {
		server, err := s.drawServer(r)
		if err != nil {
			return nil, err
		}
		var u undoing
		u.add(server.Start)
		return u.or(end(server))
	}
}

// endedInOutage ends a replica and starts it again while something is wrong with Redis.
func endedInOutage(outage func(context.Context, *node, *undoing) error) injection {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
		server, err := s.drawServer(r)
		if err != nil {
			return nil, err
		}
		n, err := s.drawMaster(ctx, r)
		if err != nil {
			return nil, err
		}
		var u undoing
		if err := outage(ctx, n, &u); err != nil {
			return u.or(err)
		}
		time.Sleep(between(r, 100*time.Millisecond, 400*time.Millisecond))
		if err := server.Stop(); err != nil {
			return u.or(err)
		}
		return u.or(server.Start())
	}
}

// signalled sends a signal to a replica.
func signalled(server Server, s syscall.Signal) error {
	if err := syscall.Kill(server.Pid(), s); err != nil {
		return fmt.Errorf("stage: %v to a replica of Coatcheck: %w", s, err)
	}
	return nil
}

func serverStopped(_ context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	server, err := s.drawServer(r)
	if err != nil {
		return nil, err
	}
	return func() error { return signalled(server, syscall.SIGCONT) }, signalled(server, syscall.SIGSTOP)
}

func serverStutters(_ context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	server, err := s.drawServer(r)
	if err != nil {
		return nil, err
	}
	stop := repeat(100*time.Millisecond, func(context.Context) {
		_ = signalled(server, syscall.SIGSTOP)
		time.Sleep(between(r, 20*time.Millisecond, 400*time.Millisecond))
		_ = signalled(server, syscall.SIGCONT)
	})
	return stop, nil
}

// withoutDescriptors lets a replica open no more than it has open. What it has of Redis's is
// ended, so that it must ask for others.
func withoutDescriptors(_ context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	server, err := s.drawServer(r)
	if err != nil {
		return nil, err
	}
	pid := server.Pid()
	var before unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
		return nil, err
	}
	var u undoing
	u.add(func() error { return unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil) })
	// A new descriptor must have a number below the limit, and the three are taken.
	limit := unix.Rlimit{Cur: 3, Max: before.Max}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		return u.or(err)
	}
	for _, p := range s.proxies {
		p.reset(s.sourceOf(server))
	}
	return u.or(nil)
}

// sourceOf is the replica as a source of connections.
func (s *Stage) sourceOf(server Server) source {
	for i, other := range s.Servers {
		if other == server {
			return replica(i)
		}
	}
	return coatcheck
}
