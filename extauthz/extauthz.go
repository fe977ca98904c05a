package extauthz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/coatcheck/coatcheck/sessions"
)

// DefaultTimeout bounds one check unless configured otherwise. It is below the
// 200 ms that Envoy waits, so that the answer is ours and not Envoy's. Where the
// caller's deadline comes first, a lookup ends a little before that.
const DefaultTimeout = 150 * time.Millisecond

// DefaultMaxInFlight bounds the checks that wait for their sessions at the same
// time unless configured otherwise. A healthy store has dozens in flight at most;
// behind a store that hangs this number can pile up without harm.
const DefaultMaxInFlight = 1024

// Sessions is all that a check knows of sessions: *[sessions.Manager] is one. It must
// be safe for concurrent use.
type Sessions interface {
	// Touch returns the live session of id with the named application fields,
	// and slides its idle expiry. sessions.ErrNotFound, ErrExpired and ErrBroken
	// say that the client is not signed in; with every other error that is not known.
	Touch(ctx context.Context, id sessions.ID, fields ...string) (*sessions.Session, error)
}

// A nearby source of sessions knows some of them without waiting. A Sessions may be one.
type nearby interface {
	// Peek reports whether it knows the live session of id with the named application
	// fields. Its error is nil, or one that Touch would return, and then final.
	Peek(id sessions.ID, fields []string) (*sessions.Session, bool, error)
}

// A Config configures a [Server]. The zero Config is ready.
type Config struct {
	// Cookie is the session cookie, unless there is a Format.
	Cookie sessions.Cookie
	// Format reads the session IDs of another framework from requests; Sessions must be of
	// the same one. The key of such a session is a secret, so the header of the key is
	// always removed and never set; and such a session does not tell when it began, so a
	// policy must not ask for its age. Nil: Coatcheck's own sessions.
	Format sessions.Format
	// KeepCookie lets the upstream see the session cookie. By default it is cut
	// out, because an attacker inside the upstream could use it.
	KeepCookie bool
	// Bearer also takes the session ID from "Authorization: Bearer <ID>", for
	// clients that keep no cookies. Such a header is cut out as the cookie is. A
	// client that presents both, or one of them twice, is not authenticated. Other
	// credentials are left alone. Sessions of a Format have no such form.
	Bearer bool
	// Paths says which paths are taken where a route does not say otherwise. Empty:
	// [PathsSafe].
	Paths Paths
	// IgnoreKeys are keys of context_extensions that other filters or servers read.
	// Every other unknown key denies, so that a typing error does not open a route.
	IgnoreKeys []string
	// HeaderPrefix begins every managed header. Empty: [DefaultHeaderPrefix].
	HeaderPrefix string
	// Fields are the application fields that upstreams get as headers.
	Fields []FieldHeader
	// LoginURL is where a navigation without a session is sent: a path on the
	// same host, or an absolute http or https URL. Empty: all clients get 401.
	LoginURL string
	// Page says how the page looks that a person sees who is refused.
	Page PageConfig
	// Timeout bounds one check. Zero: [DefaultTimeout].
	Timeout time.Duration
	// MaxInFlight bounds the checks that wait for their sessions at the same
	// time; one more is answered 503 at once. Zero: [DefaultMaxInFlight].
	MaxInFlight int
	// Now is the clock of conditions. Give it the clock of the [sessions.Manager], on
	// which replicas with wrong clocks agree. Nil: time.Now.
	Now func() time.Time
	// Logger takes one line a check, as Log says, and what the server notices about
	// cookies (docs/troubleshooting.md), at most a line an hour of each. Nil: no log.
	Logger *slog.Logger
	// Log says which decisions are logged, and how.
	Log LogConfig
	// Cause names, in a word of a closed set, why Sessions could not tell who a client is,
	// and where nothing was asked because of an earlier failure, the cause of that; empty:
	// it cannot say. They are the fields cause and opened_by of the line of a decision
	// whose reason is unavailable or timeout. Nil: there are no such fields.
	Cause func(err error) (cause, openedBy string)
	// Metrics takes the collectors, whose names begin with coatcheck_check,
	// coatcheck_log, coatcheck_notices, coatcheck_policies and coatcheck_shadow. Nil:
	// they are not exported.
	Metrics prometheus.Registerer
	// Tracer makes a span of each check. It continues the trace that the metadata of
	// Envoy's call names, else the one of the request's traceparent, of which clients
	// can have at most 50 recorded a second. The span has the verdict, its reason, what
	// the route requires, the policy and the session's handle, and nothing else of the
	// request or its client. Checks of recorded traces are exemplars of the histogram.
	// Nil: no spans. It is the API's Tracer and no interface of ours, because that is
	// what a program has that makes spans, and the API has no SDK in it.
	Tracer trace.Tracer
}

// Validate names everything that is wrong with c, a line for each.
func (c Config) Validate() error {
	_, err := c.prepare()
	return err
}

// prepare returns the policies of a server without any.
func (c Config) prepare() (*policies, error) {
	var errs []error
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout %v is negative", c.Timeout))
	}
	if c.MaxInFlight < 0 {
		errs = append(errs, fmt.Errorf("%d checks in flight: the number is negative", c.MaxInFlight))
	}
	if c.Format != nil && c.Bearer {
		errs = append(errs, errors.New("session IDs of other frameworks are not read from Authorization headers"))
	}
	headers, err := newHeaderNames(c.HeaderPrefix, c.Fields, c.Format)
	login, loginErr := sessions.ParseLoginURL(c.LoginURL)
	pages, pagesErr := newPages(c.Page)
	return &policies{
		plain:  plainPolicy(headers, &refusal{login: login, pages: pages, peopleOnly: true}),
		wanted: wanted{prefix: headers.prefix, ignored: c.IgnoreKeys},
	}, errors.Join(append(errs, c.Cookie.Validate(), c.Log.validate(), c.Paths.validate(), ignorable(c.IgnoreKeys), err, loginErr, pagesErr)...)
}

// Validate names everything that is wrong with p in a server of this configuration,
// a line for each.
func (p PolicySet) Validate(c Config) error {
	base, err := c.prepare()
	if err != nil {
		return err
	}
	_, err = p.compile(base)
	return err
}

// Validate is [PolicySet.Validate] for one policy.
func (p Policy) Validate(c Config) error { return PolicySet{Policies: []Policy{p}}.Validate(c) }

// A Server is Envoy's Authorization service over sessions. It is safe for
// concurrent use.
type Server struct {
	sessions  Sessions
	near      nearby // sessions; nil: it always waits
	config    Config
	bare      *policies // in use until SetPolicies
	policies  atomic.Pointer[policies]
	lookups   inFlight // checks that wait for their sessions; a check without a lookup is cheaper to answer than to refuse
	receiving arrivals
	decisions *decisionLog
	metrics   *metrics
	cookies   *cookieWatch
	tracing   tracing
}

var _ authv3.AuthorizationServer = (*Server)(nil)

// New returns a Server, or everything that is wrong with config. The Server uses s
// from many goroutines at once.
func New(s Sessions, config Config) (*Server, error) {
	if s == nil {
		return nil, errors.Join(errors.New("no sessions"), config.Validate())
	}
	bare, err := config.prepare()
	if err != nil {
		return nil, err
	}
	config.Timeout = cmp.Or(config.Timeout, DefaultTimeout)
	config.MaxInFlight = cmp.Or(config.MaxInFlight, DefaultMaxInFlight)
	if config.Now == nil {
		config.Now = time.Now
	}
	server := &Server{
		sessions: s, config: config, bare: bare,
		lookups: inFlight{limit: int64(config.MaxInFlight)}, tracing: newTracing(config.Tracer),
	}
	server.near, _ = s.(nearby)
	bare.plain.refusal.pages.begin() // now, and not within the first refusal
	server.policies.Store(bare)
	if server.metrics, err = newMetrics(config.Metrics, &server.lookups); err != nil {
		return nil, err
	}
	if server.cookies, err = newCookieWatch(config); err != nil {
		return nil, err
	}
	server.decisions = newDecisionLog(config.Logger, config.Log, server.metrics)
	server.decisions.cause, server.decisions.format = config.Cause, config.Format
	return server, nil
}

// SetPolicies replaces all policies and rules at once, or names everything that
// is wrong with p and changes nothing. A check goes by one PolicySet from its first
// byte to its last. SetPolicies may be called at any time; before the first call the
// server has no policies.
func (s *Server) SetPolicies(p PolicySet) error {
	compiled, err := p.compile(s.bare)
	if err != nil {
		return err
	}
	s.policies.Store(compiled)
	shadows := compiled.shadows()
	s.metrics.shadows.Set(float64(len(shadows)))
	if len(shadows) > 0 {
		s.decisions.logger.Warn("policies in shadow mode refuse no request", slog.Any("policies", shadows))
	}
	return nil
}
