package history_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/envoy/faults/history"
)

// An op is an operation that the oracle remembers for ever.
type op struct {
	kind       byte // check, revoke, add
	begin, end time.Duration
	returned   bool
	route      history.Route
	answer     history.Answer
	outcome    history.Outcome
	confirmed  bool
	wrongGone  bool // a check that broke Gone
	finish     func(time.Duration)
}

// An oracle keeps all operations on one session, and judges each check by looking at all of
// them.
type oracle struct {
	rules  history.Rules
	ops    []*op
	losses [][2]time.Duration
	broken []history.Rule
}

func (o *oracle) in(begin, end time.Duration) bool {
	return slices.ContainsFunc(o.losses, func(l [2]time.Duration) bool { return begin <= l[1] && end >= l[0] })
}

// absent and living: what a check's answer says.
func absent(c *op) bool {
	return c.answer.Verdict == history.Unauthenticated || c.answer.Verdict == history.Anonymous && c.route == history.Optional
}

func living(c *op) bool {
	return c.answer.Verdict == history.Allowed || c.answer.Verdict == history.Forbidden && c.route == history.Role
}

// judge adds the rules that a check breaks which has just returned.
func (o *oracle) judge(c *op) {
	switch {
	case living(c):
		o.add(history.Revoked, o.any(func(r *op) bool { return o.unseen(r, c) && !o.excused(r, c) }))
		o.add(history.Returned, !o.in(s, s) && o.any(func(q *op) bool {
			return q.kind == 'c' && q != c && q.returned && absent(q) && !q.wrongGone && !o.in(q.end, q.end) && c.begin > q.end+o.rules.Stale
		}))
		o.add(history.Expired, c.begin > s+100*s+o.rules.Slack)
		o.add(history.Idle, o.idle(c))
		if c.answer.Verdict == history.Forbidden {
			return
		}
		o.add(history.Escalated, c.route == history.Role)
		o.add(history.Field, o.field(c))
	case absent(c):
		c.wrongGone = o.alive(c) && !o.in(0, s)
		o.add(history.Gone, c.wrongGone)
	case c.answer.Verdict == history.Anonymous:
		o.add(history.Open, true)
	case c.answer.Verdict == history.Forbidden, c.answer.Verdict == history.Failed:
		o.add(history.Error, true)
	}
}

func (o *oracle) add(rule history.Rule, is bool) {
	if is {
		o.broken = append(o.broken, rule)
	}
}

func (o *oracle) any(f func(*op) bool) bool { return slices.ContainsFunc(o.ops, f) }

func (o *oracle) unseen(r, c *op) bool {
	acked := r.kind == 'r' && r.returned && (r.outcome == history.Done || r.outcome == history.Unconfirmed || r.outcome == history.Absent)
	return acked && c.begin > r.end+o.rules.Stale
}

func (o *oracle) excused(r, c *op) bool {
	return slices.ContainsFunc(o.losses, func(l [2]time.Duration) bool {
		return r.begin <= l[1] && r.end >= l[0] && (!r.confirmed || r.outcome != history.Done || c.begin <= l[1])
	})
}

// idle: no other check is under way, and all that may have slid it are long over.
func (o *oracle) idle(c *op) bool {
	limit := o.rules.Idle + o.rules.Step + o.rules.Slack + s
	return c.begin > s+limit && !o.any(func(q *op) bool {
		slides := q.kind == 'c' && q != c && (!q.returned || !absent(q) || q.wrongGone)
		return slides && (!q.returned || c.begin <= q.end+limit)
	})
}

func (o *oracle) alive(c *op) bool {
	mayHaveEnded := func(r *op) bool { return r.kind == 'r' && (!r.returned || r.outcome != history.Refused) }
	if c.begin < s || c.end >= 100*s-o.rules.Slack || o.any(mayHaveEnded) {
		return false
	}
	sure := o.rules.Idle - o.rules.Slack
	for _, q := range o.ops {
		if q.kind == 'c' && q.returned && q != c && living(q) && !o.in(q.begin, q.end) {
			sure = max(sure, q.begin+o.rules.Idle-o.rules.Step-o.rules.Slack)
		}
	}
	return c.end < sure
}

func (o *oracle) field(c *op) bool {
	i := slices.IndexFunc(o.ops, func(a *op) bool { return a.kind == 'a' })
	given := c.answer.Mark != ""
	if i < 0 {
		return given
	}
	a := o.ops[i]
	switch {
	case a.returned && (a.outcome == history.Refused || a.outcome == history.Absent):
		return given
	case given:
		return false // it was sent, and in this order before
	}
	acked := a.returned && (a.outcome == history.Done || a.outcome == history.Unconfirmed)
	return acked && c.begin > a.end+o.rules.Stale && !o.in(a.begin, a.end)
}

// FuzzHistory tells random histories of one session to the package, which forgets, and to an
// oracle, which does not: they must agree on each rule that was broken.
func FuzzHistory(f *testing.F) {
	f.Add([]byte{0, 0, 10, 1, 0, 20, 2, 0, 30, 1, 1, 40})
	for seed := range uint64(100) { // so that a plain run of the tests tries some, too
		f.Add(randomBytes(seed, 180))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := rules
		r.Budget = 1 << 62
		if len(data) > 0 && data[0]&1 == 1 {
			r.Stale = s
		}
		o := &oracle{rules: r}
		h := history.New(r)
		session := h.Issued(0, s, history.Subject{Handle: "x", Key: "session:ada", User: "ada", Plan: "gold", Idle: r.Idle, Absolute: 100 * s})
		var flying []*op
		var lossOver func(time.Duration)
		for now := s; len(data) >= 3; data = data[3:] {
			now += time.Duration(data[2]) * s / 16
			switch data[0] % 8 {
			case 0, 1, 2: // a check begins
				c := &op{kind: 'c', begin: now, route: history.Route(data[1] % 3)}
				check := session.Ask(now, history.Question{Route: c.route})
				c.answer = answerOf(data[1] / 3)
				c.finish = func(end time.Duration) { o.judge(c); check.Answer(end, c.answer) }
				o.ops, flying = append(o.ops, c), append(flying, c)
			case 3:
				c := &op{kind: 'r', begin: now, outcome: history.Outcome(data[1] % 5), confirmed: data[1]&64 != 0}
				returned := session.Revoke(now)
				c.finish = func(end time.Duration) { returned(end, c.outcome, c.confirmed) }
				o.ops, flying = append(o.ops, c), append(flying, c)
			case 4:
				if o.any(func(a *op) bool { return a.kind == 'a' }) {
					continue
				}
				c := &op{kind: 'a', begin: now, outcome: history.Outcome(data[1] % 5)}
				returned := session.Add(now, "blue")
				c.finish = func(end time.Duration) { returned(end, c.outcome) }
				o.ops, flying = append(o.ops, c), append(flying, c)
			case 5:
				if lossOver != nil {
					lossOver(now)
					o.losses[len(o.losses)-1][1] = now
					lossOver = nil
					continue
				}
				lossOver = h.Lose(now, false)
				o.losses = append(o.losses, [2]time.Duration{now, 1 << 62})
			default:
				if len(flying) == 0 {
					continue
				}
				i := int(data[1]) % len(flying)
				c := flying[i]
				flying = slices.Delete(flying, i, i+1)
				c.end, c.returned = now, true
				c.finish(now)
			}
		}
		compare(t, h, o)
	})
}

func randomBytes(seed uint64, n int) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

func answerOf(b byte) history.Answer {
	a := history.Answer{Verdict: history.Verdict(b % 6)}
	if a.Verdict == history.Odd {
		a.Verdict = history.Failed
	}
	if a.Verdict == history.Allowed {
		a = own
		if b&32 != 0 {
			a.Mark = "blue"
		}
	}
	return a
}

func compare(t *testing.T, h *history.History, o *oracle) {
	want := make(map[history.Rule]int)
	for _, rule := range o.broken {
		want[rule]++
	}
	if got := h.Sums().Violations; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v\n%v", got, want, h.Violations())
	}
}
