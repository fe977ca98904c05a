package stage

import (
	"context"
	"math/rand/v2"
	"time"
)

// network is what happens between Coatcheck and a master, while Redis is well. The nodes and
// the Sentinels reach one another all the while, so that there is no failover.
var network = []Fault{
	{
		Name: "delay", Rows: []string{"F3"}, On: everywhere, Part: true,
		What: "Each way between Coatcheck and a master takes 30 to 60 ms.",
		For:  2 * time.Second, Bound: time.Second, Inject: delayed,
	},
	{
		Name: "slow", Rows: []string{"F3"}, On: everywhere,
		What: "Each way between Coatcheck and a master takes half a second: no answer comes in time.",
		For:  2 * time.Second, Bound: time.Second, Inject: toward(rule{conduct: conduct{delay: 500 * time.Millisecond}}),
	},
	{
		Name: "skew", Rows: []string{"F20", "F3"}, On: everywhere,
		What: "Questions take 45 ms to a master, and its answers no time: what a clock learns of Redis is wrong by half of it.",
		For:  2 * time.Second, Bound: time.Second, Inject: skewed,
	},
	{
		Name: "jitter", Rows: []string{"F21", "F28"}, On: everywhere, Part: true,
		What: "Each piece between Coatcheck and a master takes up to 120 ms, so that many answers come as they are given up.",
		For:  2 * time.Second, Bound: time.Second, Inject: toward(rule{conduct: conduct{jitter: 120 * time.Millisecond}}),
	},
	{
		Name: "throttle", Rows: []string{"F3"}, On: everywhere, Part: true,
		What: "Between Coatcheck and a master pass 20 kB a second and connection.",
		For:  2 * time.Second, Bound: time.Second, Inject: toward(rule{conduct: conduct{rate: 20_000}}),
	},
	{
		Name: "blackhole", Rows: []string{"F4"}, On: everywhere,
		What: "A master's address accepts connections and takes what it is sent, but nothing reaches it, and no answer comes.",
		For:  2 * time.Second, Bound: time.Second, Inject: toward(rule{conduct: conduct{dropUp: true, dropDown: true}}),
	},
	{
		Name: "silent", Rows: []string{"F4"}, On: everywhere,
		What: "A master gets what it is sent, and acts on it; its answers are lost.",
		For:  2 * time.Second, Bound: time.Second, Inject: toward(rule{conduct: conduct{dropDown: true}}),
	},
	{
		Name: "replies-held", Rows: []string{"F4", "F28"}, On: everywhere,
		What: "A master's answers are held up for 1.5 s, and then arrive all at once, when no caller waits for them any more.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: toward(rule{conduct: conduct{holdDown: true}}),
	},
	{
		Name: "questions-held", Rows: []string{"F4", "F28"}, On: everywhere,
		What: "What is sent to a master is held up for 1.5 s, and then arrives all at once.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: toward(rule{conduct: conduct{holdUp: true}}),
	},
	{
		Name: "half-open", Rows: []string{"F4"}, On: everywhere,
		What: "The connections that are open to a master are dead without a farewell; new ones are good.",
		For:  2 * time.Second, Bound: time.Second, Inject: toward(rule{conduct: conduct{dropUp: true, dropDown: true}, oldOnly: true}),
	},
	{
		Name: "unreachable", Rows: []string{"F4"}, On: everywhere,
		What: "Open connections to a master are dead, and new ones are not answered, as behind a firewall that drops packets.",
		For:  2 * time.Second, Bound: time.Second, Inject: unreachable,
	},
	{
		Name: "reset", Rows: []string{"F2"}, On: everywhere,
		What: "All connections to a master are reset, ten times a second.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: resets,
	},
	{
		Name: "refuse", Rows: []string{"F2"}, On: everywhere,
		What: "A master's connections are reset, and its address refuses new ones.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: refuses,
	},
	{
		Name: "flap", Rows: []string{"F2"}, On: everywhere, Part: true,
		What: "A master's address refuses for 0.1 s, is well for as long, and again.",
		For:  2 * time.Second, Bound: time.Second, Inject: flaps,
	},
	{
		Name: "half-blind", Rows: []string{"F4"}, On: everywhere,
		What: "One replica of Coatcheck reaches a master no more; the other does.",
		For:  2 * time.Second, Bound: time.Second, Inject: halfBlind,
	},
	{
		Name: "herd", Rows: []string{"F22"}, On: everywhere, Load: Herd,
		What: "Hundreds of checks come at once, again and again; Redis is well.",
		For:  2 * time.Second, Bound: time.Second, Inject: nothing,
	},
	{
		Name: "herd-outage", Rows: []string{"F3", "F22"}, On: []Kind{Single}, Load: Herd,
		What: "Hundreds of checks come at once, again and again, while Redis stands still.",
		For:  1500 * time.Millisecond, Bound: time.Second, Inject: onMaster(stopped),
	},
	{
		Name: "cancel-storm", Rows: []string{"F21"}, On: everywhere, Load: Cancels,
		What: "Clients give up most checks after some milliseconds, while a master answers late.",
		For:  2 * time.Second, Bound: time.Second, Inject: toward(rule{conduct: conduct{delay: 5 * time.Millisecond, jitter: 20 * time.Millisecond}}),
	},
}

func nothing(context.Context, *Stage, *rand.Rand) (func() error, error) {
	return func() error { return nil }, nil
}

// toward has a rule in force between Coatcheck and a master.
func toward(r rule) injection {
	return onMaster(func(_ context.Context, n *node, u *undoing) error {
		return n.obey(r, u)
	})
}

// obey has the proxies by which Coatcheck comes follow a rule.
func (n *node) obey(r rule, u *undoing) error {
	r.from = []source{coatcheck}
	for _, p := range n.fronts {
		undo, err := p.add(r)
		u.add(undo)
		if err != nil {
			return err
		}
	}
	return nil
}

func delayed(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	return toward(rule{conduct: conduct{delay: between(r, 30*time.Millisecond, 60*time.Millisecond)}})(ctx, s, r)
}

// skewed delays one way only.
func skewed(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	return toward(rule{conduct: conduct{delay: 45 * time.Millisecond, upOnly: true}})(ctx, s, r)
}

// unreachable drops what open connections say, and leaves new ones unanswered.
var unreachable = onMaster(func(_ context.Context, n *node, u *undoing) error {
	if err := n.obey(rule{conduct: conduct{dropUp: true, dropDown: true}}, u); err != nil {
		return err
	}
	for _, p := range n.fronts {
		undo, err := p.ignore()
		u.add(undo)
		if err != nil {
			return err
		}
	}
	return nil
})

func resets(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	return repeat(100*time.Millisecond, func(context.Context) { n.reset() }), nil
}

// reset ends the connections of Coatcheck's.
func (n *node) reset() {
	for _, p := range n.fronts {
		p.reset(coatcheck)
	}
}

var refuses = onMaster(func(_ context.Context, n *node, u *undoing) error {
	return n.refuse(u)
})

// refuse shuts the doors, and ends the connections of Coatcheck's. Those among Redis's
// processes live on.
func (n *node) refuse(u *undoing) error {
	for _, p := range n.fronts {
		undo, err := p.refuse()
		u.add(undo)
		if err != nil {
			return err
		}
	}
	n.reset()
	return nil
}

func flaps(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	return repeat(100*time.Millisecond, func(context.Context) {
		var u undoing
		_ = n.refuse(&u)
		time.Sleep(100 * time.Millisecond)
		_ = u.undo()
	}), nil
}

// halfBlind parts the replica of Coatcheck that is drawn from a master.
func halfBlind(ctx context.Context, s *Stage, r *rand.Rand) (func() error, error) {
	var u undoing
	n, err := s.drawMaster(ctx, r)
	if err != nil {
		return nil, err
	}
	blind := rule{conduct: cut, from: []source{replica(r.IntN(max(1, len(s.Servers))))}}
	for _, p := range n.fronts {
		undo, err := p.add(blind)
		u.add(undo)
		if err != nil {
			return u.or(err)
		}
	}
	return u.or(nil)
}
