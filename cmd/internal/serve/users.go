package serve

import (
	"context"
	"errors"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/coatcheck/coatcheck/cmd/internal/config"
	"github.com/coatcheck/coatcheck/cmd/internal/usersource"
	"github.com/coatcheck/coatcheck/sessions/login"
	"github.com/coatcheck/coatcheck/sessions/login/passwords"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// users opens the source of users that is configured.
func (s *server) users(ctx context.Context) (login.Authenticator, error) {
	limit := s.config.Limiter()
	opened, err := usersource.Open(ctx, s.config.Users, usersource.Parts{
		Accounts: redisstore.NewAccounts(s.redis), Sessions: s.manager, Logger: s.logger, Metrics: s.metrics,
		Concurrent: limit.Concurrent, Checked: s.checked,
	})
	if mistake, ok := errors.AsType[*usersource.Mistake](err); ok {
		return nil, config.About(err, mistake.Keys...)
	}
	if err != nil {
		return nil, err
	}
	if opened.Close != nil {
		s.onClose(opened.Close)
	}
	s.source, limit.Metrics = opened, s.metrics
	return limited(opened.Users, limit)
}

// watchUsers starts what the source does beside the logins.
func (s *server) watchUsers() {
	if s.source.Settle != nil {
		s.source.Settle(s.background)
	}
	if s.source.Run == nil {
		return
	}
	reloads := usersource.Reloads{Every: reloadEvery, Now: s.hangups(), Report: func(err error) { s.metrics.reloaded(usersFile, err) }}
	s.running.Go(func() { s.source.Run(s.background, reloads) })
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
		return nil, &usersource.Mistake{Err: err, Keys: []string{"login.hash_memory", "login.dummy_hash"}}
	}
	return users, nil
}
