package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api/internal/watching"
	"github.com/coatcheck/coatcheck/sessions/api/sessionsv1/sessionsv1connect"
)

// Sessions are what the API asks: a [sessions.Manager]. Its methods are safe for concurrent
// use.
type Sessions interface {
	Fetch(ctx context.Context, key sessions.Key, f sessions.Fetch) (*sessions.Session, time.Duration, error)
	Add(ctx context.Context, key sessions.Key, fields map[string]string) error
	Revoke(ctx context.Context, key sessions.Key) error
	RevokeUser(ctx context.Context, userID string) (int, error)
	RevokeOthers(ctx context.Context, keep sessions.Key) (int, error)
	List(ctx context.Context, userID string) ([]*sessions.Session, int, error)
	Lifetimes(ctx context.Context, keys ...sessions.Key) ([]sessions.Lifetime, error)
	Now() time.Time
}

// A Question is what Check asks beyond roles: a policy by its name, or, without one, the
// rules, for a request.
type Question struct {
	Policy             string // empty: the rules choose
	Host, Method, Path string
	Headers            map[string]string
}

// A Lookup reads the session that is asked about, with the application fields that a policy
// needs.
type Lookup func(ctx context.Context, fields []string) (*sessions.Session, error)

// A Verdict is the answer to a [Question].
type Verdict struct {
	Allowed bool
	Reason  string
	// Err is the error of the lookup, where it decided, or another one for which there is
	// no verdict.
	Err error
}

// Decide answers a question about the session that lookup finds, and calls it once at most.
type Decide func(ctx context.Context, q Question, lookup Lookup) Verdict

// The defaults of a Config.
const (
	DefaultTimeout         = 500 * time.Millisecond
	DefaultMaxInFlight     = 1024
	DefaultMaxMessageBytes = 1 << 20
	DefaultMaxWatched      = watching.DefaultMaxSessions
)

// A Config is what a [Server] needs beside sessions.
type Config struct {
	// Callers are required.
	Callers *Callers
	// Decide answers questions about policies and requests. Nil: there are none.
	Decide Decide
	// Track has the store tell of changes, for Watch, as Track of sessions/redisstore does.
	// Nil: nothing is watched.
	Track func(ctx context.Context, l Listener, lease time.Duration)
	// MaxWatched is how many sessions all streams of Watch may name together; one caller may
	// name half of them. Zero: [DefaultMaxWatched].
	MaxWatched int
	// Foreign are read in place of sessions, for another framework's. Nil: they are
	// Coatcheck's own.
	Foreign Foreign
	// Timeout bounds what one call waits for the store. Zero: [DefaultTimeout].
	Timeout time.Duration
	// MaxInFlight bounds the calls at the same time; one caller may have half of them, rounded
	// up. Further ones are refused at once. Zero: [DefaultMaxInFlight].
	MaxInFlight int
	// MaxMessageBytes bounds a message that is received. Zero: [DefaultMaxMessageBytes].
	MaxMessageBytes int
	// Logger gets a line for each call. Nil: nothing is logged.
	Logger *slog.Logger
	// Level is the level of a line about a call that met no fault. Zero: Info.
	Level slog.Level
	// Metrics are where the collectors are registered. Nil: nowhere.
	Metrics prometheus.Registerer
	// Cause names why the store does not answer, for the log, in one of a few words. Nil:
	// it is not said.
	Cause func(error) string
	// Forbidden reports whether the store has refused what a call needs, because this process
	// lacks a right there: its callers are told so, and not that it does not answer. Nil: no
	// error is told apart.
	Forbidden func(error) bool
}

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = DefaultMaxMessageBytes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Cause == nil {
		c.Cause = func(error) string { return "" }
	}
	if c.Forbidden == nil {
		c.Forbidden = func(error) bool { return false }
	}
	return c
}

// Validate names what no server can have.
func (c Config) Validate() error {
	var errs []error
	if c.Callers == nil {
		errs = append(errs, errors.New("no callers"))
	}
	if c.Track != nil {
		errs = append(errs, watching.Config{MaxSessions: c.MaxWatched}.Validate())
	}
	if c.Timeout < 0 || c.MaxInFlight < 0 || c.MaxMessageBytes < 0 {
		errs = append(errs, fmt.Errorf("a timeout of %v, %d calls, messages of %d bytes: none can be negative", c.Timeout, c.MaxInFlight, c.MaxMessageBytes))
	}
	return errors.Join(errs...)
}

// A Server answers calls. It is safe for concurrent use.
type Server struct {
	config   Config
	sessions Sessions
	callers  atomic.Pointer[Callers]
	metrics  *metrics
	room     *room
	handler  http.Handler
	errors   *connect.ErrorWriter
	strays   *rate.Limiter // lines about clients that are no callers
	finding  chan struct{} // has one search for a handle
	hub      *watching.Hub // nil: nothing is watched
	watched  chan struct{} // closed when there is a stream
	watches  func()        // closes it
	beat     time.Duration // between two messages of Watch
	patience time.Duration // with a caller that does not take one

	sessionsv1connect.UnimplementedSessionServiceHandler
}

// New returns a server over sessions, or what is wrong with the configuration.
func New(of Sessions, c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{config: c.withDefaults(), sessions: of, strays: rate.NewLimiter(10, 10), finding: make(chan struct{}, 1), watched: make(chan struct{}), beat: watchBeat, patience: sendTimeout}
	s.room = newRoom(s.config.MaxInFlight)
	s.watches = sync.OnceFunc(func() { close(s.watched) })
	s.callers.Store(c.Callers)
	var err error
	if s.metrics, err = newMetrics(c.Metrics, s.room.inFlight); err != nil {
		return nil, err
	}
	if s.config.Track != nil {
		if s.hub, err = watching.New(of, watching.Config{MaxSessions: c.MaxWatched, Metrics: c.Metrics}); err != nil {
			return nil, err
		}
	}
	options := connect.WithHandlerOptions(
		connect.WithCodec(binaryCodec{}), connect.WithCodec(textCodec{jsonName}), connect.WithCodec(textCodec{jsonCharset}),
		connect.WithCompression("gzip", nil, nil), // which connect-go then knows no more
		connect.WithReadMaxBytes(s.config.MaxMessageBytes),
	)
	s.errors = connect.NewErrorWriter(options)
	_, s.handler = sessionsv1connect.NewSessionServiceHandler(service{s}, options)
	return s, nil
}

// SetCallers takes up other callers. A call that is under way keeps its own, but for Watch,
// which looks before each message whether its caller still may.
func (s *Server) SetCallers(c *Callers) { s.callers.Store(c) }

// Handler returns the path of the service and what answers below it, for
// [http.ServeMux.Handle]. It takes HTTP/1.1 and HTTP/2. How long a caller may take to send its
// message, and to take the answer, are ReadTimeout and WriteTimeout of the [http.Server].
func (s *Server) Handler() (path string, handler http.Handler) {
	return "/" + sessionsv1connect.SessionServiceName + "/", http.HandlerFunc(s.serve)
}

// Guard lets only callers get to a further service on the same port, such as reflection.
func (s *Server) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.callers.Load().authenticate(r) == nil {
			s.refuse(w, r, unauthenticated)
			return
		}
		next.ServeHTTP(w, r)
	})
}
