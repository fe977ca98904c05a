package story

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/extauthz"
)

// A Kind says what an [Event] is.
type Kind string

// The kinds of events.
const (
	SignedIn Kind = "signed_in"
	Decided  Kind = "decided"
	Ended    Kind = "ended"
	Other    Kind = "other" // a line of another message that names the subject
)

// An Event is something that happened: one line of the log, or several decisions that
// are the same but for their time and request ID.
type Event struct {
	Kind  Kind      `json:"kind"`
	Time  time.Time `json:"time"` // of the first line
	Last  time.Time `json:"last"`
	Count int       `json:"count"`

	Session string `json:"session,omitempty"` // its handle
	UserID  string `json:"user_id,omitempty"`

	// What follows is of decisions.

	Verdict string          `json:"verdict,omitempty"`
	Reason  extauthz.Reason `json:"reason,omitempty"`
	Shadow  bool            `json:"shadow,omitempty"`
	Status  int             `json:"status,omitempty"`
	Method  string          `json:"method,omitempty"`
	Host    string          `json:"host,omitempty"`
	Path    string          `json:"path,omitempty"`
	Policy  string          `json:"policy,omitempty"`
	// Cause and Cure are those of the reason, where it is one that refuses. They are
	// empty for a reason that this version does not know.
	Cause string `json:"cause,omitempty"`
	Cure  string `json:"cure,omitempty"`
	// Because is the end of the session that a decision did not find.
	Because *Event `json:"because,omitempty"`

	// What follows is of ends.

	Why      string `json:"why,omitempty"`
	By       string `json:"by,omitempty"`       // a user ID, or the name of an operator
	Sessions int    `json:"sessions,omitempty"` // how many ended
	Failed   bool   `json:"failed,omitempty"`   // whether they ended is not certain

	Message string `json:"message,omitempty"` // of other lines
	// Values are the other attributes of the line, of the last one where there are
	// several, in its order.
	Values Attributes `json:"values,omitempty"`
}

// told are the attributes that have a field of an Event, and level, which says no more
// than the kind.
var told = []string{
	"level", "session", "user_id", "verdict", "reason", "shadow", "would_be", "status", "method", "host", "path", "policy",
	"why", "by", "sessions", "outcome",
}

// newEvent is the event of a line. What its values take beyond the usual, spare loses.
func newEvent(l Line, spare *int) *Event {
	get := func(name string) string { return short(l.Get(name)) }
	e := &Event{Kind: Other, Time: l.Time, Last: l.Time, Count: 1, Session: get("session"), UserID: get("user_id")}
	switch {
	case l.Message == checkMessage && get("verdict") != "" && get("reason") != "":
		e.Kind = Decided
		e.decide(get)
	case l.Message == loginMessage && get("outcome") == "success":
		e.Kind = SignedIn
	case ends(l):
		e.Kind, e.Why, e.By, e.Failed = Ended, get("why"), get("by"), l.Message == notEndedMessage
		e.Sessions, _ = strconv.Atoi(get("sessions"))
	default:
		e.Message = short(l.Message)
	}
	e.keep(l, spare)
	return e
}

// What the values of an event may take, in bytes, of which what is beyond is cut. Those of
// a line of ours are small, but for the stack of a bug; another program could fill the
// memory with large ones, so that all together have a bound, too.
const (
	smallValues = 512
	maxValues   = 16 << 10
	maxSpare    = 2 << 20 // of a story, for what is not small
)

// keep takes the attributes that have no field.
func (e *Event) keep(l Line, spare *int) {
	most := smallValues + min(*spare, maxValues-smallValues)
	room := most
	for _, a := range l.Attributes {
		field := slices.Contains(told, a.Name)
		if e.Kind == Other {
			field = a.Name == "session" || a.Name == "user_id"
		}
		if field || room < -most {
			continue
		}
		value, cut := bounded(a.Value, max(room, 0))
		if cut {
			value += "… (cut)"
		}
		kept := Attribute{short(a.Name), value}
		room -= len(kept.Name) + len(kept.Value)
		e.Values = append(e.Values, kept)
	}
	*spare -= max(0, min(*spare, most-room-smallValues))
}

// maxField bounds a field, in bytes; Coatcheck has cut the texts of clients to 256.
const maxField = 1 << 10

// short is a field without session IDs, bounded, and no part of its line any more.
func short(s string) string {
	s, _ = bounded(s, maxField)
	return s
}

// bounded is a text without session IDs, of so many bytes at most and twice as many
// looked at. A word that is cut could be most of an ID, and too short to be seen as one:
// the first cut drops it, and the second comes when no word is long enough.
func bounded(s string, most int) (text string, cut bool) {
	if len(s) > 2*most {
		s, cut = strings.TrimRight(s[:2*most], idCharacters), true
	}
	s = hidden(s)
	text = strings.ToValidUTF8(strings.Clone(s[:min(len(s), most)]), "\uFFFD")
	return text, cut || len(s) > most
}

func (e *Event) decide(get func(string) string) {
	e.Verdict, e.Reason, e.Policy = get("verdict"), extauthz.Reason(get("reason")), get("policy")
	e.Method, e.Host, e.Path = get("method"), get("host"), get("path")
	e.Status, _ = strconv.Atoi(get("status"))
	e.Shadow = get("shadow") == "true"
	if row, ok := rowOf(e.Reason); ok && (row.Status() != 0 || e.Verdict != "allow") {
		e.Cause, e.Cure = row.Cause, row.Cure
	}
}

var rows = extauthz.Reasons()

// rowOf finds a reason in the table, if this version knows it.
func rowOf(reason extauthz.Reason) (row extauthz.ReasonInfo, ok bool) {
	i := slices.IndexFunc(rows, func(r extauthz.ReasonInfo) bool { return r.Reason == reason })
	if i < 0 {
		return row, false
	}
	return rows[i], true
}

// Refused reports whether the request did not reach its upstream.
func (e *Event) Refused() bool { return e.Kind == Decided && e.Verdict != "allow" }

// sameAs is what two decisions have in common that are folded into one event.
func (e *Event) sameAs() string {
	return strings.Join([]string{
		e.Session, e.Verdict, string(e.Reason), strconv.FormatBool(e.Shadow), strconv.Itoa(e.Status), e.Method, e.Host, e.Path, e.Policy,
	}, "\x00")
}

// fold takes up another event of the same kind.
func (e *Event) fold(other *Event) {
	e.Count += other.Count
	if other.Time.Before(e.Time) {
		e.Time = other.Time
	}
	if !other.Last.Before(e.Last) {
		e.Last, e.Values = other.Last, other.Values
	}
}

// ended reports whether the event may be the end of a session of that user.
func (e *Event) ended(session, user string, before time.Time) bool {
	if e.Kind != Ended || e.Failed || e.Time.After(before) {
		return false
	}
	if e.Why == "revoke_others" {
		return e.UserID == user && user != "" && e.Session != session
	}
	return e.Session == session || e.Session == "" && e.UserID == user && user != ""
}

// byTime puts the first event first; of one time, a login comes before a decision, and
// that before an end.
func byTime(a, b *Event) int {
	order := []Kind{SignedIn, Decided, Ended, Other}
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)))
}
