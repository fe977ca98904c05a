package history

import "time"

// A Route is what a check's route asks for.
type Route int

// The routes.
const (
	Required Route = iota // a session
	Optional              // a session, if there is one
	Role                  // a session with a role
)

func (r Route) String() string { return [...]string{"required", "optional", "role"}[r] }

// A Question is a check as it is sent.
type Question struct {
	Route   Route
	Replica int
}

// A Verdict is an answer's kind.
type Verdict int

// The verdicts.
const (
	Allowed         Verdict = iota // with an identity
	Anonymous                      // allowed, without one
	Unauthenticated                // 401 or 302
	Forbidden                      // 403
	Unavailable                    // 503
	Odd                            // another status
	Failed                         // no answer: a gRPC error
	verdicts
)

func (v Verdict) String() string {
	return [...]string{"ok", "ok without identity", "401", "403", "503", "another status", "gRPC error"}[v]
}

// An Answer is what a check returned.
type Answer struct {
	Verdict    Verdict
	User, Key  string // the identity
	Plan, Mark string // fields: from the start, and added
	// Lag is the part of its time in which the machine did not let the caller run.
	Lag time.Duration
}

// A Check is one that is under way.
type Check struct {
	s *Session
	Question
	begin time.Duration
}

// Ask says that a check is sent.
func (s *Session) Ask(at time.Duration, q Question) *Check {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.flying++
	return &Check{s: s, Question: q, begin: at}
}

// Cancel says that the caller gave the check up: its answer is unknown, but it may have
// slid the session.
func (c *Check) Cancel(at time.Duration) {
	c.s.h.mu.Lock()
	defer c.s.h.mu.Unlock()
	c.s.flying--
	c.s.last = max(c.s.last, at)
}

// Answer judges what the check returned. Lag is the part of its time in which the machine
// did not let this process run.
func (c *Check) Answer(at time.Duration, a Answer) {
	s, h := c.s, c.s.h
	h.mu.Lock()
	defer h.mu.Unlock()
	s.flying--
	h.sums.Checks++
	h.sums.Verdicts[a.Verdict]++
	s.note(event{kind: checkEvent, begin: c.begin, end: at, route: c.Route, replica: c.Replica, verdict: a.Verdict})
	seen := c.seen(a)
	for _, rule := range c.judge(at, a) {
		h.violated(s.violation(rule, c, at, a))
		if rule == Gone {
			seen = unseen // a wrong answer makes no later one wrong
		}
	}
	s.learn(c.begin, at, seen)
}

// sight is what an answer says of its session.
type sight int

const (
	unseen sight = iota // nothing
	living              // it was found
	absent              // it was not found
)

// seen is what the answer says of the session. Also a refusal for want of a role has found
// it.
func (c *Check) seen(a Answer) sight {
	switch {
	case a.Verdict == Allowed, a.Verdict == Forbidden && c.Route == Role:
		return living
	case a.Verdict == Unauthenticated, a.Verdict == Anonymous && c.Route == Optional:
		return absent
	}
	return unseen
}

// learn takes what an answer tells of the session into account for later answers.
func (s *Session) learn(begin, end time.Duration, seen sight) {
	if !s.issued {
		return
	}
	switch seen {
	case absent:
		if !s.h.lossy(end, end) { // else another half of Redis may have it
			s.gone = min(s.gone, end)
		}
		return
	case living:
		if !s.h.lossy(begin, end) { // else its slide may be lost
			s.sure = max(s.sure, begin+s.h.rules.Idle-s.h.rules.Step-s.h.rules.Slack)
		}
	case unseen:
	}
	s.last = max(s.last, end)
}

// judge returns the rules that an answer breaks.
func (c *Check) judge(end time.Duration, a Answer) []Rule {
	var broken []Rule
	if c.failed(end, a) {
		broken = append(broken, Error)
	}
	if end-c.begin-a.Lag > c.s.h.rules.Budget && !c.s.h.down(c.Replica, c.begin, end) {
		broken = append(broken, Late)
	}
	switch c.seen(a) {
	case living:
		broken = append(broken, c.judgeLiving(end, a)...)
	case absent:
		broken = append(broken, c.judgeAbsent(end)...)
	case unseen:
		if a.Verdict == Anonymous {
			broken = append(broken, Open)
		}
	}
	return broken
}

// failed reports whether an answer is no verdict that these routes have.
func (c *Check) failed(end time.Duration, a Answer) bool {
	switch a.Verdict {
	case Failed:
		return !c.s.h.down(c.Replica, c.begin, end)
	case Forbidden:
		return c.Route != Role
	case Odd:
		return true
	}
	return false
}

// judgeLiving judges an answer that found the session.
func (c *Check) judgeLiving(end time.Duration, a Answer) []Rule {
	s := c.s
	if !s.issued {
		return []Rule{Unknown}
	}
	var broken []Rule
	add := func(rule Rule, is bool) {
		if is {
			broken = append(broken, rule)
		}
	}
	add(Revoked, s.holdsRevoked(c.begin))
	add(Returned, s.returned(c.begin))
	add(Expired, c.begin > s.made+s.Absolute+s.h.rules.Slack)
	add(Idle, s.idle(c.begin))
	if a.Verdict == Forbidden {
		add(Withheld, s.Admin)
		return broken
	}
	add(Escalated, c.Route == Role && !s.Admin)
	add(Identity, a.User != s.User || a.Key != s.Key)
	add(Field, s.fieldWrong(c.begin, end, a))
	return broken
}

// holdsRevoked reports whether a check that began then must know that the session is
// revoked. What a declared loss excuses is counted.
func (s *Session) holdsRevoked(begin time.Duration) bool {
	unseen, excused := false, false
	for _, c := range s.changes {
		switch {
		case c.acked == forever || begin <= c.acked:
		case begin <= c.acked+s.h.rules.Stale:
			s.h.sums.Stale = max(s.h.sums.Stale, begin-c.acked)
		case s.h.excuses(c, begin), c.listed && s.h.written(s.began, s.made):
			excused = true
		default:
			unseen = true
		}
	}
	if unseen {
		count(&s.revived, &s.h.sums.Revived)
	} else if excused {
		count(&s.declaredRevived, &s.h.sums.DeclaredRevived)
	}
	return unseen
}

// excuses reports whether a revocation may be unseen by a check that began then, because
// a loss was declared while it was written. If replicas have confirmed it, only within the
// loss. A Redis that is emptied excuses none.
func (h *History) excuses(c change, begin time.Duration) bool {
	for _, l := range h.losses {
		if !l.all && l.overlaps(c.begun, c.acked) && (!c.confirmed || begin <= l.to) {
			return true
		}
	}
	return false
}

// returned reports whether the session was found although a check that had returned
// before said that it is gone.
func (s *Session) returned(begin time.Duration) bool {
	if s.gone == forever || begin <= s.gone+s.h.rules.Stale {
		return false
	}
	if s.h.lossy(s.gone, s.gone) || s.h.lossy(s.made, s.made) {
		count(&s.declaredRevived, &s.h.sums.DeclaredRevived)
		return false
	}
	count(&s.revived, &s.h.sums.Revived)
	return true
}

// idle reports whether the session cannot live at a moment, because no check has used it
// for so long. A check under way may have.
func (s *Session) idle(begin time.Duration) bool {
	return s.flying == 0 && begin > s.last+s.h.rules.Idle+s.h.rules.Step+s.h.rules.Slack+time.Second
}

// fieldWrong reports whether the fields are not those of the session.
func (s *Session) fieldWrong(begin, end time.Duration, a Answer) bool {
	if a.Plan != s.Plan {
		return true
	}
	switch a.Mark {
	case "":
		must := s.mark.acked != forever && begin > s.mark.acked+s.h.rules.Stale
		return must && !s.h.written(s.mark.begun, s.mark.acked)
	case s.value:
		return end < s.mark.begun
	}
	return true
}

// judgeAbsent judges an answer that did not find the session.
func (c *Check) judgeAbsent(end time.Duration) []Rule {
	s := c.s
	if !s.alive(end) || s.made > c.begin {
		return nil
	}
	if s.h.written(s.began, s.made) {
		count(&s.declaredLost, &s.h.sums.DeclaredLost)
		return nil
	}
	count(&s.lost, &s.h.sums.Lost)
	return []Rule{Gone}
}

// count counts a session once.
func count(counted *bool, sum *int) {
	if !*counted {
		*counted = true
		*sum++
	}
}
