package history

import "time"

// A Subject is what a session was issued with.
type Subject struct {
	Handle string // for excerpts
	Key    string // the name of its record, which upstreams are told
	User   string
	Plan   string // the field of that name, from the start
	Admin  bool   // has the role that the route [Role] asks for

	Idle, Absolute time.Duration // the limits that it was issued with
}

// A Session is the history of one session, as far as a later answer can depend on it.
type Session struct {
	h      *History
	issued bool // false: a session that does not exist
	Subject

	began, made time.Duration // when its login was sent and had returned

	// It lives for sure until sure, if it is not revoked; and last is when the last check
	// returned that may have slid it.
	sure, last time.Duration
	flying     int // checks under way

	changes []change      // revocations
	mark    change        // the field that was added
	value   string        // of the field
	gone    time.Duration // the first answer that it is gone had returned; forever: none has

	lost, revived                 bool
	declaredLost, declaredRevived bool
	events                        [kept]event
	recorded                      int
}

// A change is an operation that an answer may show.
type change struct {
	begun     time.Duration // forever: never
	acked     time.Duration // forever: not yet, or its outcome is unknown
	confirmed bool          // replicas have it
	listed    bool          // it found the session in the list of its user
}

var never = change{begun: forever, acked: forever}

// Issued adds a session whose login was sent and has returned at these times.
func (h *History) Issued(began, made time.Duration, s Subject) *Session {
	session := &Session{
		h: h, issued: true, Subject: s, began: began, made: made,
		sure: began + s.Idle - h.rules.Slack, last: made + s.Idle - h.rules.Idle,
		mark: never, gone: forever,
	}
	session.note(event{kind: loginEvent, begin: began, end: made})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sums.Issued++
	return session
}

// Stranger is a session that does not exist, by what its cookie is: unknown, malformed.
func (h *History) Stranger(name string) *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.strayed[name] == nil {
		h.strayed[name] = &Session{h: h, Subject: Subject{Handle: name}, mark: never, gone: forever}
	}
	return h.strayed[name]
}

// An Outcome is what came of a change.
type Outcome int

// The outcomes.
const (
	Done        Outcome = iota // acknowledged, and by replicas where they were asked
	Unconfirmed                // acknowledged, but not by enough replicas
	Absent                     // the session was gone already
	Uncertain                  // no acknowledgement: it may have happened, or may happen yet
	Refused                    // it did not happen, and will not
)

// Revoke says that a revocation is sent. The returned function says what came of it. A
// revocation that waits for no replicas is Done, and confirmed is false.
func (s *Session) Revoke(at time.Duration) (returned func(at time.Duration, o Outcome, confirmed bool)) {
	return s.revoke(change{begun: at, acked: forever})
}

// RevokeListed is Revoke for a revocation of all sessions of a user. It finds them in a list,
// and where that may have been lost in a declared loss, its acknowledgement says nothing.
func (s *Session) RevokeListed(at time.Duration) (returned func(at time.Duration, o Outcome, confirmed bool)) {
	return s.revoke(change{begun: at, acked: forever, listed: true})
}

func (s *Session) revoke(c change) (returned func(at time.Duration, o Outcome, confirmed bool)) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	i, at := len(s.changes), c.begun
	s.changes = append(s.changes, c)
	s.note(event{kind: revokeEvent, begin: at, end: forever})
	return func(end time.Duration, o Outcome, confirmed bool) {
		s.h.mu.Lock()
		defer s.h.mu.Unlock()
		s.note(event{kind: revokeEvent, begin: at, end: end, outcome: o})
		switch o {
		case Done, Unconfirmed, Absent:
			s.changes[i].acked = end
			s.changes[i].confirmed = confirmed && o == Done
		case Refused:
			s.changes[i] = never
		case Uncertain:
			s.h.sums.Uncertain++
			return
		}
		s.h.sums.Revoked++
		if o == Unconfirmed {
			s.h.sums.Unconfirmed++
		}
	}
}

// Add says that the field is being added, once for a session. The returned function says
// what came of it.
func (s *Session) Add(at time.Duration, value string) (returned func(at time.Duration, o Outcome)) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.mark, s.value = change{begun: at, acked: forever}, value
	s.note(event{kind: addEvent, begin: at, end: forever})
	return func(end time.Duration, o Outcome) {
		s.h.mu.Lock()
		defer s.h.mu.Unlock()
		s.note(event{kind: addEvent, begin: at, end: end, outcome: o})
		switch o {
		case Done, Unconfirmed:
			s.mark.acked = end
		case Absent, Refused:
			s.mark = never
		case Uncertain:
		}
	}
}

// Alive reports whether the session must be alive from begin to end.
func (s *Session) Alive(begin, end time.Duration) bool {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	return s.alive(end) && s.made <= begin
}

// alive reports whether the session must be alive until a moment. A revocation that began
// before may have happened.
func (s *Session) alive(until time.Duration) bool {
	if !s.issued || until >= s.sure || until >= s.began+s.Absolute-s.h.rules.Slack {
		return false
	}
	for _, c := range s.changes {
		if c.begun <= until {
			return false
		}
	}
	return true
}
