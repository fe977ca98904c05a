package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/health"

	"github.com/coatcheck/coatcheck/cmd/internal/callersfile"
	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/policyfile"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/api"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// apiPart serves the session API.
type apiPart struct {
	*process
	health   *health.Server
	file     atomic.Pointer[callersfile.File]
	listener *bounded    // nil: no API here
	tls      *tls.Config // nil: plaintext
	server   *api.Server
	http     *http.Server // nil: not started
	store    *redisstore.Store
	foreign  *foreignPart

	tried atomic.Pointer[callersfile.File] // the callers for which all rights are there

	lasting    context.Context // of calls that last, such as a watch of health
	endLasting context.CancelFunc
}

func newAPIPart(p *process, health *health.Server) *apiPart {
	a := &apiPart{process: p, health: health}
	a.lasting, a.endLasting = context.WithCancel(context.Background())
	p.onClose(a.endLasting)
	return a
}

// listen reads the callers and opens the listener.
func (a *apiPart) listen() error {
	if a.config.APIListen == "" {
		return nil
	}
	file, err := callersfile.Open(a.config.APICallersFile, a.accept)
	if err != nil {
		return config.About(err, "api.callers_file")
	}
	a.file.Store(file)
	if a.config.APITLS.CertFile != "" {
		files, err := a.watchTLS(apiTLS, a.config.APITLS)
		if err != nil {
			return config.AboutTLS(err, "api.tls", a.config.APITLS)
		}
		a.tls = files.ServerForCallers(a.config.APIClientNames)
	}
	mode, err := strconv.ParseUint(a.config.ListenMode, 8, 32)
	if err != nil {
		return config.About(err, "listen_mode")
	}
	listener, err := listen(a.config.APIListen, os.FileMode(mode))
	if err != nil {
		return config.About(err, "api.listen")
	}
	a.onClose(func() { _ = listener.Close() })
	a.listener = &bounded{Listener: listener, limit: int64(a.config.APIMaxConnections), rejected: a.metrics.apiRejected.Inc}
	return nil
}

// start serves the sessions, deciding as explainer does.
func (a *apiPart) start(ctx context.Context, manager *timed, store *redisstore.Store, explainer *extauthz.Server, foreign *foreignPart) (err error) {
	if a.listener == nil {
		return nil
	}
	a.store, a.foreign = store, foreign
	if err := a.checkRights(ctx); err != nil {
		return config.About(err, "redis.username", "api.callers_file")
	}
	if a.server, err = api.New(answering{manager}, a.configuration(explainer)); err != nil {
		return err
	}
	a.metrics.watchAPIConnections(a.listener)
	a.http = a.newServer(a.routes())
	serve := a.http.Serve
	if a.tls != nil {
		a.http.TLSConfig = a.tls
		serve = func(l net.Listener) error { return a.http.ServeTLS(l, "", "") }
	}
	a.onClose(a.stop)
	a.running.Go(func() { a.server.Run(a.lasting) })
	a.running.Go(func() {
		if err := serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
			a.failed <- fmt.Errorf("session API: %w", err)
		}
	})
	a.followCallers()
	a.watchRights()
	a.logger.Info("serving the session API", "listen", a.listener.Addr().String(), "tls", a.tls != nil,
		"mtls", a.config.APITLS.CAFile != "", "callers", a.file.Load().Callers.Len())
	return nil
}

func (a *apiPart) configuration(explainer *extauthz.Server) api.Config {
	c := api.Config{
		Callers: a.file.Load().Callers, Decide: decider{explainer}.decide, Timeout: a.config.APITimeout,
		MaxInFlight: a.config.APIMaxInFlight, MaxMessageBytes: a.config.APIMaxMessageBytes,
		Track: a.track, MaxWatched: a.config.APIMaxWatched,
		Logger: a.logger, Level: a.config.ExtAuthz().Log.Level, Metrics: a.metrics,
		Cause: func(err error) string { cause, _ := causeOf(err); return cause }, Forbidden: redisstore.Forbidden,
	}
	if a.foreign.format != nil {
		c.Foreign, c.Track = a.foreign.checks, nil
	}
	return c
}

// track has Redis tell Watch of changes. It has a connection of its own beside the near
// cache's, where one process has both: the lease of that one may be a minute.
func (a *apiPart) track(ctx context.Context, l api.Listener, lease time.Duration) {
	a.store.Track(ctx, l, lease)
}

// routes are the session API, health for probes, and reflection for callers.
func (a *apiPart) routes() http.Handler {
	below, sessions := a.server.Handler()
	further := make(paths)
	a.mountHealth(further)
	a.mountReflection(further)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if old(r) {
			w.Header().Set("Connection", "close") // which HTTP/2 has GOAWAY for
		}
		switch next := further[r.URL.Path]; {
		case strings.HasPrefix(r.URL.Path, below):
			sessions.ServeHTTP(w, r)
		case next != nil:
			next.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// paths are what answers at a path, which is compared as it stands: an [http.ServeMux] would
// redirect from what it takes for another spelling, and repeat the query, with a session ID in
// it, for every log on the way.
type paths map[string]http.Handler

// connectionAge is how long a connection takes new calls. The next one is then made by another,
// and so by the authorities and with the certificates of now, and to replicas that are new.
var connectionAge = 5 * time.Minute

// begunKey has, in the context of a connection, when it began.
type begunKey struct{}

// old reports whether a connection is to take no more calls.
func old(r *http.Request) bool {
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && !time.Now().Before(r.TLS.PeerCertificates[0].NotAfter) {
		return true
	}
	begun, ok := r.Context().Value(begunKey{}).(time.Time)
	return ok && time.Since(begun) > connectionAge
}

// sendTimeout is how long a caller may take to take an answer.
const sendTimeout = 10 * time.Second

// newServer speaks HTTP/1.1 and HTTP/2, with and without TLS, so that gRPC, gRPC-Web and curl
// use one port.
func (a *apiPart) newServer(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(a.tls != nil)
	protocols.SetUnencryptedHTTP2(a.tls == nil)
	return &http.Server{
		Handler: handler, Protocols: protocols, MaxHeaderBytes: a.config.APIMaxHeaderBytes,
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 5 * time.Minute,
		ReadTimeout: receiveTimeout, WriteTimeout: receiveTimeout + a.config.APITimeout + sendTimeout, // a watch lifts them
		ErrorLog: newHTTPFaults("the session API", a.logger, a.metrics.apiHandshakes.Inc),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, begunKey{}, time.Now())
		},
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: a.config.APIMaxStreams, MaxReadFrameSize: 1 << 20,
			MaxReceiveBufferPerConnection: 4 << 20, MaxReceiveBufferPerStream: 128 << 10,
			SendPingTimeout: time.Minute, PingTimeout: 10 * time.Second, WriteByteTimeout: 30 * time.Second,
		},
	}
}

// drain lets calls in flight end, at most for the grace.
func (a *apiPart) drain() {
	if a.http == nil {
		return
	}
	a.endLasting()
	ctx, cancel := context.WithTimeout(context.Background(), a.config.ShutdownGrace)
	defer cancel()
	if a.http.Shutdown(ctx) != nil {
		a.logger.Warn("calls of the session API are still in flight after the grace; they are cut off")
	}
}

func (a *apiPart) stop() {
	a.endLasting()
	_ = a.http.Close()
}

// explainer is what decides for the session API: the server of checks or, where there are
// none, one of its own, which counts and logs nothing.
func (s *server) explainer() (*extauthz.Server, error) {
	if s.checks.authorization != nil || s.api.listener == nil {
		return s.checks.authorization, nil
	}
	cfg := s.config.ExtAuthz()
	cfg.Now = s.manager.Now
	if s.foreign.format != nil {
		cfg.Format = s.foreign.format
	}
	explainer, err := extauthz.New((*sessions.Manager)(nil), cfg)
	if err != nil {
		return nil, err
	}
	return explainer, s.policies.start(explainer)
}

// A decider decides as a check and as `coatcheck explain` do.
type decider struct{ *extauthz.Server }

// decide says of a session that is not there what its lookup did, unless the request is
// allowed without one.
func (d decider) decide(ctx context.Context, q api.Question, lookup api.Lookup) api.Verdict {
	request := policyfile.Request{Host: q.Host, Method: q.Method, Path: q.Path, Headers: q.Headers}
	var missing error
	find := func(ctx context.Context, fields []string) (session *sessions.Session, err error) {
		session, err = lookup(ctx, fields)
		missing = err
		return session, err
	}
	e, err := d.Explain(ctx, request.CheckRequest(policyfile.Route{Policy: q.Policy}.Extensions()), extauthz.WithLookup(find))
	switch {
	case err != nil:
		return api.Verdict{Err: err}
	case missing != nil && !sessions.Absent(missing):
		return api.Verdict{Err: missing}
	case missing != nil && !e.Allow && absences[e.Reason]:
		return api.Verdict{Err: missing}
	}
	return api.Verdict{Allowed: e.Allow, Reason: string(e.Reason)}
}

// absences are the reasons of a session that is not there.
var absences = map[extauthz.Reason]bool{extauthz.NotFound: true, extauthz.Expired: true, extauthz.BrokenRecord: true}
