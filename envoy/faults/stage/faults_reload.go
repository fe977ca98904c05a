package stage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// AdminPolicy is the policy by which a route asks for the role admin, of the file that every
// replica of Coatcheck has.
const AdminPolicy = "admins"

const goodPolicies = "policies:\n- name: " + AdminPolicy + "\n  any_role: [admin]\n"

// reloading is what happens to what Coatcheck has read from files, while Redis is not well.
var reloading = []Fault{
	{
		Name: "reload", Rows: []string{"F24", "F3"}, On: everywhere, Part: true,
		What: "Coatcheck's policy file is replaced each 2.2 s, by a good one, a broken one, none and a good one again, while a master stands still for 0.1 s again and again. No answer may change by it.",
		For:  9 * time.Second, Bound: time.Second, Inject: policiesReplaced,
	},
	{
		Name: "coat-clocks", Rows: []string{"F20"}, On: everywhere, Down: true, Apart: true,
		What: "The clocks of the replicas of Coatcheck disagree by minutes: one after the other starts anew with a clock that is ahead or behind.",
		For:  3 * time.Second, Bound: time.Second, Inject: clocksDisagree,
	},
}

func (s *Stage) policies() string { return filepath.Join(s.dir, "policies.yaml") }

// replaced is longer than Coatcheck takes to find a file changed: two looks, a second apart.
const replaced = 2200 * time.Millisecond

func policiesReplaced(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	stutter := repeat(between(r, 300*time.Millisecond, 600*time.Millisecond), func(context.Context) {
		_ = n.server.Pause()
		time.Sleep(100 * time.Millisecond)
		_ = n.server.Resume()
	})
	turns := []func() error{
		func() error { return replace(s.policies(), goodPolicies+"- name: others\n  any_role: [staff]\n") },
		func() error { return replace(s.policies(), "policies: {") },
		func() error { return os.Remove(s.policies()) },
		func() error { return replace(s.policies(), goodPolicies) },
	}
	turn := 0
	var errs []error
	stop := repeat(replaced, func(context.Context) {
		errs = append(errs, turns[turn%len(turns)]())
		turn++
	})
	return func() error {
		return errors.Join(stutter(), stop(), errors.Join(errs...), replace(s.policies(), goodPolicies))
	}, nil
}

// clocksDisagree starts each replica with another clock, and at the healing with the right one.
func clocksDisagree(_ context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	if len(s.Servers) == 0 {
		return nil, errors.New("stage: no replica of Coatcheck is there")
	}
	var u undoing
	behind := r.IntN(2)
	for i, server := range s.Servers {
		ahead := between(r, 10*time.Second, 10*time.Minute)
		if i%2 == behind {
			ahead = -ahead
		}
		if s.Drawn != nil {
			s.Drawn(i)
		}
		if err := restarted(server, ahead); err != nil {
			return u.or(fmt.Errorf("a replica with another clock: %w", err))
		}
		u.add(func() error { return restarted(server, 0) })
	}
	return u.or(nil)
}

func restarted(server Server, ahead time.Duration) error {
	if err := server.Stop(); err != nil {
		return err
	}
	return errors.Join(server.SetClock(ahead), server.Start())
}
