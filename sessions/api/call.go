package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/coatcheck/coatcheck/sessions"
	pb "github.com/coatcheck/coatcheck/sessions/api/sessionsv1"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
)

// methods are the methods by their paths, with the right that each needs.
var methods = map[string]method{
	sessionsv1connect.SessionServiceGetProcedure:              {"Get", Get},
	sessionsv1connect.SessionServiceCheckProcedure:            {"Check", Check},
	sessionsv1connect.SessionServiceAddFieldsProcedure:        {"AddFields", Add},
	sessionsv1connect.SessionServiceRevokeProcedure:           {"Revoke", Revoke},
	sessionsv1connect.SessionServiceRevokeUserProcedure:       {"RevokeUser", Revoke},
	sessionsv1connect.SessionServiceListUserSessionsProcedure: {"ListUserSessions", List},
	sessionsv1connect.SessionServiceWatchProcedure:            {"Watch", Watch},
}

type method struct {
	name  string
	right Right
}

// A call is one call, and what its line of the log says of it.
type call struct {
	method  method
	caller  *Caller
	began   time.Time
	control *http.ResponseController
	request *http.Request
	share   *share // of its caller; nil: it takes no room among the calls at the same time
	body    body

	answered bool         // by a method, or by a refusal before it
	code     connect.Code // 0: the call was answered
	handle   string       // of the session, once it is known to be named well
	reason   string       // of Check
	watched  int          // sessions, by Watch
	ended    int          // of those, or, by RevokeUser, of a user
	err      error        // what lies behind a fault; never logged itself
}

type callKey struct{}

func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// serve answers one request. It looks at everything that needs no body first.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	m, known := methods[r.URL.Path]
	if !known {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost { // a GET would have a session ID in its URL
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "call it with POST", http.StatusMethodNotAllowed)
		return
	}
	c := &call{method: m, began: time.Now(), control: http.NewResponseController(w), request: r}
	defer s.end(c)
	defer s.release(c)
	if p := s.screen(c, r); p != nil {
		c.refused(p)
		s.refuse(w, r, p)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	c.body = newBody(s, c, r.Body)
	r.Body = &c.body
	s.handler.ServeHTTP(w, r)
}

// mediaTypes are those that connect-go gives back with an error.
var mediaTypes = []string{
	"", "application/json", "application/proto", "application/grpc", "application/grpc+proto", "application/grpc+json", "application/grpc-web",
	"application/grpc-web+proto", "application/grpc-web+json", "application/connect+proto", "application/connect+json",
}

// refuse tells a client of a problem, in its protocol. For a media type of its own the problem is
// told in JSON, since connect-go would repeat the type.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, p *problem) {
	if !slices.Contains(mediaTypes, r.Header.Get("Content-Type")) {
		r = r.Clone(r.Context())
		r.Header.Del("Content-Type")
	}
	_ = s.errors.Write(w, r, p.told())
}

// screen is what needs no body: who calls, room, the right, and the headers.
func (s *Server) screen(c *call, r *http.Request) (full *problem) {
	if c.caller = s.callers.Load().authenticate(r); c.caller == nil {
		return unauthenticated
	}
	switch c.share, full = s.room.enter(c.caller.Name); {
	case full != nil:
		return full
	case !c.caller.may(c.method.right):
		return lacksRight
	case !acceptable(r.Header):
		return badHeader
	}
	return nil
}

// acceptable reports whether connect-go takes the headers. Its own errors about them would
// repeat them.
func acceptable(h http.Header) bool {
	for _, name := range []string{"Content-Encoding", "Grpc-Encoding", "Connect-Content-Encoding"} {
		for _, value := range h[name] {
			if value != "" && value != "identity" {
				return false
			}
		}
	}
	if v := h.Get("Connect-Protocol-Version"); v != "" && v != "1" {
		return false
	}
	grpc := h.Get("Grpc-Timeout")
	return digits(h.Get("Connect-Timeout-Ms"), 10) && digits(strings.TrimRight(grpc, "HMSmun"), 8) && (grpc == "" || len(strings.TrimRight(grpc, "HMSmun")) == len(grpc)-1)
}

// digits reports whether s is empty or a number of at most limit digits.
func digits(s string, limit int) bool {
	return len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// refused notes how the call ended.
func (c *call) refused(p *problem) { c.answered, c.code = true, p.code }

// lasting lifts the limits of a call that goes on, such as Watch, which has limits of its own:
// on the calls at the same time, and the time limits of the [http.Server]. The other calls leave
// those as they are: to set one for a stream of HTTP/2 costs as much as a fifth of a call.
func (s *Server) lasting(c *call) {
	s.release(c)
	_ = c.control.SetReadDeadline(time.Time{})
	_ = c.control.SetWriteDeadline(time.Time{})
}

// answer has a method answer, within its time, and turns its error into what the caller is
// told. A panic is a bug, and ends one call.
func answer[Q, A any](ctx context.Context, s *Server, q *connect.Request[Q], do func(*Server, context.Context, *call, *Q) (*A, error)) (r *connect.Response[A], err error) {
	c := callOf(ctx)
	c.answered = true
	defer func() {
		if value := recover(); value != nil {
			r, err = nil, s.bug(ctx, c, value)
		}
	}()
	bound, cancel := s.bound(ctx)
	defer cancel()
	a, err := do(s, bound, c, q.Msg)
	if err != nil {
		p := problemOf(ctx, err)
		if p == unavailable && s.config.Forbidden(err) {
			p = forbidden
		}
		c.refused(p)
		c.err = err
		return nil, p.told()
	}
	return connect.NewResponse(a), nil
}

// bug is what a caller is told of a panic. The log has where it was, and not what it said.
func (s *Server) bug(ctx context.Context, c *call, value any) error {
	s.config.Logger.ErrorContext(ctx, "the session API met a bug", "panic", fmt.Sprintf("%T", value), "stack", string(debug.Stack()))
	c.refused(internal)
	return internal.told()
}

// margin is what is left of the time of a caller for our answer: it is then UNAVAILABLE, and
// not the caller's own DEADLINE_EXCEEDED, which says less.
const margin = 20 * time.Millisecond

// bound ends a call in time.
func (s *Server) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	end := time.Now().Add(s.config.Timeout)
	if theirs, ok := ctx.Deadline(); ok {
		left := time.Until(theirs)
		if theirs = theirs.Add(-min(margin, left/4)); theirs.Before(end) {
			end = theirs
		}
	}
	return context.WithDeadline(ctx, end)
}

// key is the key of the session that a request names.
func (c *call) key(name *pb.SessionName) (sessions.Key, error) {
	switch name := name.GetName().(type) {
	case *pb.SessionName_Key:
		key, err := sessions.ParseKey(name.Key)
		if err != nil {
			return "", notAKey
		}
		c.handle = key.Handle()
		return key, nil
	case *pb.SessionName_Id:
		if !c.caller.may(ByID) {
			return "", lacksByID
		}
		// A browser may send anything for a cookie: what has not the form of an ID is no
		// session's.
		id, err := sessions.ParseID(name.Id)
		if err != nil {
			return "", notFound
		}
		c.handle = id.Key().Handle()
		return id.Key(), nil
	case *pb.SessionName_Handle:
		return "", noHandles
	}
	return "", noName
}

// end counts and logs the call.
func (s *Server) end(c *call) {
	if !c.answered { // connect-go could make nothing of the message
		c.code = connect.CodeInvalidArgument
	}
	took := time.Since(c.began)
	s.metrics.observe(c, took)
	level, fault := s.config.Level, c.code == connect.CodeUnavailable || c.code == connect.CodeInternal
	switch {
	case fault:
		level = slog.LevelError
	case c.caller == nil:
		if level = slog.LevelWarn; !s.strays.Allow() {
			return
		}
	}
	if !s.config.Logger.Enabled(context.Background(), level) {
		return
	}
	s.config.Logger.LogAttrs(context.Background(), level, "api call", s.line(c, took)...)
}

// line is what the log says of a call: no ID, no field, no user and no role.
func (s *Server) line(c *call, took time.Duration) []slog.Attr {
	attrs := make([]slog.Attr, 0, 9)
	add := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	if c.caller != nil {
		add("caller", c.caller.Name)
	}
	add("call", c.method.name)
	add("session", c.handle)
	add("outcome", outcome(c.code))
	add("reason", c.reason)
	if c.err != nil && c.code == connect.CodeUnavailable && !errors.Is(c.err, sessions.ErrLayout) {
		add("cause", s.config.Cause(c.err))
	}
	switch {
	case c.watched > 0:
		attrs = append(attrs, slog.Int("sessions", c.watched), slog.Int("ended", c.ended))
	case c.ended > 0:
		attrs = append(attrs, slog.Int("sessions", c.ended))
	}
	return append(attrs, slog.Duration("duration", took))
}

// outcome is a code in the log and in the metrics.
func outcome(c connect.Code) string {
	if c == 0 {
		return "ok"
	}
	return c.String()
}
