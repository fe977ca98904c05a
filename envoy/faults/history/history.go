package history

import (
	"sync"
	"time"
)

// Rules are what the servers promise. All times of this package are durations since the
// beginning of the history, by a monotonic clock.
type Rules struct {
	// Idle is the servers' idle timeout, and Step how much longer a session may live.
	Idle, Step time.Duration
	// Stale is for how long after its acknowledgement a change may be unseen: 0, or with a
	// near cache its lease.
	Stale time.Duration
	// Slack is by how much the clocks of servers and of Redis may differ.
	Slack time.Duration
	// Budget is the longest time to an answer.
	Budget time.Duration
}

// A History is all that was done to the sessions of one run. Its methods are safe for
// concurrent use.
type History struct {
	rules Rules

	mu      sync.Mutex
	losses  []*loss
	downs   []*down
	sums    Sums
	found   []Violation
	strayed map[string]*Session
}

// maxViolations is how many violations are kept with their excerpts. All are counted.
const maxViolations = 20

// New begins a history.
func New(rules Rules) *History {
	return &History{rules: rules, strayed: make(map[string]*Session)}
}

// Sums are counts over a history.
type Sums struct {
	Checks   int
	Verdicts [verdicts]int
	// Violations counts those of each rule.
	Violations map[Rule]int
	// Lost and Revived are sessions: those that must be alive and were told to be gone, and
	// those that were gone and were allowed again. The declared ones are no violations.
	Lost, Revived, DeclaredLost, DeclaredRevived int
	Issued, Revoked, Unconfirmed, Uncertain      int
	// Stale is the longest time from an acknowledgement to the beginning of a check that
	// did not see it, and was right by Rules.Stale.
	Stale time.Duration
}

// WrongAllows counts the allows that no rule permits.
func (s Sums) WrongAllows() int {
	n := 0
	for rule, count := range s.Violations {
		if rule.allow() {
			n += count
		}
	}
	return n
}

// WrongDenies counts the denials of sessions that must be alive.
func (s Sums) WrongDenies() int { return s.Violations[Gone] + s.Violations[Withheld] }

// Wrong counts all violations but those of [Late]: a right answer can be late by a machine
// that is busy.
func (s Sums) Wrong() int {
	n := 0
	for rule, count := range s.Violations {
		if rule != Late {
			n += count
		}
	}
	return n
}

// Sums returns the counts so far.
func (h *History) Sums() Sums {
	h.mu.Lock()
	defer h.mu.Unlock()
	sums := h.sums
	sums.Violations = make(map[Rule]int)
	for rule, n := range h.sums.Violations {
		sums.Violations[rule] = n
	}
	return sums
}

// Violations returns the first violations, 20 at most, in the order in which they were found.
func (h *History) Violations() []Violation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Violation(nil), h.found...)
}

// violated counts a violation, and keeps it if it is one of the first.
func (h *History) violated(v Violation) {
	if h.sums.Violations == nil {
		h.sums.Violations = make(map[Rule]int)
	}
	h.sums.Violations[v.Rule]++
	if len(h.found) < maxViolations {
		h.found = append(h.found, v)
	}
}
