// Package serve runs the authorization server: it connects the parts, listens,
// watches Redis and the files that may change, and ends without losing a
// request.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/logsink"
	"github.com/coatcheck/coatcheck/cmd/internal/tlsfiles"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// logLines is how many lines of the log may wait to be written.
const logLines = 8192

// Run serves until ctx is done, and then drains. It returns an error where it
// could not start, with nothing left running. The log goes to w; what w does not
// take in time is dropped and counted, because no check waits for a log.
func Run(ctx context.Context, c *config.Config, w io.Writer) error {
	sink := logsink.New(w, logLines)
	defer sink.Close(time.Second)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &server{
		config: c, logger: c.Logger(sink), metrics: newMetrics(sink.Dropped), health: newHealth(), background: background,
		failed: make(chan error, 4), hangups: make(chan os.Signal, 1),
	}
	s.stopping, s.stopCalls = context.WithCancel(context.Background())
	// It ends nobody, whatever is served: operators send it to all that they have.
	signal.Notify(s.hangups, syscall.SIGHUP)
	defer signal.Stop(s.hangups)
	defer s.close(stop)
	for _, step := range []func(context.Context) error{s.readPolicies, s.listen, s.connect, s.prepareLogin, s.askRedis, s.start} {
		if err := step(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil // ended before it served anybody
		}
	}
	select {
	case err := <-s.failed:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
		s.drain()
		return nil
	}
}

// A server is the running parts.
type server struct {
	config  *config.Config
	logger  *slog.Logger
	metrics *metrics
	health  *health.Server
	redis   redis.UniversalClient
	watch   *redisWatch
	manager *sessions.Manager
	timed   *timed // manager, for checks and logins
	ready   atomic.Bool
	failed  chan error
	hangups chan os.Signal // SIGHUP

	grpc         *grpc.Server // nil: no checks here
	grpcListener *bounded
	serverTLS    *tls.Config // nil: plaintext
	policies     *policies   // nil: none

	login         *http.Server // nil: no login here
	loginListener net.Listener
	userFile      *userfile.File     // nil: the users are elsewhere
	accounts      *userfile.Accounts // of userFile

	adminListener, pprofListen net.Listener // nil: none

	stopping   context.Context // done when calls that last must end
	stopCalls  context.CancelFunc
	background context.Context // of what runs beside the server, until close
	running    sync.WaitGroup
	closers    []func() // in the order of opening
}

// onClose has something closed in the end, before what was opened earlier.
func (s *server) onClose(do func()) { s.closers = append(s.closers, do) }

func (s *server) close(stop func()) {
	stop()
	s.stopCalls()
	for i := range s.closers {
		s.closers[len(s.closers)-1-i]()
	}
	s.running.Wait()
}

// connect makes the way to Redis, and does not go it yet.
func (s *server) connect(context.Context) error {
	var files *tlsfiles.Source
	var err error
	if s.config.RedisTLS {
		if files, err = s.watchTLS(redisTLS, s.config.RedisTLSFiles); err != nil {
			return config.AboutTLS(err, "redis.tls", s.config.RedisTLSFiles)
		}
	}
	options, err := s.config.Redis(files)
	if err != nil {
		return err
	}
	made := new(atomic.Pointer[redisstore.Client])
	redis.SetLogger(redisLogger{s.logger, made})
	if s.config.Listen == "" {
		patientWithRedis(&options.UniversalOptions)
	}
	client, err := redisstore.NewClient(options)
	if err != nil {
		return err
	}
	made.Store(client)
	s.redis = client
	s.onClose(func() { _ = client.Close() })
	keeping := s.config.Store()
	keeping.Metrics = s.metrics
	store := redisstore.New(client, keeping)
	living := s.config.Sessions()
	living.Logger = s.logger
	if s.manager, err = sessions.NewManager(store, living); err != nil {
		return err
	}
	s.timed = &timed{Manager: s.manager}
	s.watch = &redisWatch{manager: s.manager, store: store, health: s.health, logger: s.logger, up: s.metrics.redisUp}
	return nil
}

// patientWithRedis is for login alone: people wait longer than checks do, and in a
// rush an attempt that could not be given back would count against its user.
func patientWithRedis(o *redis.UniversalOptions) {
	const patience = 2 * time.Second
	o.DialTimeout, o.WriteTimeout, o.PoolTimeout = patience, patience, patience
	o.ReadTimeout = max(o.ReadTimeout, patience)
}

// askRedis asks once before anybody is served, so that the first check goes by
// Redis's clock. It is no error if Redis does not answer: checks get 503 until it
// does. That it refuses our password is one, because no waiting helps.
func (s *server) askRedis(ctx context.Context) error {
	err := s.watch.probe(ctx, firstTimeout)
	if redisstore.Refused(err) {
		return fmt.Errorf("the Redis at %s refuses the credentials: %w", strings.Join(s.config.RedisAddresses, ", "), err)
	}
	s.watch.learn(s.background, err)
	s.running.Go(func() { s.watch.run(s.background) })
	return nil
}

// listen opens every listener before anybody is served.
func (s *server) listen(context.Context) (err error) {
	if s.config.Listen != "" {
		if err := s.listenGRPC(); err != nil {
			return err
		}
	}
	if s.adminListener, err = s.listenHTTP("admin.listen", s.config.AdminListen); err != nil {
		return err
	}
	s.pprofListen, err = s.listenHTTP("admin.pprof_listen", s.config.PprofListen)
	return err
}

func (s *server) listenGRPC() error {
	mode, err := strconv.ParseUint(s.config.ListenMode, 8, 32)
	if err != nil {
		return config.About(err, "listen_mode")
	}
	if s.config.TLS.CertFile != "" {
		files, err := s.watchTLS(grpcTLS, s.config.TLS)
		if err != nil {
			return config.AboutTLS(err, "tls", s.config.TLS)
		}
		s.serverTLS = files.Server("h2", s.config.TLSClientNames)
	}
	listener, err := listen(s.config.Listen, os.FileMode(mode))
	if err != nil {
		return config.About(err, "listen")
	}
	s.onClose(func() { _ = listener.Close() })
	s.grpcListener = &bounded{Listener: listener, limit: int64(s.config.MaxConnections), rejected: s.metrics.rejected.Inc}
	return nil
}

// listenHTTP opens a listener unless its address is empty.
func (s *server) listenHTTP(key, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, config.About(err, key)
	}
	s.onClose(func() { _ = listener.Close() })
	return listener, nil
}

// start serves on what listen has opened.
func (s *server) start(context.Context) error {
	keepHeadroom()
	if limit, err := limitMemory(memlimit.FromCgroup); err != nil {
		s.logger.Warn("the container's memory limit cannot be read", "error", err.Error())
	} else {
		s.logger.Debug("memory", "limit", limit)
	}
	s.metrics.watchClock(func() time.Duration { return time.Until(s.manager.Now()) })
	if s.grpcListener != nil {
		if err := s.startGRPC(); err != nil {
			return err
		}
	}
	s.setReady(true)
	s.serveHTTP(s.adminListener, admin(s.metrics.Registry, s.ready.Load))
	s.serveHTTP(s.pprofListen, profiles())
	s.say()
	s.startLogin()
	return nil
}

func (s *server) startGRPC() error {
	answers := s.config.ExtAuthz()
	answers.Logger, answers.Metrics, answers.Now = s.logger, s.metrics, s.manager.Now
	authorization, err := extauthz.New(s.timed, answers)
	if err != nil {
		return err
	}
	if err := s.usePolicies(authorization); err != nil {
		return err
	}
	s.metrics.watchConnections(s.grpcListener)
	s.grpc = newServer(s.config, transport(s.serverTLS, s.logger, s.metrics.handshakes.Inc))
	extauthz.Register(s.grpc, authorization)
	healthv1.RegisterHealthServer(s.grpc, healthService{s.health, s.stopping})
	s.onClose(s.stopGRPC)
	s.running.Go(func() { s.failed <- s.grpc.Serve(s.grpcListener) })
	return nil
}

// serveHTTP serves operators on a listener, if there is one.
func (s *server) serveHTTP(listener net.Listener, handler http.Handler) {
	if listener == nil {
		return
	}
	server := httpServer(handler)
	s.running.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	})
	s.onClose(func() { _ = server.Close() })
}

// say tells where it serves, and what people stumble over.
func (s *server) say() {
	attributes := []any{"redis", s.config.RedisAddresses}
	if s.grpcListener != nil {
		attributes = append(attributes, "listen", s.grpcListener.Addr().String(), "tls", s.serverTLS != nil)
	}
	if s.adminListener != nil {
		attributes = append(attributes, "admin", s.adminListener.Addr().String())
	}
	s.logger.Info("serving", attributes...)
	if s.config.CookieName == sessions.DefaultCookieName {
		s.logger.Info("the __Host- cookie needs https; on plain http browsers accept it for localhost and 127.0.0.1 only")
	}
}

func (s *server) setReady(ready bool) {
	s.ready.Store(ready)
	if ready {
		s.metrics.ready.Set(1)
		return
	}
	s.metrics.ready.Set(0)
	unready(s.health)
}

// drain serves on for a while, because it takes Envoys a while to notice that
// this replica is not ready any more; then it lets calls in flight end.
func (s *server) drain() {
	s.setReady(false)
	s.logger.Info("draining", "serve_on", s.config.Drain.String(), "grace", s.config.ShutdownGrace.String())
	time.Sleep(s.config.Drain)
	var ending sync.WaitGroup
	ending.Go(s.drainGRPC)
	ending.Go(s.drainLogin)
	ending.Wait()
	s.logger.Info("stopped")
}

func (s *server) drainGRPC() {
	if s.grpc == nil {
		return
	}
	s.stopCalls()
	ended := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(ended)
	}()
	select {
	case <-ended:
		return
	case <-time.After(s.config.ShutdownGrace):
	}
	s.logger.Warn("calls are still in flight after the grace; they are cut off")
	go s.grpc.Stop()
	select { // a handler that does not end by its deadline is a bug, and no reason to stay
	case <-ended:
	case <-time.After(cutOff):
	}
}

// stopGRPC ends what is left, as after a start that failed.
func (s *server) stopGRPC() {
	ended := make(chan struct{})
	go func() { s.grpc.Stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(cutOff):
	}
}

// cutOff is how long calls that were cut off have to notice.
const cutOff = 2 * time.Second

func (s *server) drainLogin() {
	if s.login == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.config.ShutdownGrace)
	defer cancel()
	if s.login.Shutdown(ctx) != nil {
		s.logger.Warn("logins are still in flight after the grace; they are cut off")
	}
}

// reloadEvery is how often files are looked at for changes.
const reloadEvery = time.Second

// watchTLS opens TLS files and takes up their changes from then on.
func (s *server) watchTLS(source string, files tlsfiles.Files) (*tlsfiles.Source, error) {
	opened, err := tlsfiles.Open(files)
	if err != nil {
		return nil, err
	}
	if !opened.Expiry().IsZero() {
		s.metrics.watchExpiry(source, opened)
	}
	s.running.Go(func() {
		opened.Watch(s.background, reloadEvery, func(err error) {
			s.metrics.reloaded(source, err)
			if err != nil {
				s.logger.Error("changed TLS files cannot be used; the former contents stay in use", "source", source, "error", err.Error())
				return
			}
			s.logger.Info("changed TLS files are in use", "source", source, "expires", opened.Expiry())
		})
	})
	return opened, nil
}
