package login

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/internal/notice"
	"github.com/coatcheck/coatcheck/sessions"
)

// endedParameter lets the page say which sessions were signed out.
const endedParameter = "ended"

// withSession serves a request of a user who is signed in, and leads others to sign
// in.
func (h *Handler) withSession(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request, *sessions.Session) *problem) *problem {
	s, p := h.signedIn(r)
	switch {
	case p != nil:
		return p
	case s == nil:
		return h.mustSignIn(w, r, "sessions")
	}
	return serve(w, r, s)
}

// sessionsPage lists where the user is signed in.
func (h *Handler) sessionsPage(w http.ResponseWriter, r *http.Request) *problem {
	return h.withSession(w, r, h.listSessions)
}

// endSessions signs out one session of the user, or all others.
func (h *Handler) endSessions(w http.ResponseWriter, r *http.Request) *problem {
	return h.withSession(w, r, h.endNamed)
}

func (h *Handler) listSessions(w http.ResponseWriter, r *http.Request, s *sessions.Session) *problem {
	list, unlisted, err := h.config.Sessions.List(r.Context(), s.UserID)
	if err != nil {
		return fault(r.Context(), err)
	}
	h.noticeUnlisted(r.Context(), list, unlisted, s)
	rows, more := h.rows(h.in(r), list, unlisted, s)
	if wantsJSON(r) {
		h.speak(w, r)
		writeJSON(w, http.StatusOK, typeJSON, struct {
			Sessions []row `json:"sessions"`
			More     int   `json:"more"` // sessions that are not listed
		}{rows, more})
		return nil
	}
	v := view{page: "sessions", User: displayName(s), Sessions: rows, More: more}
	switch r.URL.Query().Get(endedParameter) {
	case "one":
		v.state, v.notice = "state_ended_one", "ended_one"
	case "others":
		v.state, v.notice = "state_ended_others", "ended_others"
	}
	v.unreplicated = v.notice != "" && r.URL.Query().Has(unreplicatedParameter)
	h.show(w, r, v)
	return nil
}

// noticeUnlisted notices that the list lacks the session that asks for it. One that was
// signed out meanwhile may lack.
func (h *Handler) noticeUnlisted(ctx context.Context, list []*sessions.Session, more int, s *sessions.Session) {
	if more > 0 || slices.ContainsFunc(list, func(listed *sessions.Session) bool { return listed.Key == s.Key }) {
		return
	}
	if _, err := h.config.Sessions.Lookup(ctx, s.Key); err == nil {
		h.notices.Say(notice.UnlistedRecord, slog.String("user_id", s.UserID), slog.Int("sessions", 1), slog.String("session", s.Key.Handle()))
	}
}

// maxRows bounds the list, which a client that knows one password can make long.
const maxRows = 100

// rows has the current session first, and then the others, the newest first; more
// is how many sessions have no row, those included that are not listed.
func (h *Handler) rows(p *pages, list []*sessions.Session, unlisted int, current *sessions.Session) (rows []row, more int) {
	all := len(list) + unlisted
	list = slices.DeleteFunc(list, func(s *sessions.Session) bool { return s.Key == current.Key })
	list = slices.Insert(list, 0, current)
	list = list[:min(maxRows, len(list))]
	now := h.config.Sessions.Now()
	named := make(map[string]int)
	for _, s := range list {
		used := h.lastUsed(s, now)
		rows = append(rows, row{
			Handle: s.Key.Handle(), Current: s.Key == current.Key, Browser: p.browserName(s.UserAgent), Address: s.Address,
			CreatedAt: s.CreatedAt.UTC(), LastUsed: used, Ago: p.ago(now.Sub(used)),
		})
		last := &rows[len(rows)-1]
		if named[last.Browser]++; named[last.Browser] > 1 {
			last.Number = named[last.Browser]
		}
	}
	return rows, max(0, all-len(rows))
}

// lastUsed goes by the idle expiry, which each use moves. For a session that is
// shorter than its idle timeout only its creation is known.
func (h *Handler) lastUsed(s *sessions.Session, now time.Time) time.Time {
	used := s.IdleExpiresAt.Add(-h.config.IdleTimeout)
	if s.IdleExpiresAt.IsZero() || used.Before(s.CreatedAt) {
		used = s.CreatedAt
	}
	if used.After(now) {
		used = now
	}
	return used.UTC().Truncate(time.Second)
}

// endNamed signs out the sessions that the form or the JSON names.
func (h *Handler) endNamed(w http.ResponseWriter, r *http.Request, s *sessions.Session) *problem {
	handle, others, p := readEnding(r)
	if p != nil {
		return p
	}
	if handle == s.Key.Handle() {
		return h.logout(w, r)
	}
	ctx, cancel := finish(r)
	defer cancel()
	ended, e := "one", &ending{request: r, why: whyChosen, by: s.UserID}
	var err error
	if others {
		ended, e.why = "others", whyOthers
		err = h.endUser(ctx, e, s.UserID, s.Key)
	} else {
		err = h.endOne(ctx, e, handle)
	}
	switch {
	case others && gone(err): // this one was signed out meanwhile, and so ended nothing
		return h.mustSignIn(w, r, "sessions")
	case err != nil:
		return fault(ctx, err)
	case wantsJSON(r):
		h.answerEnded(w, r, e)
		return nil
	}
	return seeOther(w, h.config.BasePath+"sessions?"+endedParameter+"="+ended+e.parameter())
}

// endOne ends one session of the user who asks; a session that is gone already has
// ended.
func (h *Handler) endOne(ctx context.Context, e *ending, handle string) error {
	list, _, err := h.config.Sessions.List(ctx, e.by)
	if err != nil {
		return err
	}
	for _, s := range list {
		if s.Key.Handle() == handle {
			return h.end(ctx, e, s.Key)
		}
	}
	return nil
}

// readEnding reads a handle, or that all others are to end, and not both.
func readEnding(r *http.Request) (handle string, others bool, p *problem) {
	switch mediaType(r) {
	case typeJSON:
		var body struct {
			Handle string `json:"handle"`
			Others bool   `json:"others"`
		}
		if p := readJSON(r, &body); p != nil {
			return "", false, p
		}
		handle, others = body.Handle, body.Others
	case typeForm:
		if err := r.ParseForm(); err != nil {
			return "", false, unreadable(err)
		}
		handle, others = r.PostForm.Get("handle"), r.PostForm.Get("others") != ""
	default:
		return "", false, &problem{code: wrongType}
	}
	if (handle != "") == others {
		return "", false, &problem{code: badRequest}
	}
	return handle, others, nil
}
