package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/coatcheck/coatcheck/cmd/internal/tlsfiles"
	"github.com/coatcheck/coatcheck/internal/secretfile"
	"github.com/coatcheck/coatcheck/sessions/nearcache"
	"github.com/coatcheck/coatcheck/sessions/redisstore"
)

// redisDialLimit bounds a TLS handshake with Redis from above; the client's own
// DialTimeout ends it sooner.
const redisDialLimit = 10 * time.Second

// Store is the part about the store of sessions, without its metrics.
func (c *Config) Store() redisstore.Config {
	return redisstore.Config{WaitReplicas: c.RedisWaitReplicas, WaitTimeout: c.RedisWaitTimeout}
}

// Near is the part about the near cache, without its metrics.
func (c *Config) Near() nearcache.Config {
	return nearcache.Config{Lease: c.NearCacheLease, MaxEntries: c.NearCacheMaxEntries, MaxBytes: c.NearCacheMaxBytes}
}

// Redis is the part about the connections to Redis. With TLS, a new connection uses
// what files holds then; nil stands for the configured files as they are now. An error
// names the file that it is about, and never what the file holds.
func (c *Config) Redis(files *tlsfiles.Source) (redisstore.ClientConfig, error) {
	timeout := c.Timeout
	if c.Listen == "" && c.APIListen != "" { // no check waits
		timeout = c.APITimeout
	}
	o := redisstore.ClientConfig{
		UniversalOptions: redis.UniversalOptions{
			MasterName:       c.RedisMasterName,
			IsClusterMode:    c.RedisCluster,
			Username:         c.RedisUsername,
			Password:         c.RedisPassword,
			SentinelUsername: c.RedisSentinelUsername,
			DB:               c.RedisDatabase,
			PoolSize:         c.RedisPoolSize,
			ReadTimeout:      oneTry(timeout),
			WriteTimeout:     oneTry(timeout),
			PoolTimeout:      timeout / 3,
		},
		PasswordFile:    c.RedisPasswordFile,
		BreakerFailures: c.RedisBreakerFailures,
	}
	for _, address := range c.RedisAddresses {
		o.Addrs = append(o.Addrs, strings.TrimPrefix(address, unixScheme))
	}
	if err := c.readPasswords(&o); err != nil {
		return o, err
	}
	if !c.RedisTLS {
		return o, nil
	}
	if files == nil {
		var err error
		if files, err = tlsfiles.Open(c.RedisTLSFiles); err != nil {
			return o, AboutTLS(err, "redis.tls", c.RedisTLSFiles)
		}
	}
	o.Dialer = files.Dialer(redisDialLimit, c.RedisTLSServerName)
	return o, nil
}

// anotherTry is enough for a second try on another connection: that of a breaker's probe
// (20ms), and some.
const anotherTry = 25 * time.Millisecond

// oneTry is how long one attempt may take within a check's time. It gets all of it but what
// another one needs, so that a Redis far away, or slow, is not taken for a broken
// connection; and of a short time no more than two thirds. An attempt that fails early
// leaves the rest to the next one.
func oneTry(timeout time.Duration) time.Duration { return max(timeout-anotherTry, timeout*2/3) }

// AboutCredentials adds to an error, with which Redis or a Sentinel has refused the user
// or the password, the keys that these come from.
func (c *Config) AboutCredentials(err error) error {
	var names []string
	add := func(name string, set bool) {
		if set {
			names = append(names, name)
		}
	}
	none := c.RedisPassword == "" && c.RedisPasswordFile == ""
	add("redis.username", c.RedisUsername != "")
	add("redis.password", c.RedisPassword != "" || none)
	add("redis.password_file", c.RedisPasswordFile != "" || none)
	add("redis.sentinel_username", c.RedisSentinelUsername != "")
	add("redis.sentinel_password_file", c.RedisSentinelPasswordFile != "")
	return About(fmt.Errorf("the Redis at %s refuses the credentials: %w", strings.Join(c.RedisAddresses, ", "), err), names...)
}

// readPasswords reads the Sentinels' password. It reads Redis's only to see that it
// can, because that file is read again for each connection.
func (c *Config) readPasswords(o *redisstore.ClientConfig) (err error) {
	if c.RedisPasswordFile != "" {
		if _, err = secretfile.Read(c.RedisPasswordFile); err != nil {
			return About(err, "redis.password_file")
		}
	}
	if c.RedisSentinelPasswordFile != "" {
		if o.SentinelPassword, err = secretfile.Read(c.RedisSentinelPasswordFile); err != nil {
			return About(err, "redis.sentinel_password_file")
		}
	}
	return nil
}

// validateRedisSockets refuses what a Unix socket cannot do.
func (c *Config) validateRedisSockets() []error {
	var errs []error
	for _, address := range c.RedisAddresses {
		if !strings.HasPrefix(address, unixScheme) {
			continue
		}
		if c.RedisTLS {
			errs = append(errs, About(errors.New("a Unix socket of Redis speaks no TLS"), "redis.addresses", "redis.tls.enabled"))
		}
		if c.RedisCluster || c.RedisMasterName != "" || len(c.RedisAddresses) > 1 {
			errs = append(errs, About(fmt.Errorf("%s belongs to a single server; the nodes of a Cluster and Sentinels have host:port", address), "redis.addresses"))
		}
	}
	return errs
}
