package serve

import (
	"context"
	"errors"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/login/pgusers"
	"github.com/coatcheck/coatcheck/sessions/login/userfile"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// userSources opens each source of users, by the key that names it: one row a
// source. A source of hashes ends in checked; another Authenticator, such as one of
// LDAP, is bounded by limited.
var userSources = map[string]func(*server, context.Context) (login.Authenticator, error){
	"login.users_file":   (*server).usersFile,
	"login.postgres.dsn": (*server).postgres,
}

// users opens the source that is configured.
func (s *server) users(ctx context.Context) (login.Authenticator, error) {
	users, err := userSources[s.config.UserSource()](s, ctx)
	if err != nil {
		return nil, err
	}
	limit := s.config.Limiter()
	limit.Metrics = s.metrics
	return limited(users, limit)
}

// limited bounds the passwords that users check at the same time, unless users are
// Passwords, which bound themselves.
func limited(users login.Authenticator, c login.LimiterConfig) (login.Authenticator, error) {
	if _, ok := users.(*passwords.Passwords); ok {
		return users, nil
	}
	limiter, err := login.NewLimiter(c)
	if err != nil {
		return nil, err
	}
	return login.Limit(users, limiter), nil
}

// checked checks passwords by the hashes of a source.
func (s *server) checked(source passwords.Source, confirm func(context.Context, passwords.Account) error) (login.Authenticator, error) {
	c := s.config.Passwords(leastMemory(memlimit.FromCgroup, memlimit.FromSystem, fromRuntime))
	c.Logger, c.Limit.Metrics, c.Confirm = s.logger, s.metrics, confirm
	users, err := passwords.New(source, c)
	if err != nil {
		return nil, err
	}
	return users, nil
}

// usersFile takes users from a file.
func (s *server) usersFile(context.Context) (login.Authenticator, error) {
	file, err := userfile.Open(s.config.LoginUsersFile)
	if err != nil {
		return nil, config.About(err, "login.users_file")
	}
	s.accounts, err = userfile.NewAccounts(userfile.AccountsConfig{
		File: file, Store: redisstore.NewAccounts(s.redis), Sessions: s.manager, Logger: s.logger, Metrics: s.metrics,
	})
	if err != nil {
		return nil, err
	}
	users, err := s.checked(file, s.accounts.Confirm)
	if err != nil {
		return nil, config.About(err, "login.users_file", "login.hash_memory", "login.dummy_hash")
	}
	s.userFile = file
	return users, nil
}

// watchUsers keeps the users and their sessions in line with the users file. It
// tries once before a login is served, so that the first one finds its account.
func (s *server) watchUsers() {
	if s.userFile == nil {
		return
	}
	first, cancel := context.WithTimeout(s.background, settleTimeout)
	_ = s.accounts.Settle(first) // Run tries again, and the error is logged
	cancel()
	changed := make(chan struct{}, 1)
	s.running.Go(func() { s.accounts.Run(s.background, changed) })
	hangups := s.hangups()
	s.running.Go(func() {
		s.userFile.Watch(s.background, reloadEvery, hangups, func(err error) {
			if err == nil {
				settling, cancel := context.WithTimeout(s.background, settleTimeout)
				_ = s.accounts.Settle(settling)
				cancel()
				select {
				case changed <- struct{}{}:
				default: // Run has not looked since the last time
				}
			}
			s.metrics.reloaded(usersFile, err)
			if err != nil {
				s.logger.Error("the changed users file cannot be used; the former users stay, and no session was ended; to close an account meanwhile, run: coatcheck session revoke --all --user ID",
					"error", err.Error())
				return
			}
			s.logger.Info("the changed users file is in use", "users", s.userFile.Len())
		})
	})
}

// settleTimeout is how long a start and a reload wait for the sessions of closed
// accounts to be ended; longer goes on beside the logins.
const settleTimeout = 5 * time.Second

// postgres takes users from a database. One that does not answer may be back before
// the first user signs in; a query that cannot be used is a mistake.
func (s *server) postgres(ctx context.Context) (login.Authenticator, error) {
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
	users, err := s.checked(source, nil)
	return users, config.About(err, "login.hash_memory", "login.dummy_hash")
}
