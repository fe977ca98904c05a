package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// loginPart is the login pages, and where their users come from.
type loginPart struct {
	login         *http.Server // nil: no login here
	loginListener net.Listener
	source        usersource.Opened
}

// prepareLogin makes the login pages and opens their listener, if they are to be
// served.
func (s *server) prepareLogin(ctx context.Context) error {
	if !s.config.ServesLogin() {
		return nil
	}
	pages, err := s.config.Login()
	if err != nil {
		return err
	}
	users, err := s.users(ctx)
	if err != nil {
		return err
	}
	pages.Users, pages.Sessions, pages.Counters = users, s.timed, redisstore.NewCounters(s.redis)
	pages.Logger, pages.Metrics = s.logger, s.metrics
	handler, err := login.New(pages)
	if err != nil {
		return err
	}
	if s.loginListener, err = s.listenHTTP("login.listen", s.config.LoginListen); err != nil {
		return err
	}
	s.login = &http.Server{
		Handler: s.tracing.traced(handler), MaxHeaderBytes: 64 << 10, ErrorLog: newHTTPFaults("login", s.logger, s.metrics.logins.Inc),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
	}
	return s.encryptLogin()
}

// encryptLogin has login speak TLS, if certificates are named for it.
func (s *server) encryptLogin() error {
	if s.config.LoginTLS.CertFile == "" {
		return nil
	}
	files, err := s.watchTLS(loginTLS, s.config.LoginTLS)
	if err != nil {
		return config.AboutTLS(err, "login.tls", s.config.LoginTLS)
	}
	s.login.TLSConfig = files.Server("http/1.1", s.config.LoginTLSClientNames)
	return nil
}

// startLogin serves what prepareLogin has made.
func (s *server) startLogin() {
	if s.login == nil {
		if s.config.LoginListen != "" {
			s.logger.Info("no users are configured, so there is no login here", "keys", strings.Join(usersource.Names(), ", "))
		}
		return
	}
	s.watchUsers()
	// Without a certificate here, passwords in plain text from anywhere but this
	// machine are for the proxy in front to prevent, or for a mesh.
	encrypted := s.login.TLSConfig != nil
	listener := inTurn(s.login, &bounded{Listener: s.loginListener, limit: int64(s.config.MaxConnections), rejected: func() {}})
	s.running.Go(func() {
		serve := s.login.Serve
		if encrypted {
			serve = func(l net.Listener) error { return s.login.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("login: %w", err)
		}
	})
	s.onClose(func() { _ = s.login.Close() })
	s.logger.Info("serving login", "listen", s.loginListener.Addr().String(), "base_path", s.config.LoginBasePath, "tls", encrypted)
}

// drainLogin lets logins in flight end.
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
