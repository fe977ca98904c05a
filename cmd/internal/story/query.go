package story

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Query says whose story is told. Exactly one of UserIDs, Handle and RequestID is
// set.
type Query struct {
	// UserIDs are those of one user, who has several where several sources have a user
	// of the same name.
	UserIDs []string
	// Handle is the beginning of a session's handle.
	Handle string
	// RequestID is what Envoy sends as x-request-id.
	RequestID string
	// Since leaves out what was before. Sessions are learned from all lines.
	Since time.Time
}

// maxHandles bounds how many sessions of a user are followed.
const maxHandles = 100_000

// The messages of the lines that this package knows.
const (
	checkMessage    = "check"
	loginMessage    = "login"
	endedMessage    = "session ended"
	notEndedMessage = "session not ended for certain"
)

// ends reports whether a line is about the end of sessions.
func ends(l Line) bool { return l.Message == endedMessage || l.Message == notEndedMessage }

// ErrAmbiguous says that more than one session of the log has a handle that begins as
// [Query.Handle] does.
var ErrAmbiguous = errors.New("more than one session of the log has a handle that begins so")

// A subject is what the first pass has learned of the query.
type subject struct {
	Query
	handles map[string]bool
	more    int               // handles beyond maxHandles
	owner   map[string]string // user IDs of the handles, learned in the second pass
	needles [][]byte          // a line without them is about something else; nil: unknown
}

func newSubject(q Query) *subject {
	return &subject{Query: q, handles: make(map[string]bool), owner: make(map[string]string)}
}

// handleForm is what a handle looks like in a log.
var handleForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,12}$`)

// learn takes from a line which sessions matter. What is no handle, another program has
// written.
func (s *subject) learn(l Line) {
	session := l.Get("session")
	if !handleForm.MatchString(session) {
		return
	}
	switch {
	case s.Handle != "" && !strings.HasPrefix(session, s.Handle), s.RequestID != "" && l.Get("request_id") != s.RequestID,
		s.UserIDs != nil && !slices.Contains(s.UserIDs, l.Get("user_id")):
	case s.handles[session]:
	case len(s.handles) == maxHandles:
		s.more++
	default:
		s.handles[strings.Clone(session)] = true // it is a part of the line
	}
}

// plain is text that a log holds as it stands, in both forms.
var plain = regexp.MustCompile(`^[A-Za-z0-9_.:@/-]+$`)

// learned ends the first pass: it looks at the handles, and makes the needles.
func (s *subject) learned() error {
	if s.Handle != "" && len(s.handles) > 1 {
		var some []string
		for handle := range s.handles {
			some = append(some, handle)
		}
		slices.Sort(some)
		return fmt.Errorf("%w: %s", ErrAmbiguous, strings.Join(some[:min(len(some), 5)], ", "))
	}
	words := append([]string{endedMessage, notEndedMessage}, s.UserIDs...)
	if s.RequestID != "" {
		words = append(words, s.RequestID)
	}
	for handle := range s.handles {
		words = append(words, handle)
	}
	if len(words) > 32 {
		return nil // to look for so many takes longer than to read the line
	}
	for _, word := range words {
		if !plain.MatchString(strings.ReplaceAll(word, " ", "")) {
			s.needles = nil
			return nil
		}
		s.needles = append(s.needles, []byte(word))
	}
	return nil
}

// mayConcern reports whether a line can be about the subject: a quick look before the
// line is read.
func (s *subject) mayConcern(text []byte) bool {
	return s.needles == nil || slices.ContainsFunc(s.needles, func(n []byte) bool { return bytes.Contains(text, n) })
}

// concerns reports whether a line is about the subject. A line about all sessions of
// a user may be: that is known once the second pass has seen whose they are.
func (s *subject) concerns(l Line) (yes, maybe bool) {
	session, user := l.Get("session"), l.Get("user_id")
	ours := s.handles[session]
	if ours && user != "" && (l.Message == loginMessage || ends(l)) {
		s.owner[strings.Clone(session)] = short(user)
	}
	switch {
	case s.UserIDs != nil:
		return ours || user != "" && slices.Contains(s.UserIDs, user), false
	case s.RequestID != "" && l.Get("request_id") == s.RequestID:
		return true, false
	case ours && (s.Handle != "" || l.Message != checkMessage):
		return true, false
	}
	return false, wide(l)
}

// wide reports whether a line is about all sessions of a user, or all but the one that
// it names.
func wide(l Line) bool { return ends(l) && (l.Get("session") == "" || l.Get("why") == "revoke_others") }
