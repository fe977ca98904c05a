package stage

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// clocks are what happens to the time of Redis. For Coatcheck it is the same as if its own
// clock were wrong: what matters is how far apart they are. The clock of a Go program
// itself cannot be set, for it asks the kernel and no library.
func clocks() []Fault {
	return each(clockFaults, func(f *Fault) {
		f.Clock, f.On = true, everywhere
	})
}

var clockFaults = []Fault{
	{
		Name: "clock-ahead", Rows: []string{"F20"},
		What: "The clocks of Redis jump up to a minute ahead, and back at the healing.",
		For:  2 * time.Second, Bound: time.Second, Inject: moving(+1),
	},
	{
		Name: "clock-behind", Rows: []string{"F20"},
		What: "The clocks of Redis jump up to a minute back, and ahead again at the healing.",
		For:  2 * time.Second, Bound: time.Second, Inject: moving(-1),
	},
	{
		Name: "clock-swings", Rows: []string{"F20"},
		What: "The clocks of Redis jump to and fro by seconds, each 0.3 s.",
		For:  2 * time.Second, Bound: time.Second, Inject: swinging,
	},
}

// setClocks sets those of all servers that live.
func (s *Stage) setClocks(ahead time.Duration) error {
	var errs []error
	for _, n := range s.nodes {
		errs = append(errs, n.server.SetClock(ahead))
	}
	return errors.Join(errs...)
}

func moving(sign int) injection {
	return func(_ context.Context, s *Stage, r *rand.Rand) (func() error, error) {
		back := func() error { return s.setClocks(0) }
		ahead := between(r, 20*time.Second, time.Minute)
		if sign < 0 {
			ahead = -ahead
		}
		if err := s.setClocks(ahead); err != nil {
			return nil, errors.Join(err, back())
		}
		return back, nil
	}
}

func swinging(_ context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	stop := repeat(300*time.Millisecond, func(context.Context) {
		_ = s.setClocks(between(r, -5*time.Second, 5*time.Second))
	})
	return func() error { return errors.Join(stop(), s.setClocks(0)) }, nil
}
