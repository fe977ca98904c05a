package story

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/coatcheck/coatcheck/extauthz"
)

// A Story is what a log tells of a [Query].
type Story struct {
	Events []*Event `json:"events"` // in order of time
	// LeftOut counts the events that are too many to be kept.
	LeftOut []LeftOut `json:"left_out,omitempty"`
	// Sessions is how many sessions are about the query, by their handles.
	Sessions int `json:"sessions"`

	Lines      int `json:"lines"`      // all lines of the log
	Coatcheck  int `json:"coatcheck"`  // decisions, logins and ends among them
	Unreadable int `json:"unreadable"` // lines that are cut, changed or too long
	// FirstUnreadable is the number of the first such line, counted over all files.
	FirstUnreadable int `json:"first_unreadable,omitempty"`
	// Allowed reports whether the log holds any allowed request: it has none where
	// log.decisions is denied or faults.
	Allowed bool `json:"allowed"`
}

// A LeftOut counts what was left out for one cause.
type LeftOut struct {
	Kind    Kind            `json:"kind"`
	Verdict string          `json:"verdict,omitempty"`
	Reason  extauthz.Reason `json:"reason,omitempty"`
	Count   int             `json:"count"`
}

// The greatest numbers of events of a story. Each of the first two holds for refusals
// and for allowed requests apart, so that the one cannot hide the other.
const (
	maxDecided = 1000
	maxEvents  = 1000 // of each other kind
)

// Tell reads the log twice and tells the story. Its error is [ErrAmbiguous], or says
// what of the log cannot be read.
func Tell(ctx context.Context, log *Log, q Query) (*Story, error) {
	t := &teller{story: &Story{Events: []*Event{}}, subject: newSubject(q), folds: make(map[string]*Event), leftOut: make(map[LeftOut]int), kept: make(map[LeftOut]int), spare: maxSpare}
	if err := log.each(ctx, t.first); err != nil {
		return nil, err
	}
	if err := t.subject.learned(); err != nil {
		return nil, err
	}
	if err := log.each(ctx, t.second); err != nil {
		return nil, err
	}
	return t.end(), nil
}

// A teller is one Tell.
type teller struct {
	story   *Story
	subject *subject

	folds   map[string]*Event // decisions, by what they have in common
	maybe   []*Event          // ends of all sessions of a user who may be the subject
	before  []*Event          // ends before Since, which explain later decisions
	kept    map[LeftOut]int   // events, by kind and verdict
	leftOut map[LeftOut]int
	spare   int // for values that are not small
}

// first counts a line and learns from it. Only lines of a kind that is told are kept.
func (t *teller) first(text []byte) (keep bool) {
	t.story.Lines++
	line, err := Parse(text)
	if text == nil || errors.Is(err, ErrUnreadable) {
		if t.story.Unreadable++; t.story.Unreadable == 1 {
			t.story.FirstUnreadable = t.story.Lines
		}
		return false
	}
	if err != nil {
		return false
	}
	switch line.Message {
	case checkMessage, loginMessage, endedMessage, notEndedMessage:
		t.story.Coatcheck++
	}
	if line.Message == checkMessage && line.Get("verdict") == "allow" {
		t.story.Allowed = true
	}
	t.subject.learn(line)
	return line.Get("session") != "" || line.Get("user_id") != "" || line.Get("request_id") != ""
}

// second tells a line, if it is about the subject.
func (t *teller) second(text []byte) (keep bool) {
	if text == nil || !t.subject.mayConcern(text) {
		return false
	}
	line, err := Parse(text)
	if err != nil {
		return false
	}
	switch yes, maybe := t.subject.concerns(line); { // it learns from older lines, too
	case line.Time.Before(t.subject.Since):
		if yes || maybe {
			t.before = recent(t.before, line, &t.spare)
		}
	case yes:
		t.tell(newEvent(line, &t.spare))
	case maybe:
		t.maybe = recent(t.maybe, line, &t.spare)
	}
	return false
}

// recent adds an end, and keeps those that were read last.
func recent(list []*Event, l Line, spare *int) []*Event {
	if !ends(l) {
		return list
	}
	return append(list[max(0, len(list)-maxEvents+1):], newEvent(l, spare))
}

// tell takes up an event: into one that is the same, or as a new one.
func (t *teller) tell(e *Event) {
	limit, class := maxEvents, LeftOut{Kind: e.Kind}
	if e.Kind == Decided {
		if same := t.folds[e.sameAs()]; same != nil {
			same.fold(e)
			return
		}
		limit, class.Verdict = maxDecided, "allow"
		if e.Refused() {
			class.Verdict = "deny"
		}
	}
	if t.kept[class] == limit {
		if _, ok := rowOf(e.Reason); ok { // else another program could make the list as long as its log
			class.Reason = e.Reason
		}
		t.leftOut[class]++
		return
	}
	t.kept[class]++
	if e.Kind == Decided {
		t.folds[e.sameAs()] = e
	}
	t.story.Events = append(t.story.Events, e)
}

// end adds what the whole log had to be read for, and puts all into order.
func (t *teller) end() *Story {
	s := t.story
	owners := slices.Collect(maps.Values(t.subject.owner))
	for _, e := range t.maybe {
		if slices.Contains(owners, e.UserID) && !t.beforeLogin(e) {
			s.Events = append(s.Events, e)
		}
	}
	slices.SortStableFunc(s.Events, byTime)
	explainMissing(s.Events, t.before, t.subject.owner)
	for class, n := range t.leftOut {
		class.Count = n
		s.LeftOut = append(s.LeftOut, class)
	}
	if t.subject.more > 0 {
		s.LeftOut = append(s.LeftOut, LeftOut{Kind: "session", Count: t.subject.more})
	}
	slices.SortFunc(s.LeftOut, func(a, b LeftOut) int { return b.Count - a.Count })
	s.Sessions = len(t.subject.handles)
	return s
}

// beforeLogin reports whether all sessions of the subject, of which the log has the
// logins, are younger than the event.
func (t *teller) beforeLogin(e *Event) bool {
	began := slices.DeleteFunc(slices.Clone(t.story.Events), func(e *Event) bool { return e.Kind != SignedIn })
	return len(began) > 0 && !slices.ContainsFunc(began, func(b *Event) bool { return !e.Time.Before(b.Time) })
}

// explainMissing gives each decision that found no session the end of that session.
func explainMissing(events, before []*Event, owner map[string]string) {
	ends := slices.DeleteFunc(slices.Concat(before, events), func(e *Event) bool { return e.Kind != Ended })
	slices.SortStableFunc(ends, func(a, b *Event) int { return b.Time.Compare(a.Time) })
	for _, e := range events {
		if e.Reason != extauthz.NotFound || e.Session == "" {
			continue
		}
		if i := slices.IndexFunc(ends, func(end *Event) bool { return end.ended(e.Session, owner[e.Session], e.Last) }); i >= 0 {
			e.Because = ends[i]
		}
	}
}
