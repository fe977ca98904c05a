package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coatcheck/coatcheck/sessions"
)

// DefaultTimeout bounds the lookup of a session unless configured otherwise, as in a
// check.
const DefaultTimeout = 150 * time.Millisecond

// Sessions is all that a Guard asks: *[sessions.Manager] is one. It must be safe for
// concurrent use.
type Sessions interface {
	// Touch returns the live session of id with the named application fields, and slides
	// its idle expiry. [sessions.Absent] tells its errors apart.
	Touch(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error)
}

// Config configures a Guard of [New]. The zero Config is ready.
type Config struct {
	// Cookie is the session cookie, as login sets it.
	Cookie sessions.Cookie
	// Bearer also takes the session ID from "Authorization: Bearer <ID>". A request that
	// presents both, or one of them twice, is not authenticated.
	Bearer bool
	// Fields are the application fields that handlers read.
	Fields []string
	// LoginURL is where a browser without a session is sent: a path on the same host, or
	// an absolute http or https URL. Empty: it gets 401.
	LoginURL string
	// Timeout bounds the lookup. Zero: [DefaultTimeout].
	Timeout time.Duration
	// Logger gets a line for each request that a fault refuses: an outage, a broken
	// record. No line holds a session ID or what a session holds. Nil: nothing is logged.
	Logger *slog.Logger
}

// A Guard stands in front of handlers. It is safe for concurrent use.
type Guard struct {
	identify func(*http.Request) (*sessions.Session, error)
	login    *url.URL // nil: no redirect
	logger   *slog.Logger
}

// New returns a Guard that reads the session cookie and asks s, or what is wrong with
// the configuration.
func New(s Sessions, c Config) (*Guard, error) {
	if s == nil {
		return nil, errors.New("no sessions")
	}
	login, err := sessions.ParseLoginURL(c.LoginURL)
	if c.Timeout < 0 {
		err = errors.Join(err, fmt.Errorf("timeout %v is negative", c.Timeout))
	}
	if err := errors.Join(c.Cookie.Validate(), err); err != nil {
		return nil, err
	}
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	return newGuard(func(r *http.Request) (*sessions.Session, error) { return c.lookup(r, s) }, login, c.Logger), nil
}

func newGuard(identify func(*http.Request) (*sessions.Session, error), login *url.URL, logger *slog.Logger) *Guard {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Guard{identify, login, logger}
}

// lookup is the session that a request presents. A client that hangs up does not end
// it: a connection to the store that is abandoned in the middle of a reply costs a new
// one.
func (c Config) lookup(r *http.Request, s Sessions) (*sessions.Session, error) {
	id, err := c.credential(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), c.Timeout)
	defer cancel()
	session, err := s.Touch(ctx, id, c.Fields...)
	if err == nil && (session == nil || session.UserID == "") {
		return nil, errors.New("a session without a user")
	}
	return session, err
}

func (c Config) credential(r *http.Request) (sessions.ID, error) {
	if c.Bearer {
		return c.Cookie.ReadWithBearer(sessions.CookieHeader{Lines: r.Header.Values("Cookie")}, r.Header.Values("Authorization"))
	}
	return c.Cookie.FromRequest(r)
}

// Require returns a handler that hands a request to next if the client is signed in and,
// where roles are named, has one of them.
func (g *Guard) Require(next http.Handler, roles ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := g.identify(r)
		switch {
		case err != nil:
			g.refuse(w, r, err)
		case len(roles) > 0 && !slices.ContainsFunc(roles, func(role string) bool { return slices.Contains(session.Roles, role) }):
			refuse(w, r, forbidden)
		default:
			next.ServeHTTP(w, with(r, session))
		}
	})
}

// Optional returns a handler that hands every request to next, with the session of a
// client that is signed in. Where that is not known, as in an outage, it refuses with
// 503: a page for strangers would tell the client that the session is over.
func (g *Guard) Optional(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := g.identify(r)
		switch {
		case err == nil:
			next.ServeHTTP(w, with(r, session))
		case sessions.Absent(err):
			g.log(r, err)
			next.ServeHTTP(w, with(r, nil))
		default:
			g.refuse(w, r, err)
		}
	})
}

type contextKey struct{}

// with is r with the session of this Guard: one of a Guard before it does not count.
func with(r *http.Request, session *sessions.Session) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), contextKey{}, session))
}

// FromContext returns the session of a request that a Guard has let through. It is nil
// where [Guard.Optional] let a client through that is not signed in, and where there is
// no Guard.
func FromContext(ctx context.Context) *sessions.Session {
	session, _ := ctx.Value(contextKey{}).(*sessions.Session)
	return session
}
