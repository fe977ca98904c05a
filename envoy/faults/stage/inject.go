package stage

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// patience bounds what arranges a fault.
const patience = 20 * time.Second

// everywhere is every kind.
var everywhere = []Kind{Single, Sentinel, Cluster}

// An injection is a [Fault]'s Inject.
type injection = func(ctx context.Context, s *Stage, r *rand.Rand) (heal func() error, err error)

// An undoing collects what a healing undoes, the last thing first.
type undoing []func() error

func (u *undoing) add(f func() error) {
	if f != nil {
		*u = append(*u, f)
	}
}

func (u *undoing) undo() error {
	var errs []error
	for _, f := range slices.Backward(*u) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// or returns the undoing as a healing, or undoes all where there is an error.
func (u *undoing) or(err error) (func() error, error) {
	if err != nil {
		return nil, errors.Join(err, u.undo())
	}
	return u.undo, nil
}

// onMaster injects into one master, drawn.
func onMaster(into func(ctx context.Context, n *node, u *undoing) error) injection {
	return func(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
		var u undoing
		n, err := s.drawMaster(ctx, r)
		if err == nil {
			err = into(ctx, n, &u)
		}
		return u.or(err)
	}
}

// onMasters injects into every master.
func onMasters(into func(ctx context.Context, n *node, u *undoing) error) injection {
	return func(ctx context.Context, s *Stage, _ *rand.Rand) (func() error, error) {
		var u undoing
		all, err := s.masters(ctx)
		for _, n := range all {
			if err == nil {
				err = into(ctx, n, &u)
			}
		}
		return u.or(err)
	}
}

// repeat does a thing again and again, between pauses, until the returned function is
// called, which waits for its end. Errors are the caller's to expect.
func repeat(pause time.Duration, f func(ctx context.Context)) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() {
		for ctx.Err() == nil {
			f(ctx)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	})
	return func() error {
		cancel()
		working.Wait()
		return nil
	}
}

// between is a duration from low to high, drawn.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}

// arranging is the context of a healing, which outlives the injection's.
func arranging() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
