package config

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coatcheck/coatcheck/cmd/internal/tlsfiles"
	"github.com/coatcheck/coatcheck/extauthz"
	"github.com/coatcheck/coatcheck/sessions"
	"github.com/coatcheck/coatcheck/sessions/nearcache"
)

const unixScheme = "unix://"

// A need says whether a command needs a Redis to be named.
type need bool

const asksRedis need = true

// validate names every wrong value by its key.
func (c *Config) validate(redis need) error {
	return errors.Join(slices.Concat(
		c.validateListeners(), validateTLS("tls", c.TLS, c.TLSClientNames), c.validateAdmin(), c.validateChecks(),
		c.validateSessions(), c.validateLogin(), validateTLS("login.tls", c.LoginTLS, c.LoginTLSClientNames), c.validateRedis(redis), c.validateRedisSockets(), c.validateRedisTLS(), c.validateNearCache(), c.validateAPI(), c.validateTracing(),
		[]error{
			between("timeout", c.Timeout, time.Millisecond, time.Minute),
			between("max_in_flight", c.MaxInFlight, 1, 1<<20),
			between("log.sample", c.LogSample, 1, 1<<20),
			between("log.faults_per_second", c.LogFaultsPerSecond, 1, 1000),
			between("shutdown.drain", c.Drain, 0, 10*time.Minute),
			between("shutdown.grace", c.ShutdownGrace, 0, 10*time.Minute),
		})...)
}

func (c *Config) validateListeners() []error {
	errs := []error{
		between("grpc.max_message_bytes", c.MaxMessageBytes, 64<<10, 16<<20),
		between("grpc.max_header_bytes", c.MaxHeaderBytes, 4<<10, 1<<20),
		between("grpc.max_streams", c.MaxStreams, 1, math.MaxUint16),
		between("grpc.max_connections", c.MaxConnections, 1, math.MaxUint16),
		between("grpc.handshake_timeout", c.HandshakeTimeout, 100*time.Millisecond, time.Minute),
		between("grpc.max_connection_age", c.MaxConnectionAge, time.Second, 24*time.Hour),
	}
	if c.Listen != "" {
		errs = append(errs, address("listen", c.Listen))
	}
	if mode, err := strconv.ParseUint(c.ListenMode, 8, 32); err != nil || mode > 0o777 {
		errs = append(errs, About(fmt.Errorf("%q is not a mode like 0660", c.ListenMode), "listen_mode"))
	}
	return errs
}

// validateTLS checks the section of a listener: tls or login.tls.
func validateTLS(section string, files tlsfiles.Files, clientNames []string) []error {
	certificate, authorities := section+".cert_file", section+".client_ca_file"
	errs := []error{
		together(certificate, files.CertFile, section+".key_file", files.KeyFile),
		together(authorities, files.CAFile, section+".client_names", strings.Join(clientNames, "")),
	}
	if files.CAFile != "" && files.CertFile == "" {
		errs = append(errs, About(errors.New("without TLS no client presents a certificate"), authorities, certificate))
	}
	return errs
}

func (c *Config) validateAdmin() []error {
	var errs []error
	if c.AdminListen != "" {
		errs = append(errs, About(tcpAddress(c.AdminListen), "admin.listen"))
	}
	if c.PprofListen == "" {
		return errs
	}
	if err := tcpAddress(c.PprofListen); err != nil {
		return append(errs, About(err, "admin.pprof_listen"))
	}
	if !loopback(c.PprofListen) {
		err := fmt.Errorf("%q is not a loopback address; profiles hold what is in memory", c.PprofListen)
		errs = append(errs, About(err, "admin.pprof_listen"))
	}
	return errs
}

// validateChecks lets sessions and extauthz look at what they alone understand,
// a part at a time, so that it is known which key they speak of.
func (c *Config) validateChecks() []error {
	prefix := cmp.Or(filled(c.HeaderPrefix), oneLine(extauthz.Config{HeaderPrefix: c.HeaderPrefix}.Validate()))
	errs := []error{
		About(cmp.Or(filled(c.CookieName), sessions.Cookie{Name: c.CookieName}.Validate()), "cookie.name"),
		About(c.validateCookie(), "cookie.name", "cookie.domain", "cookie.insecure"),
		About(prefix, "headers.prefix"),
		About(oneLine(extauthz.Config{LoginURL: c.LoginURL}.Validate()), "login_url"),
		About(oneLine(extauthz.Config{Page: extauthz.PageConfig{Accent: c.LoginAccent}}.Validate()), "login.accent"),
		About(oneLine(extauthz.Config{Page: extauthz.PageConfig{Name: c.LoginName}}.Validate()), "login.name"),
		About(oneLine(extauthz.Config{Page: extauthz.PageConfig{Languages: c.LoginLanguages}}.Validate()), "login.languages"),
		About(oneLine(extauthz.Config{IgnoreKeys: c.IgnoreKeys}.Validate()), "route.ignore_keys"),
	}
	if prefix == nil {
		errs = append(errs, About(oneLine(extauthz.Config{HeaderPrefix: c.HeaderPrefix, Fields: c.fields()}.Validate()), "headers.fields"))
	}
	return errs
}

// validateCookie is about attributes that do not go together with the name, which
// has been looked at.
func (c *Config) validateCookie() error {
	if c.CookieDomain == "" && !c.CookieInsecure {
		return nil
	}
	return oneLine(c.Cookie().Validate())
}

// validateSessions takes a part at a time, too. The step is held against the idle
// timeout.
func (c *Config) validateSessions() []error {
	idle := cmp.Or(filled(c.IdleTimeout), sessions.Config{IdleTimeout: c.IdleTimeout}.Validate())
	absolute := cmp.Or(filled(c.AbsoluteTimeout), sessions.Config{AbsoluteTimeout: c.AbsoluteTimeout}.Validate())
	errs := []error{About(idle, "session.idle_timeout"), About(absolute, "session.absolute_timeout")}
	if idle == nil {
		step := sessions.Config{IdleTimeout: c.IdleTimeout, IdleStep: c.IdleStep}.Validate()
		errs = append(errs, About(step, "session.idle_step"))
	}
	if c.CountEvery != 0 { // a million sessions take minutes
		errs = append(errs, between("session.count_every", c.CountEvery, 10*time.Second, 24*time.Hour))
	}
	return append(errs, between("session.max_per_user", c.MaxPerUser, 0, 10_000))
}

func (c *Config) validateRedis(redis need) []error {
	var errs []error
	mistake := func(why string, names ...string) { errs = append(errs, About(errors.New(why), names...)) }
	if redis && len(c.RedisAddresses) == 0 {
		mistake("no Redis is named", "redis.addresses")
	}
	for _, a := range c.RedisAddresses {
		errs = append(errs, address("redis.addresses", a))
	}
	if c.RedisPassword != "" && c.RedisPasswordFile != "" {
		mistake("only one of them can be set", "redis.password", "redis.password_file")
	}
	if (c.RedisCluster || len(c.RedisAddresses) > 1 && c.RedisMasterName == "") && c.RedisDatabase != 0 {
		mistake("a Cluster has only database 0", "redis.database")
	}
	if c.RedisCluster && c.RedisMasterName != "" {
		mistake("Sentinels watch no Cluster; only one of them can be set", "redis.cluster", "redis.master_name")
	}
	if c.RedisMasterName == "" && (c.RedisSentinelUsername != "" || c.RedisSentinelPasswordFile != "") {
		mistake("they cannot be set without "+inFull("redis.master_name"), "redis.sentinel_username", "redis.sentinel_password_file")
	}
	return append(errs,
		between("redis.database", c.RedisDatabase, 0, 1<<16),
		between("redis.pool_size", c.RedisPoolSize, 0, 1<<12),
		between("redis.wait_replicas", c.RedisWaitReplicas, 0, 16),
		between("redis.wait_timeout", c.RedisWaitTimeout, time.Millisecond, 10*time.Second),
		between("redis.breaker_failures", c.RedisBreakerFailures, 0, 1<<16),
		between("redis.emptied_hold", c.RedisEmptiedHold, 0, 24*time.Hour),
	)
}

// validateNearCache takes a part at a time, as validateChecks does.
func (c *Config) validateNearCache() []error {
	return []error{
		between("near_cache.lease", c.NearCacheLease, nearcache.MinLease, nearcache.MaxLease),
		between("near_cache.max_entries", c.NearCacheMaxEntries, nearcache.MinEntries, 10_000_000),
		between("near_cache.max_bytes", c.NearCacheMaxBytes, nearcache.MinBytes, 64<<30),
	}
}

func (c *Config) validateRedisTLS() []error {
	errs := []error{together("redis.tls.cert_file", c.RedisTLSFiles.CertFile, "redis.tls.key_file", c.RedisTLSFiles.KeyFile)}
	if !c.RedisTLS && (c.RedisTLSFiles != tlsfiles.Files{} || c.RedisTLSServerName != "") {
		errs = append(errs, About(errors.New("it is false, but other redis.tls keys are set"), "redis.tls.enabled"))
	}
	return errs
}

func address(key, s string) error {
	path, ok := strings.CutPrefix(s, unixScheme)
	switch {
	case ok && strings.HasPrefix(path, "/"):
		return nil
	case strings.Contains(s, "@"): // people write redis://user:password@host
		return About(errors.New("it is host:port or unix:///path, without a user or a password"), key)
	case tcpAddress(s) == nil:
		return nil
	}
	return About(fmt.Errorf("%q is neither host:port nor unix:///path", s), key)
}

func tcpAddress(s string) error {
	if _, port, err := net.SplitHostPort(s); err == nil && port != "" {
		if _, err := net.LookupPort("tcp", port); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%q is not host:port", s)
}

// together refuses one of two values that need each other.
func together(key, value, otherKey, other string) error {
	if (value == "") == (other == "") {
		return nil
	}
	if value == "" {
		key, otherKey = otherKey, key
	}
	return About(errors.New("it also needs "+inFull(otherKey)), key)
}

// filled refuses the zero value, which the packages take for their default: an operator
// who writes an idle timeout of 0 does not mean 30 minutes.
func filled[T comparable](value T) error {
	var zero T
	if value == zero {
		return fmt.Errorf("%s is not a valid value", excerpt(value))
	}
	return nil
}

func between[T int | time.Duration](key string, value, low, high T) error {
	if value < low || value > high {
		return About(fmt.Errorf("%v is not between %v and %v", value, low, high), key)
	}
	return nil
}
