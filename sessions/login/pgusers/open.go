package pgusers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/coatcheck/coatcheck/internal/secretfile"
)

// New prepares a source. It does not connect: a database that is away at the
// start may be back before the first user signs in. Call Check to know. No error of
// New, nor of the Source, repeats a password or a hash.
func New(c Config) (Source, error) {
	c = c.orDefault()
	if c.Query == "" {
		return nil, errors.New("user database: there is no query")
	}
	s := &source{config: c}
	options, err := s.options()
	if err != nil {
		return nil, err
	}
	if s.pool, err = pgxpool.NewWithConfig(context.Background(), options); err != nil {
		return nil, s.fault(err)
	}
	if c.RenewQuery != "" {
		return renewer{s}, nil
	}
	return s, nil
}

// options are the pool's.
func (s *source) options() (*pgxpool.Config, error) {
	options, err := pgxpool.ParseConfig(s.config.DSN)
	if err != nil {
		return nil, parseFault(s.config.DSN, err)
	}
	s.secrets.Add(options.ConnConfig.Password)
	options.MaxConns = int32(min(s.config.MaxConns, 1000))
	options.MinConns, options.MinIdleConns = 0, 0
	options.MaxConnLifetimeJitter = options.MaxConnLifetime / 10
	options.PingTimeout = s.config.Timeout
	connection := options.ConnConfig
	connection.ConnectTimeout = s.connectTimeout(connection)
	if connection.RuntimeParams["application_name"] == "" {
		connection.RuntimeParams["application_name"] = "coatcheck"
	}
	if connection.RuntimeParams["statement_timeout"] == "" {
		connection.RuntimeParams["statement_timeout"] = strconv.FormatInt(max(1, s.config.Timeout.Milliseconds()), 10)
	}
	if s.config.PasswordFile != "" {
		options.BeforeConnect = s.readPassword
	}
	return options, nil
}

// connectTimeout leaves a question the time for another host where one does not answer:
// else all of it would be spent on the first.
func (s *source) connectTimeout(c *pgx.ConnConfig) time.Duration {
	if s.config.ConnectTimeout > 0 {
		return s.config.ConnectTimeout
	}
	type host struct {
		name string
		port uint16
	}
	hosts := map[host]bool{{c.Host, c.Port}: true}
	for _, other := range c.Fallbacks { // the same host again, without TLS, is no other
		hosts[host{other.Host, other.Port}] = true
	}
	if len(hosts) == 1 {
		return 2 * time.Second
	}
	return s.config.Timeout / time.Duration(len(hosts)+1)
}

func (s *source) readPassword(_ context.Context, c *pgx.ConnConfig) error {
	password, err := secretfile.Read(s.config.PasswordFile)
	if err != nil {
		return fmt.Errorf("password file: %w", err)
	}
	s.secrets.Add(password)
	c.Password = password
	return nil
}
