package login

import (
	"net/http"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// An identity is who is signed in, for programs. Members are only added.
type identity struct {
	UserID        string    `json:"user_id"`
	Username      string    `json:"username"`
	Roles         []string  `json:"roles"` // never null
	CreatedAt     time.Time `json:"created_at"`
	ExpiresAt     time.Time `json:"expires_at"`
	IdleExpiresAt time.Time `json:"idle_expires_at"`
	Handle        string    `json:"handle"`
}

func identityOf(s *sessions.Session) identity {
	roles := s.Roles
	if roles == nil {
		roles = []string{}
	}
	return identity{
		UserID: s.UserID, Username: s.Username, Roles: roles, Handle: s.Key.Handle(),
		CreatedAt: s.CreatedAt.UTC(), ExpiresAt: s.ExpiresAt.UTC(), IdleExpiresAt: s.IdleExpiresAt.UTC().Truncate(time.Millisecond),
	}
}

// session says who is signed in, always as JSON.
func (h *Handler) session(w http.ResponseWriter, r *http.Request) *problem {
	r.Header.Set("Accept", typeJSON)
	s, p := h.signedIn(r)
	switch {
	case p != nil:
		return p
	case s == nil:
		return &problem{code: notSignedIn}
	}
	writeJSON(w, http.StatusOK, typeJSON, identityOf(s))
	return nil
}
