package serve

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/pgusers"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

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
	passwords, err := login.NewPasswords(users, login.PasswordsConfig{
		Concurrent: s.config.LoginMaxHashes, Logger: s.logger, Metrics: s.metrics,
	})
	if err != nil {
		return err
	}
	pages.Users, pages.Sessions, pages.Counters = passwords, s.manager, redisstore.NewCounters(s.redis)
	pages.Logger, pages.Metrics = s.logger, s.metrics
	handler, err := login.New(pages)
	if err != nil {
		return err
	}
	if s.loginListener, err = s.listenHTTP("login.listen", s.config.LoginListen); err != nil {
		return err
	}
	s.login = &http.Server{
		Handler: handler, MaxHeaderBytes: 64 << 10, ErrorLog: log.New(&httpFaults{s.logger, s.metrics.logins.Inc, rate.NewLimiter(1, 5)}, "", 0),
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

// httpFaults takes what net/http has to say of login's connections: failed
// handshakes above all, which anybody can cause, and panics.
type httpFaults struct {
	logger       *slog.Logger
	notEncrypted func()
	often        *rate.Limiter
}

// Write implements [io.Writer]; each call is one line.
func (f *httpFaults) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	switch {
	case strings.HasPrefix(text, "http: panic"):
		f.logger.Error("login met a bug", "error", text)
	case strings.HasPrefix(text, "http: TLS handshake error"):
		f.notEncrypted()
		fallthrough
	default:
		if f.often.Allow() {
			f.logger.Warn("a connection of login failed", "error", text)
		}
	}
	return len(line), nil
}

// users opens the source of users that is configured.
func (s *server) users(ctx context.Context) (login.Source, error) {
	if s.config.LoginUsersFile == "" {
		return s.postgres(ctx)
	}
	file, err := login.OpenUserFile(s.config.LoginUsersFile)
	if err != nil {
		return nil, config.About(err, "login.users_file")
	}
	s.running.Go(func() {
		file.Watch(s.background, reloadEvery, func(err error) {
			s.metrics.reloaded(usersFile, err)
			if err != nil {
				s.logger.Error("the changed users file cannot be used; the former users stay", "error", err.Error())
				return
			}
			s.logger.Info("the changed users file is in use", "users", file.Len())
		})
	})
	return file, nil
}

// postgres connects to the database of users. One that does not answer may be
// back before somebody signs in; a query that cannot be used is a mistake.
func (s *server) postgres(ctx context.Context) (login.Source, error) {
	source, err := pgusers.New(s.config.Postgres())
	if err != nil {
		return nil, config.About(err, "login.postgres.dsn", "login.postgres.query")
	}
	s.onClose(source.Close)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err = source.Check(ctx)
	switch {
	case errors.Is(err, pgusers.ErrQuery):
		return nil, config.About(err, "login.postgres.query", "login.postgres.renew_query")
	case err != nil:
		s.logger.Error("the user database does not answer; logins get 503 until it does", "error", err.Error())
	}
	return source, nil
}

// startLogin serves what prepareLogin has made.
func (s *server) startLogin() {
	if s.login == nil {
		if s.config.LoginListen != "" {
			s.logger.Info("no users are configured, so there is no login here", "keys", "login.users_file, login.postgres.dsn")
		}
		return
	}
	// Without a certificate here, passwords in plain text from anywhere but this
	// machine are for the proxy in front to prevent, or for a mesh.
	encrypted := s.login.TLSConfig != nil
	bound := &bounded{Listener: s.loginListener, limit: int64(s.config.MaxConnections), rejected: func() {}}
	s.running.Go(func() {
		serve := s.login.Serve
		if encrypted {
			serve = func(l net.Listener) error { return s.login.ServeTLS(l, "", "") }
		}
		if err := serve(bound); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("login: %w", err)
		}
	})
	s.onClose(func() { _ = s.login.Close() })
	s.logger.Info("serving login", "listen", s.loginListener.Addr().String(), "base_path", s.config.LoginBasePath, "tls", encrypted)
}
