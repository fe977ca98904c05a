package policyfile

import (
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// A Session is a session that a test or a person makes up.
type Session struct {
	UserID, Username string
	Roles            []string
	Age              time.Duration // since it was created
	Fields           map[string]string
}

// ReadSession reads a session from a file, in YAML or JSON: user_id, username,
// roles, age and fields, as in a test. Its error names every mistake.
func ReadSession(path string) (*Session, error) {
	text, err := Read(path)
	if err != nil {
		return nil, err
	}
	return parseSession(text)
}

func parseSession(text []byte) (*Session, error) {
	d, s := new(decoder), new(Session)
	if root := d.Document(text); root != nil {
		d.session(s)(root)
	} else if d.Count() == 0 {
		d.Wrong(1, "it is empty")
	}
	if err := d.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

// Live returns the session as if its user were signed in now; nil for nil.
func (s *Session) Live(now time.Time) *sessions.Session {
	if s == nil {
		return nil
	}
	return &sessions.Session{
		UserID: s.UserID, Username: s.Username, Roles: s.Roles, Fields: s.Fields,
		CreatedAt: now.Add(-s.Age), ExpiresAt: now.Add(time.Hour),
	}
}
