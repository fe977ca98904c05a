package login

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// A why is the reason for which a session ended, an attribute of its line in the log.
type why string

const (
	whyLogout     why = "logout"     // the browser that presented it signed out
	whyEverywhere why = "everywhere" // its user signed out everywhere
	whyOthers     why = "others"     // its user signed out everywhere else
	whyChosen     why = "chosen"     // its user signed out this one, on the list of sessions
	whyReplaced   why = "replaced"   // it was presented at a login, which made another
	whyUndone     why = "undone"     // it was new, and the login failed after all
)

// An ending is why sessions end, who ends them and by which request.
type ending struct {
	request *http.Request
	why     why
	by      string // user ID; empty: the user of each

	// unreplicated is set where sessions have ended and the store's replicas have not
	// acknowledged that: a failover could bring one back. The cookie goes all the same,
	// and so does a login that replaces such a session.
	unreplicated bool
}

// settle notes that replicas have not acknowledged an end, and returns other errors.
func (e *ending) settle(err error) error {
	if errors.Is(err, sessions.ErrNotReplicated) {
		e.unreplicated = true
		return nil
	}
	return err
}

// maxEndingLines bounds how many sessions have a line of their own where all of a
// user end.
const maxEndingLines = 100

// end ends one session. For a session that is gone already it returns no error and
// logs no line.
func (h *Handler) end(ctx context.Context, e *ending, key sessions.Key) error {
	userID := ""
	if s, err := h.config.Sessions.Lookup(ctx, key); err == nil { // for the log alone
		userID = s.UserID
	}
	err := h.config.Sessions.Revoke(ctx, key)
	if errors.Is(err, sessions.ErrNotFound) {
		return nil
	}
	unreplicated := errors.Is(err, sessions.ErrNotReplicated)
	if err = e.settle(err); err == nil {
		h.logEnding(ctx, e, key, userID, 1, unreplicated)
	}
	return err
}

// endUser ends all sessions of a user, or all but keep.
func (h *Handler) endUser(ctx context.Context, e *ending, userID string, keep sessions.Key) (err error) {
	list, _, _ := h.config.Sessions.List(ctx, userID) // for the log alone
	n := 0
	if keep == "" {
		n, err = h.config.Sessions.RevokeUser(ctx, userID)
	} else {
		n, err = h.config.Sessions.RevokeOthers(ctx, keep)
	}
	unreplicated := errors.Is(err, sessions.ErrNotReplicated)
	if err = e.settle(err); err == nil {
		n -= h.logListed(ctx, e, list, keep, n, unreplicated)
	}
	if n > 0 {
		h.logEnding(ctx, e, "", userID, n, unreplicated)
	}
	return err
}

// logListed logs a line for each session of the list but keep, at most n, and
// returns how many.
func (h *Handler) logListed(ctx context.Context, e *ending, list []*sessions.Session, keep sessions.Key, n int, unreplicated bool) (logged int) {
	for _, s := range list {
		if s.Key != keep && logged < min(n, maxEndingLines) {
			h.logEnding(ctx, e, s.Key, s.UserID, 1, unreplicated)
			logged++
		}
	}
	return logged
}

// logEnding logs the same attributes for every end: the session, its user, why, the
// user who ended it and their address, and replicated=false where replicas have not
// acknowledged it. Without a key the line is about n sessions that have no line of their
// own.
func (h *Handler) logEnding(ctx context.Context, e *ending, key sessions.Key, userID string, n int, unreplicated bool) {
	by := e.by
	if by == "" {
		by = userID
	}
	attrs := []any{"session", key.Handle(), "user_id", userID, "sessions", n,
		"why", string(e.why), "by", by, "address", addressText(h.clientAddress(e.request))}
	if unreplicated {
		attrs = append(attrs, "replicated", false)
	}
	h.config.Logger.InfoContext(ctx, "session ended", attrs...)
}

// finishing bounds the work that is carried to its end even if the client leaves, so
// that no session is left half made or half ended.
const finishing = 10 * time.Second

// finish is a context for that work.
func finish(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), finishing)
}
