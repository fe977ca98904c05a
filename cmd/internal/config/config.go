// Package config gathers the configuration of the coatcheck command from its
// defaults, a YAML file, COATCHECK_* variables and flags, in rising order of
// precedence. It alone knows viper; everybody else is handed a [Config].
//
// A key is written with dots: redis.addresses stands under redis: in the file,
// in the variable COATCHECK_REDIS_ADDRESSES and in the flag --redis-addresses.
// An unknown key or variable and a bad value stop the start, all of them named
// in one error. Variables that Kubernetes makes for a Service named coatcheck
// are none of ours and are ignored.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// A Config is a valid configuration, as Load returns it.
type Config struct {
	Listen   string
	Timeout  time.Duration
	LoginURL string

	CookieName string
	CookieKeep bool

	HeaderPrefix string
	HeaderFields []string

	IdleTimeout     time.Duration
	AbsoluteTimeout time.Duration
	IdleStep        time.Duration

	RedisAddresses    []string
	RedisMasterName   string
	RedisUsername     string
	RedisPassword     string
	RedisPasswordFile string
	RedisDatabase     int
	RedisWaitReplicas int
	RedisWaitTimeout  time.Duration

	LogLevel     string
	LogFormat    string
	LogDecisions string

	Drain         time.Duration
	ShutdownGrace time.Duration
}

// Sessions is the part that sessions live by.
func (c *Config) Sessions() sessions.Config {
	return sessions.Config{IdleTimeout: c.IdleTimeout, AbsoluteTimeout: c.AbsoluteTimeout, IdleStep: c.IdleStep}
}

// ExtAuthz is the part that answers are made by, without a logger.
func (c *Config) ExtAuthz() extauthz.Config {
	return extauthz.Config{
		Cookie:       sessions.Cookie{Name: c.CookieName},
		KeepCookie:   c.CookieKeep,
		HeaderPrefix: c.HeaderPrefix,
		Fields:       c.fields(),
		LoginURL:     c.LoginURL,
		Timeout:      c.Timeout,
		Log:          extauthz.LogDecisions(c.LogDecisions),
	}
}

// fields reads headers.fields: "field=header", or "field" for the header that
// is the prefix and the field's name in the form of headers.
func (c *Config) fields() []extauthz.FieldHeader {
	var fields []extauthz.FieldHeader
	for _, entry := range c.HeaderFields {
		field, header, ok := strings.Cut(entry, "=")
		if !ok {
			header = c.HeaderPrefix + strings.Map(headerRune, field)
		}
		fields = append(fields, extauthz.FieldHeader{Field: field, Header: header})
	}
	return fields
}

func headerRune(r rune) rune {
	switch {
	case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		return r
	case 'A' <= r && r <= 'Z':
		return r - 'A' + 'a'
	}
	return '-'
}

// Store is the part that the store of sessions needs.
func (c *Config) Store() redisstore.Config {
	return redisstore.Config{WaitReplicas: c.RedisWaitReplicas, WaitTimeout: c.RedisWaitTimeout}
}

// Redis is the part that reaches Redis. It reads the password file, and the
// error names the file, never what is in it.
func (c *Config) Redis() (redis.UniversalOptions, error) {
	o := redis.UniversalOptions{
		MasterName: c.RedisMasterName,
		Username:   c.RedisUsername,
		Password:   c.RedisPassword,
		DB:         c.RedisDatabase,
		// Of a check's time, so much for one try that there is some for another.
		// WAIT answers no sooner than its own timeout.
		ReadTimeout:  max(c.Timeout*2/3, 2*c.RedisWaitTimeout),
		WriteTimeout: c.Timeout * 2 / 3,
		PoolTimeout:  c.Timeout / 3,
	}
	for _, address := range c.RedisAddresses {
		o.Addrs = append(o.Addrs, strings.TrimPrefix(address, unixScheme))
	}
	if c.RedisPasswordFile != "" {
		password, err := os.ReadFile(c.RedisPasswordFile)
		if err != nil {
			return o, fmt.Errorf("redis.password_file: %w", err)
		}
		o.Password = strings.TrimRight(string(password), "\r\n")
		if o.Password == "" {
			return o, fmt.Errorf("redis.password_file: %s is empty", c.RedisPasswordFile)
		}
	}
	return o, nil
}

// Logger writes to standard error as configured.
func (c *Config) Logger() *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // validate has tried
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(os.Stderr, options))
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, options))
}

const unixScheme = "unix://"

// validate names every value that is wrong, by its key.
func (c *Config) validate() error {
	errs := []error{address("listen", c.Listen)}
	if len(c.RedisAddresses) == 0 {
		errs = append(errs, errors.New("redis.addresses: no Redis is named (in a file, COATCHECK_REDIS_ADDRESSES or --redis-addresses)"))
	}
	for _, a := range c.RedisAddresses {
		errs = append(errs, address("redis.addresses", a))
	}
	if c.RedisPassword != "" && c.RedisPasswordFile != "" {
		errs = append(errs, errors.New("redis.password, redis.password_file: only one of them can be set"))
	}
	if len(c.RedisAddresses) > 1 && c.RedisMasterName == "" && c.RedisDatabase != 0 {
		errs = append(errs, errors.New("redis.database: a Cluster has database 0 alone"))
	}
	errs = append(errs,
		filled("cookie.name", c.CookieName),
		filled("headers.prefix", c.HeaderPrefix),
		filled("session.idle_timeout", c.IdleTimeout),
		filled("session.absolute_timeout", c.AbsoluteTimeout),
		between("redis.database", c.RedisDatabase, 0, 1<<16),
		between("redis.wait_replicas", c.RedisWaitReplicas, 0, 16),
		between("redis.wait_timeout", c.RedisWaitTimeout, time.Millisecond, 10*time.Second),
		between("timeout", c.Timeout, time.Millisecond, time.Minute),
		between("shutdown.drain", c.Drain, 0, 10*time.Minute),
		between("shutdown.grace", c.ShutdownGrace, 0, 10*time.Minute),
		oneOf("log.level", c.LogLevel, "debug", "info", "warn", "error"),
		oneOf("log.format", c.LogFormat, "json", "text"),
		oneOf("log.decisions", c.LogDecisions, string(extauthz.LogAll), string(extauthz.LogDenied), string(extauthz.LogFaults)),
		wrap("cookie.name", sessions.Cookie{Name: c.CookieName}.Validate()),
		wrap("session", c.Sessions().Validate()),
		wrap("headers, login_url", c.validateAnswers()),
	)
	return errors.Join(errs...)
}

// validateAnswers lets extauthz look at what it alone understands.
func (c *Config) validateAnswers() error {
	_, err := extauthz.New((*sessions.Manager)(nil), extauthz.Config{
		HeaderPrefix: c.HeaderPrefix, Fields: c.fields(), LoginURL: c.LoginURL,
	})
	return err
}

func address(key, s string) error {
	if path, ok := strings.CutPrefix(s, unixScheme); ok && strings.HasPrefix(path, "/") {
		return nil
	}
	if strings.Contains(s, "@") { // people write redis://user:password@host
		return fmt.Errorf("%s: it is host:port or unix:///path, without a user or a password", key)
	}
	if _, port, err := net.SplitHostPort(s); err == nil && port != "" {
		if _, err := net.LookupPort("tcp", port); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s: %q is neither host:port nor unix:///path", key, s)
}

// filled refuses what elsewhere stands for the default: an idle timeout of 0 is
// 30 minutes to nobody who writes it.
func filled[T comparable](key string, value T) error {
	var zero T
	if value == zero {
		return fmt.Errorf("%s: %#v is no value for it", key, value)
	}
	return nil
}

func between[T int | time.Duration](key string, value, low, high T) error {
	if value < low || value > high {
		return fmt.Errorf("%s: %v is not between %v and %v", key, value, low, high)
	}
	return nil
}

func oneOf(key, value string, choices ...string) error {
	if !slices.Contains(choices, value) {
		return fmt.Errorf("%s: %q is none of %s", key, value, strings.Join(choices, ", "))
	}
	return nil
}

func wrap(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s", key, strings.ReplaceAll(err.Error(), "\n", "; "))
}
