// Package history judges what servers of Coatcheck answered, by all that was done to each
// session and when. It knows no network and no clock: the caller tells it of every
// operation, before it is sent and once it has returned.
//
//	h := history.New(history.Rules{Idle: 20 * time.Second, Step: 2 * time.Second, Budget: time.Second})
//	s := h.Issued(began, returned, history.Subject{Handle: key.Handle(), Key: string(key), User: "42"})
//	check := s.Ask(now(), history.Question{Route: history.Required})
//	check.Answer(now(), history.Answer{Verdict: history.Allowed, User: "42", Key: string(key)})
//	h.Violations() // what must never happen, each with the last events of its session
//
// The rules (docs/faults.md has them in full):
//
//   - no allow that began later than Rules.Stale after a revocation was acknowledged, nor
//     after another answer that the session is gone;
//   - no allow after the absolute timeout, nor later than a second after the idle timeout;
//   - no "sign in" for a session that must be alive;
//   - an allow has the identity and the fields of that session, and no other;
//   - no allow for an ID that was never issued, nor on a route whose role the session lacks;
//   - every answer is a verdict, and comes within its budget.
//
// An operation without an acknowledgement may have happened, or not, or may happen later:
// it makes its session uncertain in both directions, until an answer tells. Two operations
// of which neither had returned when the other began may have happened in either order.
//
// In a declared loss ([History.Lose]) Redis itself may lose what it has acknowledged. Only
// what was written meanwhile may be lost then, and it is counted apart. A revocation that
// replicas have confirmed holds from the end of the loss on.
//
// Memory is bounded by the sessions, not by the checks: a session keeps the last events
// for the excerpt of a violation, and some moments.
package history
